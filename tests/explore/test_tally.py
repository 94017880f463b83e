"""What results say together, and how far the rate of failures is bounded."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chaos.checks.verdict import Outcome
from chaos.explore.tally import Tally, at_most, failure_rate_at_most
from chaos.running.result import Row, Time

times = st.builds(
    Time,
    what=st.sampled_from(["detected by client", "reconnected"]),
    took_s=st.floats(0, 100),
    bound_s=st.none() | st.floats(1, 100),
)
rows = st.builds(
    Row,
    title=st.sampled_from("ab"),
    seed=st.integers(1, 6),
    outcome=st.sampled_from([Outcome.PASS, Outcome.FAIL, Outcome.INCONCLUSIVE]),
    reason=st.sampled_from(["", "x", "y"]),
    times=st.lists(times, max_size=2).map(tuple),
    states=st.lists(st.sampled_from(["refused", "reconnected"]), unique=True).map(tuple),
)


def tally_of(found: list[Row]) -> Tally:
    return Tally({row.key: row for row in found})


@given(found=st.lists(rows, max_size=12))
def test_a_run_counts_once(found: list[Row]) -> None:
    whole = tally_of(found)
    assert len(whole) == len({row.key for row in found}) == sum(whole.counts().values())


@given(row=rows)
def test_rows_cross_borders_unchanged(row: Row) -> None:
    assert Row.from_json(row.to_json()) == row


def test_a_distribution_is_of_all_runs_and_its_bound_the_largest() -> None:
    found = [
        Row(
            title="a",
            seed=seed,
            outcome=Outcome.PASS,
            times=(Time(what="reconnected", took_s=float(seed), bound_s=seed % 7 + 1.0),),
        )
        for seed in range(1, 102)
    ]
    times = tally_of(found).times()["reconnected"]
    assert (times.count, times.p50_s, times.p95_s, times.p99_s, times.max_s) == (
        101,
        51,
        96,
        100,
        101,
    )
    assert times.bound_s == 7


def test_what_says_nothing_does_not_raise_confidence() -> None:
    clean = [Row(title="a", seed=seed, outcome=Outcome.PASS) for seed in range(10)]
    vague = [Row(title="a", seed=seed, outcome=Outcome.INCONCLUSIVE) for seed in range(10, 99)]
    assert tally_of(clean + vague).failure_rate_at_most() == tally_of(clean).failure_rate_at_most()
    assert tally_of(vague).failure_rate_at_most() == 1.0


@pytest.mark.parametrize("runs", [1, 10, 300, 1000, 100_000])
def test_without_failures_it_is_the_exact_rule_of_three(runs: int) -> None:
    assert failure_rate_at_most(0, runs) == pytest.approx(1 - 0.05 ** (1 / runs), rel=1e-9)


# qbeta(0.95, k + 1, n - k)
@pytest.mark.parametrize(
    ("failures", "runs", "bound"), [(1, 10, 0.394163), (2, 20, 0.282619), (5, 100, 0.102252)]
)
def test_with_failures_it_is_clopper_and_pearsons(failures: int, runs: int, bound: float) -> None:
    assert failure_rate_at_most(failures, runs) == pytest.approx(bound, abs=2e-6)


@given(runs=st.integers(1, 400), data=st.data())
def test_at_the_bound_so_few_failures_have_probability_five_percent(
    runs: int, data: st.DataObject
) -> None:
    failures = data.draw(st.integers(0, runs - 1))
    bound = failure_rate_at_most(failures, runs)
    assert failures / runs < bound < 1
    assert at_most(bound, failures, runs) == pytest.approx(0.05, rel=1e-6)


def test_only_failures_bound_nothing() -> None:
    assert failure_rate_at_most(7, 7) == 1.0


@pytest.mark.parametrize(("failures", "runs"), [(2, 1), (-1, 5)])
def test_impossible_counts_are_refused(failures: int, runs: int) -> None:
    with pytest.raises(ValueError, match="0 <= failures"):
        failure_rate_at_most(failures, runs)
