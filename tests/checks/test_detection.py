"""`detects_dead_peer`: the earliest sign counts, from the recorded start of the entry."""

from __future__ import annotations

import pytest
from support.figures import figures, numbers


@pytest.fixture
def outage(story, entry, expect):
    def make(within: str = "8s", by: str = "client", **more):
        made = story(
            timeline=[entry("stall", at="38s", **{"for": "40s"}, name="outage")],
            expect=[expect("detects_dead_peer", by=by, during="outage", within=within)],
            **more,
        )
        return made.connect(1).steady().apply(38.0).apply(78.0, change="off")

    return make


def test_a_client_that_resets_in_time_passes(outage):
    made = outage().felt(38.2).frame(40, by="client", sides=("client",), opcode="ping")
    made.end(43, "rst", 1, "client").connect(43.5, 2)
    finding = made.finding("detects_dead_peer")
    assert figures(finding) == ("PASS", 1, 5, 8, 8)
    assert finding.measured["detected_s"] == 5.0
    assert finding.measured["socket_end_at_s"] == 43.0
    assert finding.measured["attempt_at_s"] == 43.5
    assert finding.measured["theoretical_bound_s"] == 8.0


@pytest.mark.parametrize("sign", ["close", "fin", "rst", "attempt", "state"])
def test_each_sign_alone_is_enough(outage, sign):
    made = outage().felt(38.2)
    if sign == "close":
        made.close(45, by="client", sides=("client",))
    elif sign == "attempt":
        made.connect(45, 2)
    elif sign == "state":
        made.add(45, "state", client=1, subject="client", state="closed")
    else:
        made.end(45, sign, 1, "client")
    assert made.finding("detects_dead_peer").measured["detected_s"] == 7.0


def test_a_client_that_notices_late_fails_with_the_chain_of_causes(outage):
    made = outage().felt(38.2).frame(40, by="client", sides=("client",), opcode="ping")
    made.connect(112.4, 2)
    made.events = [e for e in made.events if not (e.kind == "apply" and e["change"] == "off")]
    made.apply(118.0, change="off")
    finding = made.finding("detects_dead_peer")
    assert figures(finding) == ("FAIL", 1, 74.4, 8, 8)
    assert [numbers(line) for line in finding.evidence] == [
        (38, 118),  # the entry, and how long it was in force
        (38.2, 1, 6),  # felt by connection 1, 6 bytes held
        (40, 38),  # the ping that got no pong
        (43,),  # its deadline
        (46, 8),  # the bound
        (112.4,),  # the next attempt
    ]
    assert finding.line == 7


def test_a_client_that_never_notices_fails(outage):
    assert outage().felt(38.2).result("detects_dead_peer") == ("FAIL", 1, 82, 8, 8)


def test_the_bound_has_no_tolerance_on_virtual_time_and_half_a_second_on_a_real_clock(outage):
    late = {"network": "simulated"}, {"network": "embedded"}
    outcomes = []
    for options in late:
        made = outage(**options).felt(38.2).end(46.4, "rst", 1, "client")
        outcomes.append(made.finding("detects_dead_peer").outcome.value)
    assert outcomes == ["FAIL", "PASS"]


def test_a_failure_on_an_entry_that_was_not_felt_is_held_back(outage):
    finding = outage().finding("detects_dead_peer")
    assert finding.outcome.value == "INCONCLUSIVE"
    assert "`stall` (outage)" in finding.reason


def test_a_path_that_comes_back_before_the_bound_says_nothing(outage):
    made = outage(within="60s").felt(38.2).frame(78.1)
    assert made.result("detects_dead_peer") == ("INCONCLUSIVE", 78.1, 60, 8)


def test_a_connection_that_was_over_before_is_not_judged(outage):
    made = outage().felt(38.2).end(30, "fin", 1, "client")
    assert made.result("detects_dead_peer") == ("INCONCLUSIVE",)


def test_the_server_is_judged_at_its_own_side(outage):
    made = outage(by="server").felt(38.2)
    made.end(39, "rst", 1, "client").end(44, "rst", 1, "server")
    assert made.finding("detects_dead_peer").measured["detected_s"] == 6.0


def test_the_worst_client_is_reported(outage):
    made = outage(
        client={"use": "reference", "heartbeat": {"interval": "5s", "timeout": "3s"}, "count": 2}
    )
    made.connect(1, 1, client=2).felt(38.2).end(41, "rst", 1, "client")
    made.end(45.5, "rst", 1, "client", client=2)
    assert made.finding("detects_dead_peer").measured["client"] == 2


