"""What is tried first: each value of each dimension alone. What one cause brings out is found soon, and small."""

from __future__ import annotations

import pytest

from chaos.explore.hunt import search_space_of
from chaos.explore.promises import compose
from chaos.explore.schedules import (
    EVENTS,
    THEN_S,
    basic_schedules,
    end_s,
    fitting,
    kind_of,
)
from chaos.scenario.load import load_text

TEXT = """\
version: 1
name: base
duration: 20s
server: {heartbeat: {interval: 1s, timeout: 2s}}
client: {heartbeat: {interval: 1s, timeout: 2s}, backoff: {initial: 500ms, max: 2s}, connect_timeout: 3s}
workload: [{from: server, every: 500ms}]
"""


@pytest.fixture
def space():
    (scenario,) = load_text(TEXT, "base.yaml")
    return search_space_of(scenario)


def alone(schedules):
    """Return what each schedule is about, without the reset that makes it felt."""
    return [row.entries[0] for row in schedules if row.entries and row.entries[-1].on is None]


def test_each_kind_comes_at_its_strongest_before_any_comes_weaker(space):
    rows = alone(basic_schedules(space, 1))
    kinds = space.kinds()
    assert {kind_of(row).draw.rank for row in rows[: len(kinds)]} == {
        kind.draw.rank for kind in kinds
    }
    for row in rows[: len(kinds)]:
        assert dict(row.parameters) == dict(space.strengths(kind_of(row))[-1])
    told = sorted(f"{row.word} {row.by} {dict(row.parameters)}" for row in rows)
    every = [
        f"{kind.word.word} {kind.draw.by} {dict(row)}"
        for kind in kinds
        for row in space.strengths(kind)
    ]
    assert told == sorted(every)


def test_each_kind_lasts_long_enough_for_every_heartbeat_to_notice_it(space):
    for schedule in basic_schedules(space, 1):
        checks = {row.check for row in compose(space, schedule).expect}
        if any(row.word in ("blackhole", "stall") for row in schedule.entries):
            assert "detects_dead_peer" in checks


def test_what_only_new_connections_meet_comes_with_a_cut_in_its_window(space):
    met = 0
    for schedule in basic_schedules(space, 1):
        for row in schedule.entries:
            if kind_of(row).draw.greets:
                (cut,) = [other for other in schedule.entries if other.word == "reset"]
                assert row.at_s < cut.at_s < end_s(row)
                met += 1
    assert met >= 10


def test_a_reset_comes_at_each_kind_of_event_and_soon_after_it(space):
    waits = [row for schedule in basic_schedules(space, 1) for row in schedule.entries if row.on]
    assert {(row.on.event, row.then_s) for row in waits} == {
        (event, then_s) for event in EVENTS for then_s in THEN_S
    }
    assert len(waits) == len(EVENTS) * len(THEN_S)


def test_each_last_word_comes_alone(space):
    finals = [row.final for row in basic_schedules(space, 1) if row.final is not None]
    assert sorted(map(repr, finals)) == sorted(map(repr, space.finals()))


def test_all_of_them_are_small_and_stand_as_they_are(space):
    for schedule in basic_schedules(space, 1):
        assert schedule.size <= 2
        assert fitting(schedule) == schedule


def test_the_seed_decides_on_the_order_and_on_nothing_else(space):
    def told(seed):
        return [repr(row) for row in basic_schedules(space, seed)]

    assert told(3) == told(3)
    assert told(3) != told(4)
    assert sorted(told(3)) == sorted(told(4))
