"""`herd`, `availability` and `cost`."""

from __future__ import annotations

import pytest

from chaos.checks.availability import length, without
from chaos.checks.herd import peak_per_second


@pytest.fixture
def crowd(story, entry, expect):
    def make(times, network="simulated", **parameters):
        made = story(
            network=network,
            client={"use": "reference", "count": len(times)},
            timeline=[entry("reset", at="20s", name="cut")],
            expect=[expect("herd", after="cut", **parameters)],
        )
        made.steady().apply(20, change="instant").felt(20)
        for client, at_s in enumerate(times, start=1):
            made.connect(1, client=client).connect(at_s, 2, client=client)
        return made

    return make


def test_clients_that_spread_pass_and_a_herd_fails(crowd):
    spread = [20 + n for n in range(10)]
    assert crowd(spread, peak_per_s=2, spread="5s").result("herd") == ("PASS", 10, 8.1, 1)
    assert crowd([20.5] * 10, peak_per_s=2, spread="5s").result("herd") == ("FAIL", 10, 2, 0, 5)


def test_on_real_sockets_the_harness_own_share_is_said(crowd):
    spread = [20 + n for n in range(10)]
    assert crowd(spread, network="embedded", peak_per_s=20).result("herd")[-1] == 0.01


def test_a_spread_that_the_harness_could_make_itself_says_nothing(crowd):
    times = [20 + n / 50 for n in range(20)]
    result = crowd(times, network="embedded", spread="90ms").result("herd")
    assert result[0] == "INCONCLUSIVE"
    assert 0.02 in result
    assert crowd(times, spread="90ms").result("herd")[0] == "PASS"


def test_a_peak_above_what_the_harness_allows_says_nothing(crowd):
    times = [20 + n / 50 for n in range(20)]
    assert crowd(times, network="embedded", peak_per_s=1000).result("herd")[0] == "INCONCLUSIVE"
    assert crowd(times, network="embedded", peak_per_s=30).result("herd")[0] == "PASS"
    assert crowd(times, network="embedded", peak_per_s=19).result("herd")[0] == "FAIL"


def test_one_client_is_no_herd(crowd):
    assert crowd([21], peak_per_s=1).result("herd")[0] == "INCONCLUSIVE"


def test_the_peak_is_of_a_half_open_second():
    assert peak_per_second([0, 1, 2]) == (1, 0)
    assert peak_per_second([0, 0.5, 0.99, 1.2]) == (3, 0)


@pytest.fixture
def use(story, entry, expect):
    def make(at_least):
        made = story(
            duration="101s",
            timeline=[entry("stall", at="20s", **{"for": "10s"}, name="hole")],
            expect=[expect("availability", at_least=at_least)],
        )
        made.connect(1).steady().apply(20).apply(30, change="off")
        return made.felt(21)

    return make


def test_availability_leaves_out_the_time_in_which_a_path_was_silent(use):
    # 100 s from the first open, 9 s of them from the felt stall to its end
    assert use(0.91).result("availability") == ("PASS", 1, 91, 100)
    finding = use(0.92).finding("availability")
    assert finding.outcome.value == "FAIL"
    assert finding.evidence == ("usable 1.000 s to 21.000 s", "usable 30.000 s to 101.000 s")


def test_time_between_connections_is_not_available(use):
    made = use(0.5).end(51, "fin", 1, "client").connect(61, 2)
    assert made.finding("availability").measured["availability"] == 0.81


def test_spans_are_united_and_cut():
    assert length([(0, 5), (3, 8), (10, 11)]) == 9
    assert without([(0, 10)], (2, 3)) == [(0, 2), (3, 10)]
    assert without([(0, 10)], (5, float("inf"))) == [(0, 5)]


@pytest.fixture
def beats(story, expect):
    """A ping with 4 bytes every 10 s for 100 s, and its pong."""

    def make(count=10, **parameters):
        made = story(duration="101s", expect=[expect("cost", **parameters)]).connect(1).steady()
        for number in range(count):
            made.frame(2 + 10 * number, by="client", opcode="ping", bytes=4)
            made.frame(2 + 10 * number, opcode="pong", bytes=4)
        return made

    return make


def test_cost_counts_headers_and_masks_per_hour(beats):
    # 10 × (2 + 4 + 4 and 2 + 4) bytes and 20 wakeups in 100 s
    finding = beats(bytes_per_hour_max=5760, wakeups_per_hour_max=720).finding("cost")
    assert finding.outcome.value == "PASS"
    assert finding.measured == {"client": 1, "bytes_per_hour": 5760, "wakeups_per_hour": 720}


def test_a_cost_above_its_bound_fails(beats):
    assert beats(wakeups_per_hour_max=600).result("cost") == ("FAIL", 1, 720, 600)


def test_without_a_heartbeat_there_is_no_cost_to_judge(beats):
    assert beats(0, bytes_per_hour_max=1).result("cost") == ("SKIPPED",)
