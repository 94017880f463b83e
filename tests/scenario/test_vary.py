"""Varied scenarios: valid, fair, reproducible, and really different."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chaos.api import load_scenarios
from chaos.explore.emit import to_yaml
from chaos.scenario.load import load_text
from chaos.scenario.model import Scenario
from chaos.scenario.problems import find_problems
from chaos.scenario.rules import last_end_s, last_start_s, speaks_of
from chaos.scenario.vary import SHARE_MAX, Bounds, vary
from chaos.vocabulary.base import parse_duration

SHIPPED = [
    scenario
    for path in sorted((Path(__file__).parents[2] / "scenarios").glob("*.yaml"))
    for scenario in load_scenarios(path)
]
WIDE = Bounds(time_jitter=SHARE_MAX, duration_jitter=SHARE_MAX)
HEAD = """\
version: 1
name: several
duration: 60s
server: {heartbeat: {interval: 1s, timeout: 1s}}
client: {heartbeat: {interval: 1s, timeout: 1s}, backoff: {initial: 1s, max: 1s}, connect_timeout: 1s}
workload: [{from: server, every: 500ms}]
"""
SEVERAL = (
    HEAD
    + """\
timeline:
  - {at: 5s, for: 2s, toxic: latency, attributes: {latency: 10}}
  - {at: 12s, fault: reset}
  - {at: 20s, for: 10s, fault: blackhole, name: outage}
  - {at: 45s, for: 2s, fault: stall}
  - {at: 47s, fault: reset}
expect:
  - detects_dead_peer: {during: outage, within: 9s}
  - reconnects: {after: outage, within: 12s}
"""
)


def boundaries(scenario: Scenario) -> list[tuple[float, int, str]]:
    """Starts and ends in order, ties by entry."""
    rows = []
    for number, entry in enumerate(scenario.timeline):
        if entry.at_s is not None:
            rows.append((entry.at_s, number, "start"))
            rows.append((last_end_s(entry, scenario.duration_s) or 0.0, number, "end"))
    return sorted((round(at, 6), number, what) for at, number, what in rows)


@pytest.mark.parametrize("scenario", SHIPPED, ids=lambda scenario: scenario.title)
def test_a_varied_shipped_scenario_is_valid_and_crosses_borders(scenario: Scenario) -> None:
    for seed in range(8):
        varied = vary(scenario, seed, WIDE)
        assert find_problems(varied) == []
        assert Scenario.from_json(varied.to_json()) == varied
        assert vary(scenario, seed, WIDE) == varied


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 10**9),
    which=st.sampled_from(SHIPPED),
    time_jitter=st.floats(0, SHARE_MAX),
    duration_jitter=st.floats(0, SHARE_MAX),
)
def test_what_is_fair_stays_fair(
    seed: int, which: Scenario, time_jitter: float, duration_jitter: float
) -> None:
    bounds = Bounds(time_jitter=time_jitter, duration_jitter=duration_jitter, swarm=False)
    varied = vary(which, seed, bounds)
    assert [row[1:] for row in boundaries(varied)] == [row[1:] for row in boundaries(which)]
    assert boundaries(varied)[:1] >= boundaries(which)[:1]
    for expectation in which.expect:
        place = speaks_of(which, expectation) if expectation.use is None else None
        if expectation.check != "detects_dead_peer" or place is None:
            continue
        old, new = which.timeline[place], varied.timeline[place]
        within_s = parse_duration(expectation.parameters["within"])
        if old.for_s is not None and old.for_s >= within_s:
            assert new.for_s is not None
            assert new.for_s >= within_s - 1e-9


def test_seeds_differ_in_start_length_and_kinds() -> None:
    scenario = load_text(SEVERAL, "several.yaml")[0]
    varied = [vary(scenario, seed, Bounds()) for seed in range(40)]
    outages = [next(row for row in one.timeline if row.name == "outage") for one in varied]
    assert len({row.at_s for row in outages}) > 30
    assert any((row.for_s or 0) > 10 for row in outages)
    assert any((row.for_s or 0) < 10 for row in outages)
    assert {len(one.timeline) for one in varied} >= {2, 5}  # resets go together: they are one kind


def test_without_swarm_every_entry_stays_and_without_jitter_nothing_moves() -> None:
    scenario = load_text(SEVERAL, "several.yaml")[0]
    still = Bounds(time_jitter=0, duration_jitter=0, swarm=False)
    for seed in range(20):
        assert vary(scenario, seed, still) == scenario
        assert len(vary(scenario, seed, Bounds(swarm=False)).timeline) == 5


def test_what_coincides_goes_on_coinciding() -> None:
    scenario = load_text(SEVERAL, "several.yaml")[0]
    for seed in range(20):
        *_, stall, reset = vary(scenario, seed, Bounds(swarm=False)).timeline
        assert stall.at_s is not None
        assert stall.at_s + (stall.for_s or 0) == pytest.approx(reset.at_s)


def test_an_entry_that_an_expectation_speaks_of_is_never_left_out() -> None:
    scenario = load_text(SEVERAL, "several.yaml")[0]
    for seed in range(60):
        varied = vary(scenario, seed, Bounds())
        assert "outage" in {row.name for row in varied.timeline}
        assert varied.expect == scenario.expect


def test_nothing_is_left_out_where_an_expectation_could_mean_any_fault() -> None:
    text = SEVERAL + "  - backoff: {initial: 1s, max: 1s}\n"
    scenario = load_text(text, "several.yaml")[0]
    assert all(len(vary(scenario, seed, Bounds()).timeline) == 5 for seed in range(20))


def test_no_window_grows_where_a_longer_fault_would_be_unfair(half_open: Scenario) -> None:
    lengths = {vary(half_open, seed, WIDE).timeline[0].for_s for seed in range(60)}
    assert max(length for length in lengths if length) == 2.5  # no_false_alarm
    assert min(length for length in lengths if length) < 2.0


def test_the_end_moves_along_so_that_no_bound_reaches_past_it(half_open: Scenario) -> None:
    for seed in range(60):
        varied = vary(half_open, seed, WIDE)
        entry = varied.timeline[0]
        assert (last_end_s(entry, varied.duration_s) or 0) + 2.0 <= varied.duration_s
        assert (last_start_s(entry) or 0) >= 3.0


def test_a_varied_scenario_is_written_to_a_file_that_says_the_same(half_open: Scenario) -> None:
    wanted = half_open.model_copy(update={"sometimes": ("reconnected", "refused")})
    varied = vary(wanted, 3, Bounds())
    again = load_text(to_yaml(varied), "half-open.yaml")[0]
    lines = {"expect": tuple(row.model_copy(update={"line": 0}) for row in again.expect)}
    given = {"expect": tuple(row.model_copy(update={"line": 0}) for row in varied.expect)}
    assert again.model_copy(update=lines) == varied.model_copy(update=given)


@pytest.mark.parametrize("share", [-0.1, 0.31, 2.0])
def test_bounds_that_could_swap_faults_are_refused(share: float) -> None:
    with pytest.raises(ValueError, match="time_jitter"):
        Bounds(time_jitter=share)
