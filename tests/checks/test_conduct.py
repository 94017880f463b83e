"""`single_connection`, `close_code`, `never_sends_before_open` and `handshake`."""

from __future__ import annotations

import pytest
from support.figures import figures


@pytest.fixture
def pair(story, expect):
    def make(**more):
        made = story(expect=[expect("single_connection", grace="500ms")], **more)
        return made.steady().connect(1).connect(20, 2)

    return make


def test_an_old_connection_that_ended_before_passes(pair):
    assert pair().end(19, "rst", 1, "client").result("single_connection") == ("PASS", 1)


def test_an_old_connection_that_lives_on_fails(pair):
    finding = pair().finding("single_connection")
    assert figures(finding) == ("FAIL", 1, 1, 100, 2, 0.5)


@pytest.mark.parametrize(("at_s", "outcome"), [(20.5, "PASS"), (20.51, "FAIL")])
def test_the_grace_is_exact_on_virtual_time(pair, at_s, outcome):
    assert pair().end(at_s, "fin", 1, "client").result("single_connection")[0] == outcome


def test_a_real_clock_adds_the_tolerance(pair):
    assert (
        pair(network="embedded").end(20.9, "fin", 1, "client").result("single_connection")[0]
        == "PASS"
    )


def test_what_the_server_sent_into_a_blackhole_does_not_end_the_clients_socket(pair):
    assert pair().end(19, "rst", 1, "server").result("single_connection")[0] == "FAIL"


def test_an_attempt_that_hangs_beside_an_open_connection_fails(story, expect):
    made = (
        story(expect=[expect("single_connection")]).steady().connect(1).end(5, "rst", 1, "client")
    )
    made.add(10, "attempt", client=1, connection=2).connect(20, 3)
    assert made.result("single_connection")[0] == "FAIL"


def test_an_attempt_that_the_link_could_not_read_is_not_judged(story, entry, expect):
    made = story(
        timeline=[entry("slow_accept", at="9s", **{"for": "5s"}, parameters={"delay": "60s"})],
        expect=[expect("single_connection")],
    )
    made.steady().connect(1).apply(9).apply(14, change="off").end(9, "rst", 1, "client")
    made.add(10, "attempt", client=1, connection=2).connect(20, 3)
    assert made.result("single_connection")[0] == "FAIL"
    assert made.felt(10, number=2).result("single_connection")[0] == "PASS"


def test_an_attempt_that_the_link_reads_late_is_judged_from_then_on(story, entry, expect):
    def told(over_s):
        made = story(
            timeline=[entry("slow_accept", at="9s", **{"for": "2s"}, parameters={"delay": "10s"})],
            expect=[expect("single_connection")],
        )
        made.steady().connect(1).apply(9).apply(11, change="off").end(9, "rst", 1, "client")
        made.add(10, "attempt", client=1, connection=2).felt(10, number=2).connect(13, 3)
        made.add(20.1, "open", client=1, connection=2).end(over_s, "fin", 2, "client")
        return made.result("single_connection")[0]

    assert told(20.2) == "PASS", "the client had ended it long before, and nobody read that"
    assert told(25.0) == "FAIL"


def test_one_connection_proves_nothing(story, expect):
    made = story(expect=[expect("single_connection")]).steady().connect(1)
    assert made.result("single_connection") == ("INCONCLUSIVE",)


@pytest.fixture
def stall(story, entry, expect):
    def make(**parameters):
        made = story(
            timeline=[entry("stall", at="20s", **{"for": "10s"}, name="hole")],
            expect=[expect("close_code", after="hole", **parameters)],
        )
        return made.connect(1).steady().apply(20).felt(20).apply(30, change="off")

    return make


def test_the_right_code_passes(stall):
    made = stall(by="client", code=(1011, 4008)).close(25, by="client", code=4008)
    assert made.result("close_code") == ("PASS", 1, 4008, 25)


def test_the_wrong_code_fails(stall):
    made = stall(by="client", code=1011).close(25, by="client", code=1000)
    assert made.result("close_code") == ("FAIL", 1, 1000, 25, 1011)


def test_a_close_frame_without_a_code_is_1005(stall):
    made = stall(by="client", code=1011).frame(25, by="client", opcode="close")
    assert made.result("close_code") == ("FAIL", 1, 1005, 25, 1011)


def test_no_close_frame_at_all_fails_and_an_earlier_one_does_not_count(stall):
    made = stall(by="server", code=1011)
    assert made.result("close_code") == ("FAIL", 1, 1011)
    assert made.close(25, by="client", code=1011).result("close_code")[0] == "FAIL"


def test_without_a_connection_no_code_can_be_expected(stall):
    made = stall(code=1011).end(10, "fin", 1, "client", by="server")
    assert made.result("close_code") == ("INCONCLUSIVE",)


