"""What a workload's rate makes due: silence is judged, by whoever it is."""

from __future__ import annotations

import pytest

from chaos.checks.context import Context
from chaos.checks.traffic import clear_spans, due, length, rates, without

EVERY = [{"from": "server", "every": "500ms"}, {"from": "server", "every": "500ms"}]


@pytest.fixture
def talk(story, entry, expect):
    """A server that sends each half second from 2 s on, but for the given times; the client handles all."""

    def make(*silent, timeline=(), expects=(), handled=True, **scenario):
        made = story(
            timeline=list(timeline),
            workload=[{"from": "server", "every": "500ms"}],
            expect=[expect(name, **row) for name, row in expects],
            **scenario,
        )
        made.connect(1).steady()
        for number in range(1, 236):
            at_s = 1.5 + number / 2
            if any(a <= at_s < b for a, b in silent):
                continue
            made.add(at_s, "send", subject="server", to=1, id=number)
            if handled:
                made.add(at_s, "message", subject="client", client=1, id=number, sender="server")
        return made

    return make


def test_lines_of_one_sender_add_up(story):
    context = Context.of(story(workload=EVERY).connect(1).steady().trace())
    assert rates(context) == {"server": 0.25}


def test_due_is_what_any_phase_of_a_sender_gives():
    assert due(0.5, [(0, 10)]) == 19
    assert due(0.5, [(0, 0.4), (1, 1.9)]) == 0


def test_holes_are_taken_out_of_spans():
    assert without([(0, 10)], (2, 3)) == [(0, 2), (3, 10)]
    assert length([(0, 2), (1, 3)]) == 3


@pytest.mark.parametrize(
    ("silent", "share", "outcome"),
    [
        ((), 0.8, "PASS"),
        ((60, 120), 0.8, "FAIL"),
        ((60, 120), 0.4, "PASS"),
        ((2, 120), 0.8, "FAIL"),
    ],
)
def test_a_sender_that_falls_silent_fails(talk, silent, share, outcome):
    made = talk(*([silent] if silent else []), expects=[("delivers", {"sent_at_least": share})])
    assert made.result("delivers")[0] == outcome


def test_what_an_entry_touched_is_not_due(talk, entry):
    stall = entry("stall", at="40s", name="hold", **{"for": "60s"})
    made = talk((40, 100), timeline=[stall], expects=[("delivers", {})])
    made.apply(40).apply(100, change="off")
    assert made.result("delivers")[0] == "FAIL"
    assert made.felt(40).result("delivers")[0] == "PASS"
    context = Context.of(made.trace())
    assert length(clear_spans(context, context.of_client(1)[0])) == pytest.approx(59)


@pytest.mark.parametrize(("gap_s", "outcome"), [(3.5, "PASS"), (30, "FAIL")])
def test_a_connection_on_which_nothing_arrives_is_not_available(talk, gap_s, outcome):
    # a message may be late by another interval and the wait for a pong, 3 s here
    made = talk((50, 50 + gap_s), expects=[("availability", {"at_least": 0.99})])
    assert made.result("availability")[0] == outcome


def test_a_receiver_that_reports_nothing_is_judged_by_what_left_the_link(talk):
    made = talk((2, 200), expects=[("availability", {"at_least": 0.9})], handled=False)
    assert made.result("availability")[0] == "FAIL"
    for number in range(240):
        made.frame(2 + number / 2, id=number)
    assert made.result("availability")[0] == "PASS"