def test_latency_toxics_raise_the_theoretical_bound_by_a_round_trip(story, entry, expect):
    made = story(
        timeline=[
            entry("stall", at="38s", **{"for": "40s"}, name="outage"),
            entry(
                "latency",
                "toxic",
                at="10s",
                stream="both",
                parameters={"latency": 400, "jitter": 100},
            ),
        ],
        expect=[expect("detects_dead_peer", during="outage", within="9s")],
    )
    made.connect(1).steady().apply(10, 1).felt(10.1, 1).apply(38).felt(38.2).end(
        43, "rst", 1, "client"
    )
    assert made.finding("detects_dead_peer").measured["theoretical_bound_s"] == 9.0


def test_a_clients_next_attempt_says_nothing_about_the_server(outage):
    made = outage(by="server").felt(38.2).connect(40, 2)
    assert made.result("detects_dead_peer")[0] == "FAIL"


def test_a_servers_state_counts_where_it_can_only_mean_this_client(outage):
    made = outage(by="server").felt(38.2).add(42, "state", subject="server", state="closed")
    assert made.finding("detects_dead_peer").measured["state_at_s"] == 42
    two = {"use": "reference", "heartbeat": {"interval": "5s", "timeout": "3s"}, "count": 2}
    made = outage(by="server", client=two).connect(1, client=2).felt(38.2)
    made.add(42, "state", subject="server", state="closed")
    assert made.result("detects_dead_peer")[0] == "FAIL"
    for client in (1, 2):
        made.add(42, "state", client=client, subject="server", state="closed")
    assert made.result("detects_dead_peer")[0] == "PASS"


@pytest.mark.parametrize(("state", "outcome"), [("open", "FAIL"), ("connecting", "PASS")])
def test_only_states_that_give_up_the_connection_count(outage, state, outcome):
    made = outage().felt(38.2).add(42, "state", client=1, subject="client", state=state)
    assert made.result("detects_dead_peer")[0] == outcome


def test_only_connections_that_felt_a_partial_entry_are_judged(story, entry, expect):
    made = story(
        client={"use": "reference", "count": 2},
        timeline=[entry("stall", at="20s", name="hole", toxicity=0.5)],
        expect=[expect("detects_dead_peer", during="hole", within="5s")],
    )
    made.connect(1).connect(1, client=2).steady().apply(20).felt(20.1).end(24, "rst", 1, "client")
    assert made.finding("detects_dead_peer").outcome.value == "PASS"
    made.felt(20.1, client=2)
    assert made.finding("detects_dead_peer").outcome.value == "FAIL"


def test_a_peer_that_is_told_by_the_network_need_not_find_out(outage):
    made = outage().felt(38.2).end(44, "rst", 1, "client", by="server")
    finding = made.finding("detects_dead_peer")
    assert figures(finding)[:3] == ("PASS", 1, 6)


@pytest.mark.parametrize(("stand_in", "outcome"), [(True, "PASS"), (False, "FAIL")])
def test_the_attempts_of_a_spare_connection_are_no_sign(story, entry, expect, stand_in, outcome):
    hole = entry("blackhole", at="20s", name="hole", **{"for": "40s"})
    made = story(timeline=[hole], expect=[expect("detects_dead_peer", during="hole", within="8s")])
    made.connect(1, 1).connect(1.1, 2).steady().apply(20).felt(20.1, 0, 1).felt(20.1, 0, 2)
    # the spare notices, and tries again and again
    made.end(25, "fin", 2, "client")
    for number, at_s in ((3, 26), (4, 30), (5, 34)):
        made.add(at_s, "attempt", client=1, connection=number, port=1)
        made.end(at_s + 2, "fin", number, "client")
    if stand_in:
        made.add(27, "attempt", client=1, connection=6, port=1)
    assert made.apply(60, change="off").result("detects_dead_peer")[0] == outcome


def test_a_state_that_was_told_of_the_living_connection_is_no_sign(outage):
    made = outage().felt(38.2)
    made.add(40, "state", subject="client", client=1, state="connecting")
    assert made.result("detects_dead_peer")[0] == "PASS"
    made.add(30, "state", subject="client", client=1, state="connecting")
    assert made.result("detects_dead_peer")[0] == "FAIL"
