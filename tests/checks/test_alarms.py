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


@pytest.mark.parametrize(("number", "outcome"), [(None, "FAIL"), (1, "PASS"), (2, "FAIL")])
def test_only_the_connection_that_an_entry_touched_is_excused(
    story, entry, expect, number, outcome
):
    idle = entry("idle_timeout", at="3s", parameters={"after": "300s"}, name="box")
    made = story(timeline=[idle], expect=[expect("no_false_alarm")]).connect(1).steady().apply(3)
    if number is not None:
        made.felt(8, number=number)
    made.close(10, by="client", code=4900)
    assert made.result("no_false_alarm")[0] == outcome


@pytest.fixture
def heart(story, entry, expect):
    """The server pings each 5 s and gives up at 23 s; `answers` are the client's pongs."""

    def make(*answers, by="both", **pong):
        made = story(
            timeline=[entry("noop", "toxic", at="3s")], expect=[expect("no_false_alarm", by=by)]
        )
        made.connect(1).steady().apply(3)
        for at_s in (5, 10, 15, 20):
            made.frame(at_s, by="server", opcode="ping")
        for at_s in answers:
            made.frame(at_s, by="client", opcode="pong", **pong)
        return made.close(23, by="server", code=1011).finding("no_false_alarm")

    return make


@pytest.mark.parametrize(
    ("answers", "pong", "culprit"),
    [
        ((), {}, "client"),  # RFC 6455 §5.5.2
        ((5.1, 10.1, 15.1), {}, "client"),
        ((5.1, 10.1, 15.1, 20.1), {"unsolicited": True}, "client"),  # §5.5.3
        ((5.1, 10.1, 15.1, 20.1), {}, "server"),
        ((20.1,), {}, "server"),  # the newest ping only: that is allowed
        ((5.1, 10.1, 15.1, 21.0), {}, "server"),
    ],
)
def test_who_leaves_a_ping_unanswered_is_to_blame(heart, answers, pong, culprit):
    finding = heart(*answers, **pong)
    assert (finding.outcome.value, finding.culprit) == ("FAIL", culprit)


def test_by_says_whose_faults_count(heart):
    assert heart(by="server").outcome.value == "PASS"
    assert heart(by="client").outcome.value == "FAIL"
    answers = (5.1, 10.1, 15.1, 20.1)
    assert heart(*answers, by="client").outcome.value == "PASS"


@pytest.mark.parametrize(("last_s", "culprit"), [(15, "client"), (22, "server")])
def test_a_heartbeat_of_messages_that_is_late_is_its_senders_fault(story, expect, last_s, culprit):
    made = story(expect=[expect("no_false_alarm")]).connect(1).steady()
    for at_s in (5, 10, 15, 20, 22):
        if at_s <= last_s:
            made.frame(at_s, by="client", opcode="text")
    finding = made.close(26, by="server", code=4009).finding("no_false_alarm")
    assert (finding.outcome.value, finding.culprit) == ("FAIL", culprit)


@pytest.mark.parametrize(
    ("at_s", "code", "culprit"), [(10.1, 1002, "server"), (20, 1002, None), (10.1, 4000, None)]
)
def test_who_sends_what_is_no_websocket_is_to_blame(story, expect, at_s, code, culprit):
    made = story(expect=[expect("no_false_alarm")]).connect(1).steady()
    made.add(
        10, "undecoded", client=1, connection=1, stream="downstream", side="server",
        why="a reserved bit", at_byte=200, byte=0xF1,
    )  # fmt: skip
    finding = made.close(at_s, by="client", code=code).finding("no_false_alarm")
    if culprit is None:
        assert finding.outcome.value == "INCONCLUSIVE"
    else:
        assert (finding.outcome.value, finding.culprit) == ("FAIL", culprit)


def test_an_action_speaks_of_the_connections_that_are_open_then(story, entry, expect):
    row = entry("close", "action", at="20s", by="client")
    made = story(timeline=[row], expect=[expect("no_false_alarm")]).connect(1).steady().apply(20)
    made.close(20, by="client").close(20.1).end(20.2, "fin", 1, "client").connect(20.5, 2)
    assert made.result("no_false_alarm")[0] == "PASS"
    assert made.close(21, 2, by="client").result("no_false_alarm")[0] == "FAIL"


@pytest.mark.parametrize(("last_s", "culprit"), [(14, "server"), (18.5, "client")])
def test_who_stops_to_send_its_workload_is_to_blame(story, expect, last_s, culprit):
    made = story(
        workload=[{"from": "server", "every": "500ms"}],
        client={"use": "my:client", "heartbeat": {"interval": "1s", "timeout": "2s"}},
        expect=[expect("no_false_alarm")],
    )
    made.connect(1).steady()
    for number in range(2, 2 * int(last_s)):
        made.frame(number / 2, id=number)
    made.frame(last_s, id=100)
    finding = made.close(19, by="client", code=1000).finding("no_false_alarm")
    assert (finding.outcome.value, finding.culprit) == ("FAIL", culprit)
