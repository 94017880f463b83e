"""Out of a local minimum: what can only be left out together, and relatives of a find that will not get smaller."""

from __future__ import annotations

from itertools import islice

import pytest
from hypothesis import given, settings

from chaos.checks.verdict import Outcome, Verdict
from chaos.explore import hunt as hunting
from chaos.explore.draw import RELATED_MAX, relatives, search
from chaos.explore.hunt import Hunt, search_space_of
from chaos.explore.schedules import (
    Schedule,
    admitted,
    kind_of,
    make_entry,
)
from chaos.explore.shrink import drop_entries, shrink
from chaos.running.result import failed_verdict
from chaos.scenario.load import load_text

TEXT = """\
version: 1
name: base
duration: 20s
server: {heartbeat: {interval: 1s, timeout: 2s}}
client: {heartbeat: {interval: 1s, timeout: 2s}, backoff: {initial: 500ms, max: 2s}, connect_timeout: 3s}
workload: [{from: server, every: 500ms}]
"""
(SCENARIO,) = load_text(TEXT, "base.yaml")
SPACE = search_space_of(SCENARIO)


def fault(word, at_s, for_s=1.0):
    return make_entry("fault", word, {}, at_s=at_s, for_s=for_s)


BIG = Schedule(
    entries=(
        fault("refuse", 4.0),
        fault("down", 6.0),
        fault("blackhole", 8.0),
        fault("stall", 10.0),
        fault("partition", 12.0),
    )
)
WORDS = frozenset(row.word for row in BIG.entries)


def words(schedule):
    return frozenset(row.word for row in schedule.entries)


@pytest.mark.parametrize("kept", [WORDS - {"stall", "blackhole"}, {"down", "partition"}, {"stall"}])
def test_what_can_only_be_left_out_together_is_left_out(kept):
    """Of these sets some entries can go, but only all at once."""
    small = shrink(SPACE, BIG, lambda schedule: words(schedule) in (WORDS, kept))
    assert words(small) == kept


def test_of_many_entries_half_go_at_once():
    rows = tuple(make_entry("fault", "reset", {}, at_s=4.0 + at) for at in range(8))
    sizes = [len(step.entries) for step in islice(drop_entries(SPACE, Schedule(entries=rows)), 12)]
    assert sizes == [4, 4, 4, 4, 2, 2, 2, 2, 6, 6, 6, 6]


def test_what_one_entry_can_do_without_once_another_is_plainer_is_left_out_too():
    """The stall goes only after the blackhole has become short."""

    def fails(schedule):
        holes = [row.for_s for row in schedule.entries if row.word == "blackhole"]
        return bool(holes) and (holes[0] <= 1.0 or "stall" in words(schedule))

    rows = (fault("blackhole", 4.0, 7.0), fault("stall", 14.0))
    small = shrink(SPACE, Schedule(entries=rows), fails)
    assert small.entries == (fault("blackhole", SPACE.start_s),)


def test_a_simpler_kind_may_need_another_length():
    """The loss has to be long; of the kinds that are simpler, one does in a second what it did."""

    def fails(schedule):
        (row,) = schedule.entries or (None,)
        return row is not None and (row.word, row.for_s) in (("loss", 7.0), ("blackhole", 1.0))

    loss = make_entry("fault", "loss", {"rate": 0.6}, at_s=4.0, for_s=7.0)
    small = shrink(SPACE, Schedule(entries=(loss,)), fails)
    assert words(small) == {"blackhole"}


@settings(max_examples=100, deadline=None)
@given(relatives(SPACE, BIG))
def test_a_relative_is_smaller_and_stands_in_the_same_space(schedule):
    assert 1 <= schedule.size <= RELATED_MAX < BIG.size
    assert admitted(schedule.entries) == schedule.entries
    for row in schedule.entries:
        assert kind_of(row) in SPACE.kinds()
        assert (row.at_s is None) != (row.on is None)
        assert (row.for_s is None) == kind_of(row).word.instant


def test_much_of_a_relative_comes_from_the_find_and_not_all():
    drawn = []

    def note(schedule):
        drawn.append(schedule)
        return len(drawn) >= 200

    search(SPACE, note, 1, BIG)
    rows = [row for schedule in drawn for row in schedule.entries]
    does = sum(row.word in WORDS for row in rows) / len(rows)
    begins = {row.at_s for row in BIG.entries}
    when = sum(row.at_s in begins for row in rows) / len(rows)
    assert 0.4 < does < 0.9
    assert 0.3 < when < 0.9
    assert any(row.on is not None for row in rows)


def first_relatives(seed):
    drawn = []

    def note(schedule):
        drawn.append(schedule)
        return len(drawn) >= 40

    search(SPACE, note, seed, BIG)
    return drawn


def test_the_same_seed_draws_the_same_relatives():
    assert first_relatives(7) == first_relatives(7)
    assert first_relatives(7) != first_relatives(8)


class Stuck:
    """Answers without running anything: all five entries fail, or what `other` says of a timeline."""

    def __init__(self, other):
        self.other = other

    def run(self, job, limit_s=None):
        scenario = job.scenario
        told = {row.word for row in scenario.timeline}
        bad = told == WORDS or self.other(scenario.timeline)
        rows = [
            {"check": row.check, "outcome": "PASS", "reason": "so", "line": 0, "guard": False}
            for row in scenario.expect
        ]
        for row in rows:
            row |= {"evidence": [], "measured": {}}
            if bad and row["check"] == "no_leaks":
                row["outcome"] = "FAIL"
        whole = Outcome.FAIL if bad else Outcome.PASS
        plain = failed_verdict(job, whole, "none", "").to_json()
        return Verdict.from_json({**plain, "findings": rows})


def waits_for_an_open(timeline):
    told = {row.word for row in timeline}
    return bool(told & WORDS) and any(row.on and row.on.event == "open" for row in timeline)


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_a_find_that_no_step_makes_smaller_is_searched_for_among_its_relatives(monkeypatch, seed):
    monkeypatch.setattr(hunting, "basic_schedules", lambda space, seed: [BIG])
    bench = Stuck(waits_for_an_open)
    hunt = Hunt(space=SPACE, bench=bench, budget_s=1.0, seed=seed, clock=lambda: -1.0)
    find = hunt.run()
    assert len(find.scenario.timeline) <= 2
    assert waits_for_an_open(find.scenario.timeline)


def test_that_search_ends_with_the_time_and_not_before(monkeypatch):
    monkeypatch.setattr(hunting, "basic_schedules", lambda space, seed: [BIG])
    bench = Stuck(lambda timeline: False)
    hunt = Hunt(space=SPACE, bench=bench, budget_s=300.0, vain_runs_max=20, clock=lambda: tried())

    def tried():
        return float(hunt.progress.tried)

    hunt.run()
    assert hunt.best.size == len(BIG.entries)
    assert 299 <= hunt.progress.tried <= 301


def test_what_a_person_reads_at_a_glance_is_not_searched_around_for_ever(monkeypatch):
    three = Schedule(entries=BIG.entries[:3])
    monkeypatch.setattr(hunting, "basic_schedules", lambda space, seed: [three])
    kept = {row.word for row in three.entries}
    bench = Stuck(lambda timeline: {row.word for row in timeline} == kept)
    hunt = Hunt(space=SPACE, bench=bench, budget_s=600.0, vain_runs_max=20, clock=lambda: tried())

    def tried():
        return float(hunt.progress.tried)

    hunt.run()
    assert hunt.best.size == 3
    assert hunt.progress.tried < 150
