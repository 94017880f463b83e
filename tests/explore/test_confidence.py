"""The upper bound of a failure rate, against known values and against itself."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chaos.explore.confidence import at_most, failure_rate_at_most


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
    with pytest.raises(ValueError, match="expected 0 <= failures"):
        failure_rate_at_most(failures, runs)
