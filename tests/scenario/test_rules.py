"""Which timeline entry an expectation speaks of."""

from __future__ import annotations

import pytest

from chaos.scenario.model import Entry, Expectation, Scenario
from chaos.scenario.problems import find_problems
from chaos.scenario.rules import (
    label,
    last_end_s,
    last_start_s,
    resolve_entry,
    speaks_of,
)
from chaos.vocabulary.base import Seconds


def entry(word: str, at: float = 1, **more: object) -> Entry:
    kind = {"latency": "toxic", "close": "action", "restart": "action"}.get(word, "fault")
    return Entry.model_validate({"kind": kind, "word": word, "at": Seconds(at), **more})


def scenario(*timeline: Entry, expect: tuple[Expectation, ...] = ()) -> Scenario:
    return Scenario(version=1, name="x", duration=Seconds(60), timeline=timeline, expect=expect)


def test_a_name_finds_its_entry() -> None:
    found = scenario(entry("reset"), entry("stall", 5, name="held"), entry("stall", 9, name="more"))
    assert resolve_entry(found, "held", window_required=True) == 1
    assert resolve_entry(found, "more", window_required=False) == 2


def test_the_only_entry_that_fits_needs_no_name() -> None:
    found = scenario(entry("reset"), entry("stall", 5))
    assert resolve_entry(found, None, window_required=True) == 1
    with pytest.raises(LookupError, match="`reset at 1s`"):
        resolve_entry(found, None, window_required=False)


def test_what_cannot_be_meant_is_said() -> None:
    found = scenario(entry("reset", name="cut"))
    with pytest.raises(LookupError, match="`cut`"):
        resolve_entry(found, "cut", window_required=True)
    with pytest.raises(LookupError, match="`out`"):
        resolve_entry(found, "out", window_required=False)
    with pytest.raises(LookupError, match="window"):
        resolve_entry(found, None, window_required=True)


def test_some_checks_judge_the_whole_run_without_a_name() -> None:
    found = scenario(entry("stall", name="held"), entry("stall", 5))
    whole = Expectation(check="backoff", parameters={"initial": "1s", "max": "8s"})
    assert speaks_of(found, whole) is None
    named = Expectation(check="backoff", parameters={"after": "held"})
    assert speaks_of(found, named) == 0
    assert speaks_of(found, Expectation(check="no_leaks")) is None
    assert speaks_of(found, Expectation(check="use", use="m:c")) is None
    with pytest.raises(LookupError):
        speaks_of(found, Expectation(check="reconnects", parameters={"within": "5s"}))


def test_windows_and_moments_are_told_apart() -> None:
    assert entry("latency").has_window
    assert entry("stall").has_window
    assert not entry("reset").has_window
    assert not entry("close").has_window
    assert not entry("restart").has_window
    assert entry("restart", **{"for": Seconds(5)}).has_window


def test_the_last_window_counts() -> None:
    repeated = entry("stall", 5, every=Seconds(10), times=3, **{"for": Seconds(2)})
    assert (last_start_s(repeated), last_end_s(repeated, 60)) == (25, 27)
    assert last_end_s(entry("stall", 5), 60) == 60
    assert last_end_s(entry("reset", 5), 60) == 5
    triggered = Entry.model_validate({"kind": "fault", "word": "reset", "on": {"event": "open"}})
    assert last_start_s(triggered) is last_end_s(triggered, 60) is None
    assert label(scenario(triggered), 0) == "reset on open 1"


def test_problems_are_found_without_any_file() -> None:
    late = Expectation(check="reconnects", parameters={"within": "20s"})
    (problem,) = find_problems(scenario(entry("reset", 50), expect=(late,)))
    assert problem.where == ("expect", 0, "within")
    assert "reaches past `duration`" in problem.message


def test_rules_that_lean_on_a_wrong_section_are_left_out() -> None:
    late = Expectation(check="reconnects", parameters={"within": "20s"})
    found = scenario(entry("reset", 50), expect=(late,))
    assert find_problems(found, wrong=frozenset({"top"})) == []
    unnamed = scenario(expect=(Expectation(check="reconnects", parameters={"within": "1s"}),))
    assert find_problems(unnamed)
    assert find_problems(unnamed, wrong=frozenset({"timeline"})) == []