def test_early_data_fails(story, expect):
    made = story(expect=[expect("never_sends_before_open")]).steady().connect(1)
    assert made.result("never_sends_before_open") == ("PASS", 101, 1)
    made.add(1, "early_data", client=1, connection=1, bytes=12)
    assert made.result("never_sends_before_open") == ("FAIL", 1, 12, 1, 1, 101)


def test_without_a_handshake_nothing_can_be_said_about_early_data(story, expect):
    made = story(expect=[expect("never_sends_before_open")]).steady()
    made.add(1, "attempt", client=1, connection=1).add(1, "open", client=1, connection=1)
    assert made.result("never_sends_before_open") == ("INCONCLUSIVE",)


@pytest.fixture
def refusal(story, expect):
    def make(**parameters):
        return story(expect=[expect("handshake", **parameters)]).connect(1).steady()

    return make


def test_attempts_after_the_first_refusal_are_counted(refusal):
    made = refusal(status=403, attempts_max=1).rejected(20, 2, 403).rejected(25, 3, 403)
    assert made.result("handshake") == ("PASS", 1, 1)
    assert made.rejected(30, 4, 403).result("handshake") == ("FAIL", 1, 2, 1)


def test_attempts_after_one_that_opened_are_no_answer_to_the_refusal_before_it(refusal):
    made = refusal(attempts_max=1).rejected(20, 2, 403).connect(25, 3).connect(40, 4).connect(50, 5)
    assert made.result("handshake")[0] == "PASS"
    # a refusal after that begins a new count
    made.rejected(60, 6, 403).rejected(61, 7, 403)
    assert made.result("handshake")[0] == "PASS"
    assert made.rejected(62, 8, 403).result("handshake")[0] == "FAIL"


def test_another_status_fails(refusal):
    made = refusal(status=403).rejected(20, 2, 503)
    assert made.result("handshake") == ("FAIL", 403, 503)


@pytest.mark.parametrize(("at_s", "outcome"), [(24.9, "FAIL"), (25.0, "PASS"), (26.0, "PASS")])
def test_retry_after_is_a_floor(refusal, at_s, outcome):
    made = refusal(retry_after=True).rejected(20, 2, 429, retry_after_s=5).connect(at_s, 3)
    assert made.result("handshake")[0] == outcome


def test_a_run_that_ends_within_the_retry_after_says_nothing(refusal):
    made = refusal(retry_after=True).rejected(119, 2, 429, retry_after_s=5)
    assert made.result("handshake")[0] == "INCONCLUSIVE"


def test_without_a_refusal_there_is_no_conduct_to_judge(refusal):
    assert refusal(attempts_max=0).result("handshake") == ("INCONCLUSIVE",)
    assert refusal(retry_after=True).rejected(20, 2, 503).result("handshake") == ("INCONCLUSIVE",)


def test_a_client_that_stays_away_longer_than_asked_passes(refusal):
    made = refusal(retry_after=True).rejected(20, 2, 429, retry_after_s=5)
    assert made.result("handshake") == ("PASS", 1, 5)


@pytest.mark.parametrize(
    ("second_s", "ends_s", "outcome"),
    [(10, 15, "FAIL"), (15.2, 20, "INCONCLUSIVE"), (14.8, 20, "INCONCLUSIVE")],
)
def test_attempts_that_hang_side_by_side_are_two_connections(
    story, expect, second_s, ends_s, outcome
):
    """RFC 6455 §4.1: one connection in a CONNECTING state at a time; the grace is 0.5 s."""
    made = story(expect=[expect("single_connection")], steady_state="none")
    for number, at_s in ((1, 5.0), (2, second_s)):
        made.add(at_s, "attempt", client=1, connection=number, port=1)
        made.add(at_s, "dialed", client=1, connection=number)
    made.end(15, "fin", 1, "client").end(ends_s, "fin", 2, "client")
    result = made.result("single_connection")[0]
    assert (result == "FAIL") == (outcome == "FAIL")


@pytest.mark.parametrize(("for_s", "wrong"), [(9, False), (12, True)])
def test_an_attempt_beside_an_open_connection_may_take_as_long_as_one_may(
    story, expect, for_s, wrong
):
    made = story(expect=[expect("single_connection")]).connect(1).steady()
    made.add(20, "attempt", client=1, connection=2, port=1)
    made.add(20, "dialed", client=1, connection=2).end(20 + for_s, "fin", 2, "client")
    assert (made.result("single_connection")[0] == "FAIL") is wrong


def test_a_refusal_that_ends_the_client_with_an_error_fails(refusal):
    made = refusal().rejected(20, 2, 403)
    made.add(21, "subject_exit", subject="client", client=1, error="ValueError: x")
    finding = made.finding("handshake")
    assert finding.culprit == "client"
