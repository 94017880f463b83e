"""`delivers` and `single_handler`."""

from __future__ import annotations

import pytest
from support.figures import figures


@pytest.fixture
def flow(story, expect):
    """Ten messages from the server, one per second from 10 s on, each handled 50 ms later (unless told not to)."""

    def make(handled=range(1, 11), *, reports=True, check="delivers", extra=(), **parameters):
        made = (
            story(duration="60s", expect=[expect(check, **parameters)])
            .connect(1, frame=False)
            .steady()
        )
        for number in range(1, 11):
            if reports:
                made.add(9 + number, "send", subject="server", to=1, id=number)
            made.frame(9.01 + number, id=number)
        for position, number in enumerate([*handled, *extra]):
            made.add(10.05 + position, "message", client=1, subject="client", id=number)
        return made

    return make


@pytest.mark.parametrize("reports", [True, False])
def test_all_handled_passes(flow, reports):
    finding = flow(reports=reports, lost=0, duplicated=0, reordered=0).finding("delivers")
    assert figures(finding) == ("PASS", 1, 0, 0, 0, 10, 0, 0, 0)


def test_lost_messages_fail_with_their_ids(flow):
    finding = flow([1, 2, 3, 5, 6, 7, 8, 9], lost=1).finding("delivers")
    assert figures(finding) == ("FAIL", 1, 2, 0, 0, 10, 1)
    assert finding.evidence == ("lost: id 4 at 13.000 s, id 10 at 19.000 s",)


def test_duplicated_and_reordered_are_told_apart(flow):
    made = flow([1, 3, 2, 2, 4, 5, 6, 7, 8, 9, 10], duplicated=0, reordered=0)
    assert made.finding("delivers").evidence == (
        "duplicated: id 2 at 13.050 s",
        "reordered: id 2 at 12.050 s",
    )


def test_without_limits_the_figures_are_only_shown(flow):
    finding = flow([1]).finding("delivers")
    assert (finding.outcome.value, finding.measured["lost"]) == ("PASS", 9)


def test_messages_sent_in_the_last_seconds_are_not_required(flow):
    made = flow(lost=0).add(55.0, "send", subject="server", to=1, id=11)
    assert made.finding("delivers").outcome.value == "FAIL"
    made = flow(lost=0).add(55.1, "send", subject="server", to=1, id=11)
    assert made.finding("delivers").outcome.value == "PASS"


def test_client_messages_are_counted_per_sender(story, expect):
    made = story(
        client={"use": "reference", "count": 2},
        expect=[expect("delivers", lost=0, **{"from": "client"})],
    )
    made.connect(1).connect(1, client=2).steady()
    for client in (1, 2):
        made.add(10, "send", client=client, subject="client", id=1)
    made.add(11, "message", subject="server", id=1, sender="client-1")
    assert made.result("delivers") == ("FAIL", 2, 1, 0, 0, 1, 0)
    made.add(11, "message", subject="server", id=1, sender="client-2")
    assert made.finding("delivers").outcome.value == "PASS"


def test_ids_that_begin_again_after_a_restart_are_no_duplicates(story, expect):
    made = story(expect=[expect("delivers", lost=0, duplicated=0, reordered=0)]).connect(1).steady()
    made.add(0, "subject_start", subject="server")
    for start in (10, 30):
        for number in (1, 2):
            made.add(start + number, "send", subject="server", to=1, id=number)
            made.add(start + number + 0.1, "message", client=1, subject="client", id=number)
    assert made.finding("delivers").outcome.value == "FAIL"
    made.add(25, "subject_start", subject="server")
    assert made.finding("delivers").outcome.value == "PASS"


def test_nothing_sent_and_nothing_reported_say_nothing(story, flow, expect):
    made = story(expect=[expect("delivers", lost=0)]).connect(1).steady()
    assert made.result("delivers") == ("SKIPPED",)
    made = story(client={"command": ["x"]}, expect=[expect("delivers", lost=0)]).connect(1).steady()
    made.frame(10, id=1)
    assert made.result("delivers") == ("SKIPPED",)


@pytest.fixture
def handlers(story, expect):
    """A message before a reconnection and one after it; `times` is how often the second is handled."""

    def make(times, frames=1, reconnect=True):
        made = story(expect=[expect("single_handler")]).steady().connect(1).frame(5, id=1)
        made.add(5, "message", client=1, subject="client", id=1)
        if reconnect:
            made.end(10, "rst", 1, "client").connect(11, 2)
        for copy in range(frames):
            made.frame(20 + copy, 2, id=2)
        for _ in range(times):
            made.add(25, "message", client=1, subject="client", id=2)
        return made

    return make


def test_one_handler_passes_and_a_left_over_one_fails(handlers):
    assert handlers(1).result("single_handler")[0] == "PASS"
    finding = handlers(2).finding("single_handler")
    assert figures(finding) == ("FAIL", 1, 2, 2, 1, 1)
    assert finding.evidence == ("id 2: handled at 25.000 s, 25.000 s",)


def test_a_message_delivered_twice_may_be_handled_twice(handlers):
    assert handlers(2, frames=2).result("single_handler")[0] == "PASS"


def test_without_a_reconnection_or_a_message_after_it_nothing_can_be_said(handlers):
    nothing = ("INCONCLUSIVE",)
    assert handlers(2, reconnect=False).result("single_handler") == nothing
    assert handlers(0).result("single_handler") == nothing


def test_unreadable_frames_say_nothing(handlers):
    made = handlers(2)
    for position, event in enumerate(made.events):
        if event.kind == "frame":
            data = {key: value for key, value in event.data.items() if key != "id"}
            made.events[position] = type(event)(
                at_s=event.at_s,
                kind="frame",
                client=1,
                connection=event.connection,
                stream=event.stream,
                data=data,
            )
    assert made.result("single_handler") == ("SKIPPED", 1)


def test_a_client_that_starts_anew_begins_its_own_ids_again(story, expect):
    made = story(
        client={"use": "reference", "count": 2},
        expect=[expect("delivers", duplicated=0, **{"from": "client"})],
    )
    made.connect(1).connect(1, client=2).steady()
    for client in (1, 2):
        made.add(0, "subject_start", client=client, subject="client")
    for at_s in (10, 30):
        made.add(at_s, "send", client=1, subject="client", id=1)
        made.add(at_s + 1, "message", subject="server", id=1, sender="client-1")
    # the other client's start is no excuse
    made.add(20, "subject_start", client=2, subject="client")
    assert made.finding("delivers").outcome.value == "FAIL"
    made.add(20, "subject_start", client=1, subject="client")
    assert made.finding("delivers").outcome.value == "PASS"


@pytest.mark.parametrize(("read", "outcome"), [(0, "SKIPPED"), (2, "SKIPPED"), (4, "PASS")])
def test_a_declared_place_that_finds_few_numbers_is_not_trusted(story, expect, read, outcome):
    made = story(
        workload=[{"from": "server", "every": "5s", "id": "/data/id"}],
        server={"use": "my:server"},
        expect=[expect("single_handler")],
    )
    made.connect(1).steady().end(5, "rst", 1, "client").connect(6, 2, frame=False)
    for number in range(1, 5):
        at_s = 10 + number
        made.frame(at_s, 2, **({"id": number} if number <= read else {}))
        made.add(at_s, "message", subject="client", client=1, id=number)
    assert made.result("single_handler")[0] == outcome
