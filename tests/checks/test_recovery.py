"""`reconnects` and `never_reconnects`."""

from __future__ import annotations

import pytest
from support.figures import figures, numbers


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
    assert figures(finding) == ("PASS", 1, 3.01, 10)
    assert finding.measured["attempts"] == 3


def test_a_client_that_is_late_fails(cut):
    finding = cut().refused(22, 2).connect(45, 3).finding("reconnects")
    assert figures(finding) == ("FAIL", 1, 15.01, 10)
    assert [numbers(line) for line in finding.evidence] == [
        (20, 30),  # the entry
        (22, 22),  # an attempt that was refused
        (45, 45, 45.01),  # one that was not: open, and the first frame
        (40,),  # the bound
    ]


def test_a_client_that_never_comes_back_fails(cut):
    finding = cut().finding("reconnects")
    assert figures(finding) == ("FAIL", 1, 10)
    assert any("20.000 s" in line for line in finding.evidence)


def test_a_101_followed_by_a_close_is_not_connected(cut):
    made = cut().connect(31, 2, frame=False).close(31.1, 2, code=4000)
    assert made.result("reconnects")[0] == "FAIL"


def test_an_open_connection_without_any_frame_proves_nothing(cut):
    assert cut().connect(31, 2, frame=False).result("reconnects") == ("INCONCLUSIVE", 1)


def test_a_connection_that_survived_counts_at_once_with_a_remark(story, entry, expect):
    made = story(
        timeline=[entry("stall", at="20s", **{"for": "2s"}, name="hiccup")],
        expect=[expect("reconnects", after="hiccup", within="5s")],
    )
    made.connect(1).steady().apply(20).felt(20.5).apply(22, change="off").frame(22.1)
    finding = made.finding("reconnects")
    assert finding.outcome.value == "PASS"
    assert "survived" in finding.measured["remark"]


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
    assert made.result("reconnects") == ("INCONCLUSIVE",)


def test_each_occurrence_is_judged_and_the_worst_reported(story, entry, expect):
    made = story(
        timeline=[entry("reset", at="20s", every="20s", times=2, name="cut")],
        expect=[expect("reconnects", after="cut", within="5s")],
    )
    made.connect(1).steady()
    for number, (at_s, back_s) in enumerate([(20, 21), (40, 44)], start=1):
        made.apply(at_s, change="instant", occurrence=number).felt(at_s, number=number)
        made.end(at_s, "rst", number, "client", by="server").connect(back_s, number + 1)
    assert made.result("reconnects") == ("PASS", 1, 4.01, 5)


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
    assert rejected.result("never_reconnects") == ("PASS", 1, 99.9, 4000)


def test_a_client_that_tries_again_fails(rejected):
    finding = rejected.connect(23.1, 2).finding("never_reconnects")
    assert figures(finding) == ("FAIL", 1, 3, 4000, 1)
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
    assert made.result("never_reconnects") == ("INCONCLUSIVE", 100, 4000, 120)


def test_without_a_refusal_there_is_nothing_to_stay_away_from(rejected):
    rejected.events = [e for e in rejected.events if e.get("opcode") != "close"]
    assert rejected.result("never_reconnects") == ("INCONCLUSIVE", 1, 20)


@pytest.mark.parametrize(("lived_s", "outcome"), [(0.05, "FAIL"), (0.9, "FAIL"), (1.5, "PASS")])
def test_a_connection_that_lives_for_a_moment_is_no_recovery(cut, lived_s, outcome):
    made = cut().connect(32, 2).end(32 + lived_s, "fin", 2, "client")
    finding = made.finding("reconnects")
    assert finding.outcome.value == outcome
    assert finding.culprit == ("client" if outcome == "FAIL" else "")


def test_what_the_next_entry_ends_was_a_recovery(story, entry, expect):
    rows = [entry("reset", at="20s", name="cut"), entry("reset", at="23s", name="again")]
    made = story(timeline=rows, expect=[expect("reconnects", after="cut", within="5s")])
    made.connect(1).steady().apply(20).felt(20).end(20, "rst", 1, "client", by="server")
    made.connect(22.5, 2).apply(23, 1)
    made.end(23, "rst", 2, "client", by="server")
    assert made.result("reconnects")[0] == "FAIL"
    assert made.felt(23, 1, 2).result("reconnects")[0] == "PASS"


@pytest.mark.parametrize(
    ("every", "arrives_s", "outcome"),
    [("250ms", 32.3, "PASS"), ("250ms", None, "FAIL"), ("5s", None, "PASS")],
)
def test_a_message_that_was_due_must_have_passed(story, entry, expect, every, arrives_s, outcome):
    made = story(
        timeline=[entry("reset", at="20s", name="cut")],
        workload=[{"from": "server", "every": every}],
        expect=[expect("reconnects", after="cut", within="15s")],
    )
    made.connect(1).steady().apply(20).felt(20).end(20, "rst", 1, "client", by="server")
    made.connect(32, 2, frame=False).frame(32.1, 2, opcode="ping")
    if arrives_s is not None:
        made.frame(arrives_s, 2)
    assert made.result("reconnects")[0] == outcome


def test_a_run_that_ends_within_the_stable_second_says_nothing(story, entry, expect):
    made = story(
        duration="33s",
        timeline=[entry("reset", at="20s", name="cut")],
        expect=[expect("reconnects", after="cut", within="12.9s")],
    )
    made.connect(1).steady().apply(20).felt(20).end(20, "rst", 1, "client", by="server")
    made.connect(32.5, 2)
    assert made.result("reconnects")[0] == "INCONCLUSIVE"


def test_a_wrong_answer_of_the_server_is_its_own_fault(cut):
    made = cut().add(31, "attempt", client=1, connection=2, port=1)
    made.add(
        31, "response", client=1, connection=2, stream="downstream", side="client", status=101,
        wrong="a wrong Sec-WebSocket-Accept (RFC 6455 §4.1)",
    )  # fmt: skip
    finding = made.end(31.1, "fin", 2, "client").finding("reconnects")
    assert (finding.outcome.value, finding.culprit) == ("FAIL", "server")


def test_another_entrys_goodbye_is_not_the_refusal(story, entry, expect):
    rows = [
        entry("reject_upgrade", at="4s", parameters={"status": 403}, name="forbidden"),
        entry("close", "action", at="6s", by="server", parameters={"code": 1001}),
    ]
    made = story(timeline=rows, expect=[expect("never_reconnects", after="forbidden")])
    made.connect(1).steady().apply(4).apply(6, 1).close(6, code=1001)
    made.end(6.1, "fin", 1, "client").rejected(6.5, 2, 403).felt(6.5, 0, 2)
    assert made.result("never_reconnects")[0] == "PASS"
    assert made.rejected(9, 3, 403).felt(9, 0, 3).result("never_reconnects")[0] == "FAIL"
