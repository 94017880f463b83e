"""`no_false_alarm`: who gave up first, and whether anything excuses it."""

from __future__ import annotations

import pytest


@pytest.fixture
def slow(story, entry, expect):
    """A latency toxic from 20 s to 50 s, and a stall from 70 s to 75 s."""

    def make(**parameters):
        made = story(
            timeline=[
                entry("latency", "toxic", at="20s", **{"for": "30s"}, name="slow"),
                entry("stall", at="70s", **{"for": "5s"}, name="hole"),
            ],
            expect=[expect("no_false_alarm", **parameters)],
        )
        made.connect(1).steady().apply(20).felt(20.1).apply(50, change="off")
        return made.apply(70, 1).felt(70.1, 1).apply(75, 1, change="off")

    return make


def test_a_connection_that_is_kept_passes(slow):
    assert slow(during="slow").result("no_false_alarm") == ("PASS",)


@pytest.mark.parametrize("kind", ["close", "fin", "rst"])
def test_a_client_that_gives_up_a_slow_connection_fails(slow, kind):
    made = slow(during="slow").frame(29)
    made = (
        made.close(30, by="client", code=1011)
        if kind == "close"
        else made.end(30, kind, 1, "client")
    )
    finding = made.finding("no_false_alarm")
    how = {"close": "Close 1011", "fin": "a FIN", "rst": "an RST"}[kind]
    assert finding.outcome.value == "FAIL"
    assert f"30.000 s with {how}" in finding.reason
    assert finding.evidence[-1] == f"30.000 s: {how} sent by the client"


def test_only_the_named_peer_counts(slow):
    assert (
        slow(during="slow", by="server").close(30, by="client").result("no_false_alarm")[0]
        == "PASS"
    )
    assert (
        slow(during="slow", by="client").close(30, by="client").result("no_false_alarm")[0]
        == "FAIL"
    )


def test_an_answer_to_the_other_peers_close_is_no_alarm_of_ones_own(slow):
    made = slow(during="slow", by="client").close(30, code=1001).close(30, by="client", code=1001)
    assert made.result("no_false_alarm")[0] == "PASS"


def test_giving_up_an_attempt_is_no_alarm(slow):
    made = slow().end(70.5, "rst", 1, "client")
    made.add(90, "attempt", client=1, connection=2).end(100, "fin", 2, "client")
    assert made.result("no_false_alarm")[0] == "PASS"


def test_a_cut_by_the_link_is_no_alarm(slow):
    made = slow().end(30, "rst", 1, "client", by="server").end(30, "fin", 1, "client")
    assert made.result("no_false_alarm")[0] == "PASS"


@pytest.mark.parametrize(
    ("at_s", "outcome"), [(60, "FAIL"), (72, "PASS"), (77.9, "PASS"), (78.1, "FAIL")]
)
def test_a_silent_path_excuses_until_one_pong_timeout_after_it(slow, at_s, outcome):
    assert slow().end(at_s, "rst", 1, "client").result("no_false_alarm")[0] == outcome


def test_the_named_window_excuses_nothing(slow):
    assert slow(during="hole").end(72, "rst", 1, "client").result("no_false_alarm")[0] == "FAIL"


@pytest.mark.parametrize(("code", "outcome"), [(4000, "PASS"), (4001, "FAIL")])
def test_a_commanded_close_excuses_its_own_code_only(story, entry, expect, code, outcome):
    made = story(
        timeline=[entry("close", "action", at="20s", by="server", parameters={"code": 4000})],
        expect=[expect("no_false_alarm")],
    )
    made.connect(1).steady().apply(20, change="action").felt(20).close(20, code=code)
    assert made.result("no_false_alarm")[0] == outcome


@pytest.mark.parametrize(
    ("word", "parameters", "show"),
    [
        ("close", {"code": 4000}, lambda made: made.end(20, "fin", 1, "server")),
        ("drain", {"code": 1001}, lambda made: made.close(20, code=1001)),
        ("crash", {}, lambda made: made.end(20, "rst", 1, "server")),
    ],
)
def test_what_a_peer_was_told_to_do_is_no_alarm(story, entry, expect, word, parameters, show):
    made = story(
        timeline=[entry(word, "action", at="20s", by="server", parameters=parameters)],
        expect=[expect("no_false_alarm")],
    )
    made.connect(1).steady()
    assert show(made).result("no_false_alarm")[0] == "FAIL"
    assert made.apply(19.9, change="action").result("no_false_alarm")[0] == "PASS"


def test_what_a_blackhole_did_to_a_connection_lasts(story, entry, expect):
    made = story(
        timeline=[entry("blackhole", at="20s", **{"for": "5s"})], expect=[expect("no_false_alarm")]
    )
    made.connect(1).steady().apply(20).felt(20.1).apply(25, change="off").end(
        80, "rst", 1, "client"
    )
    assert made.result("no_false_alarm")[0] == "PASS"
    made.connect(81, 2).end(100, "rst", 2, "client")
    assert made.result("no_false_alarm")[0] == "FAIL"


@pytest.mark.parametrize(
    ("word", "kind", "parameters", "outcome"),
    [
        ("latency", "toxic", {"latency": 2900, "jitter": 100}, "PASS"),
        ("latency", "toxic", {"latency": 2900}, "FAIL"),
        ("delay_frames", "fault", {"delay": "3s"}, "PASS"),
        ("delay_frames", "fault", {"delay": "2s"}, "FAIL"),
    ],
)
def test_an_entry_as_slow_as_the_pong_timeout_excuses(
    story, entry, expect, word, kind, parameters, outcome
):
    made = story(
        timeline=[entry(word, kind, at="20s", stream="downstream", parameters=parameters)],
        expect=[expect("no_false_alarm")],
    )
    made.connect(1).steady().apply(20).felt(20.1).end(40, "rst", 1, "client")
    assert made.result("no_false_alarm")[0] == outcome


def test_without_a_connection_in_the_window_nothing_can_be_said(slow):
    made = slow(during="hole").end(60, "rst", 1, "client", by="server")
    assert made.result("no_false_alarm") == ("INCONCLUSIVE",)


@pytest.mark.parametrize(("client_ends_at_s", "outcome"), [(28.0, "PASS"), (40.0, "FAIL")])
def test_answering_an_attempt_that_the_client_had_given_up_is_no_alarm(
    slow, client_ends_at_s, outcome
):
    made = slow(during="slow", by="server").frame(29).add(28, "attempt", client=1, connection=2)
    made.end(client_ends_at_s, "fin", 2, "client").add(29, "open", client=1, connection=2)
    made.end(30, "fin", 2, "server")
    assert made.result("no_false_alarm")[0] == outcome
