"""When an entry was in force, as it was recorded."""

from __future__ import annotations

import pytest

from chaos.checks.connections import hangs, read_connections
from chaos.checks.context import Context
from chaos.trace import Event


def spans(made):
    return [(row.start_s, row.end_s, row.ended) for row in Context.of(made.trace()).occurrences[0]]


def test_a_window_lasts_from_its_on_to_its_off_or_to_the_end(story, entry):
    made = story(timeline=[entry("stall", at="20s", **{"for": "5s"})]).apply(20.2)
    assert spans(made) == [(20.2, 120.0, False)]
    assert spans(made.apply(25.3, change="off")) == [(20.2, 25.3, True)]


def test_an_instant_has_no_length(story, entry):
    made = story(timeline=[entry("reset", at="20s")]).apply(20, change="instant")
    assert spans(made) == [(20, 20, True)]


@pytest.mark.parametrize(
    "second", [{"change": "off"}, {"change": "action", "ends": True}, {"change": "action"}]
)
def test_an_action_with_a_window_ends_with_its_second_step(story, entry, second):
    made = story(timeline=[entry("restart", "action", at="20s", by="server", **{"for": "5s"})])
    made.apply(20, change="action", occurrence=0).apply(25, occurrence=0, **second)
    assert spans(made) == [(20, 25, True)]


def test_occurrences_are_kept_apart(story, entry):
    made = story(timeline=[entry("stall", at="20s", every="10s", times=2, **{"for": "15s"})])
    made.apply(20, occurrence=0).apply(30, occurrence=1)
    made.apply(35, change="off", occurrence=0).apply(45, change="off", occurrence=1)
    assert spans(made) == [(20, 35, True), (30, 45, True)]


def test_without_numbers_each_off_ends_the_window_that_is_open(story, entry):
    made = story(timeline=[entry("stall", at="20s", every="10s", times=2, **{"for": "5s"})])
    made.apply(20).apply(25, change="off").apply(30).apply(35, change="off")
    assert spans(made) == [(20, 25, True), (30, 35, True)]


def test_attempts_that_reached_no_link_are_connections_of_their_own(story):
    made = story().connect(1)
    for at_s in (5, 6):
        made.add(at_s, "attempt", client=1).add(at_s, "refused", client=1, how="[Errno 111]")
    rows = read_connections(made.trace())[1]
    assert [(row.number, row.attempt_s, row.client_socket_end_s()) for row in rows] == [
        (1, 1, float("inf")),
        (0, 5, 5),
        (0, 6, 6),
    ]


def test_what_a_client_reports_is_no_connection(story):
    made = story().add(1, "state", client=1, subject="client", state="connecting").connect(2)
    assert [row.number for row in read_connections(made.trace())[1]] == [1]


def test_a_refusal_that_leaves_the_client_waiting_does_not_end_its_attempt(story):
    event = Event(at_s=5, kind="refused", client=1, connection=2, data={"how": "left hanging"})
    assert hangs(event)
    made = story().add(5, "attempt", client=1, connection=2)
    made.events.append(event)
    connection = read_connections(made.trace())[1][0]
    assert connection.client_socket_end_s() == float("inf")
    assert connection.refusal() is None
