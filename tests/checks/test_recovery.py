"""`reconnects` and `never_reconnects`."""

from __future__ import annotations

import pytest


@pytest.fixture
def cut(story, entry, expect):
    """The link is down from 20 s to 30 s; the client must be back 10 s later."""

    def make(within="10s", **more):
        made = story(
            timeline=[entry("down", at="20s", **{"for": "10s"}, name="cut")],
            expect=[expect("reconnects", after="cut", within=within)],
            **more,
        )
        made.connect(1).steady().apply(20).felt(20).apply(30, change="off")
        made.end(20, "fin", 1, "client", by="server")
        return made.add(20, "closed", client=1, connection=1)

    return make


def test_a_client_that_is_back_in_time_passes_with_its_attempts_counted(cut):
    finding = cut().refused(22, 2).refused(26, 3).connect(33, 4).finding("reconnects")
    assert (finding.outcome.value, finding.reason) == (
        "PASS",
        "client 1 was connected again after 3.010 s (expected within 10 s)",
    )
    assert finding.measured["attempts"] == 3


def test_a_client_that_is_late_fails(cut):
    finding = cut().refused(22, 2).connect(45, 3).finding("reconnects")
    assert (finding.outcome.value, finding.reason) == (
        "FAIL",
        "client 1 was connected again after 15.010 s (expected within 10 s)",
    )
    assert finding.evidence == (
        "20.000 s: `down` (cut) began; it lasted until 30.000 s",
        "22.000 s: attempt: dial_failed refused at 22.000 s",
        "45.000 s: attempt: open at 45.000 s, first frame at 45.010 s",
        "40.000 s: the bound passed",
    )


def test_a_client_that_never_comes_back_fails(cut):
    finding = cut().finding("reconnects")
    assert (finding.outcome.value, finding.reason) == (
        "FAIL",
        "client 1 was never connected again (expected within 10 s)",
    )
    assert "client 1 made no attempt after 20.000 s" in finding.evidence


def test_a_101_followed_by_a_close_is_not_connected(cut):
    made = cut().connect(31, 2, frame=False).close(31.1, 2, code=4000)
    assert made.result("reconnects")[0] == "FAIL"


def test_an_open_connection_without_any_frame_proves_nothing(cut):
    assert cut().connect(31, 2, frame=False).result("reconnects") == (
        "INCONCLUSIVE",
        "client 1 had a connection open again, but no frame was sent on it",
    )


def test_a_connection_that_survived_counts_at_once_with_a_remark(story, entry, expect):
    made = story(
        timeline=[entry("stall", at="20s", **{"for": "2s"}, name="hiccup")],
        expect=[expect("reconnects", after="hiccup", within="5s")],
    )
    made.connect(1).steady().apply(20).felt(20.5).apply(22, change="off").frame(22.1)
    finding = made.finding("reconnects")
    assert finding.outcome.value == "PASS"
    assert finding.measured["remark"] == "the connection survived"


def test_a_half_dead_survivor_is_not_connected(story, entry, expect):
    """Frames pass upstream only, where both ways carried some before."""
    made = story(
        timeline=[entry("blackhole", at="20s", **{"for": "2s"}, name="hole", stream="downstream")],
        expect=[expect("reconnects", after="hole", within="5s")],
    )
    made.connect(1).steady().frame(5, by="client").apply(20).felt(20.5).apply(22, change="off")
    made.frame(23, by="client").frame(23, sides=("server",))
    assert made.result("reconnects")[0] == "FAIL"


def test_a_connection_made_within_the_window_counts_when_it_still_lives(cut):
    assert cut().connect(25, 2).finding("reconnects").measured["reconnected_s"] == 0
    assert cut().connect(25, 2).end(29, "rst", 2, "client").result("reconnects")[0] == "FAIL"


def test_a_window_that_never_ended_cannot_be_judged(cut):
    made = cut()
    made.events = [e for e in made.events if not (e.kind == "apply" and e["change"] == "off")]
    assert made.result("reconnects") == (
        "INCONCLUSIVE",
        "the window of `down` (cut) did not end before the run did",
    )


def test_each_occurrence_is_judged_and_the_worst_reported(story, entry, expect):
    made = story(
        timeline=[entry("reset", at="20s", every="20s", times=2, name="cut")],
        expect=[expect("reconnects", after="cut", within="5s")],
    )
    made.connect(1).steady()
    for number, (at_s, back_s) in enumerate([(20, 21), (40, 44)], start=1):
        made.apply(at_s, change="instant", occurrence=number).felt(at_s, number=number)
        made.end(at_s, "rst", number, "client", by="server").connect(back_s, number + 1)
    assert made.result("reconnects") == (
        "PASS",
        "client 1 was connected again after 4.010 s (expected within 5 s)",
    )


@pytest.fixture
def rejected(story, entry, expect):
    made = story(
        timeline=[
            entry("close", "action", at="20s", by="server", name="no", parameters={"code": 4000})
        ],
        expect=[expect("never_reconnects", after="no")],
        client={"use": "reference", "backoff": {"max": "30s"}},
    )
    return made.connect(1).steady().apply(20, change="action").close(20.1, code=4000)


def test_a_client_that_stays_away_passes(rejected):
    assert rejected.result("never_reconnects") == (
        "PASS",
        "client 1 made no attempt in 99.900 s after Close 4000",
    )


def test_a_client_that_tries_again_fails(rejected):
    finding = rejected.connect(23.1, 2).finding("never_reconnects")
    assert (finding.outcome.value, finding.reason) == (
        "FAIL",
        "client 1 tried again 3.000 s after Close 4000 (attempts in all: 1)",
    )
    assert finding.evidence == (
        "20.000 s: `close` (no)",
        "20.100 s: Close 4000",
        "23.100 s: attempt",
    )


def test_too_short_a_rest_of_the_run_says_nothing(story, entry, expect):
    made = story(
        timeline=[entry("close", "action", at="20s", by="server", parameters={"code": 4000})],
        expect=[expect("never_reconnects")],
        client={"use": "reference", "backoff": {"max": "60s"}},
    )
    made.connect(1).steady().apply(20, change="action").close(20, code=4000)
    assert made.result("never_reconnects") == (
        "INCONCLUSIVE",
        "only 100.000 s were left after Close 4000; expected at least 120.000 s, twice backoff.max",
    )


def test_without_a_refusal_there_is_nothing_to_stay_away_from(rejected):
    rejected.events = [e for e in rejected.events if e.get("opcode") != "close"]
    assert rejected.result("never_reconnects") == (
        "INCONCLUSIVE",
        "no refusal reached client 1 after 20.000 s",
    )
