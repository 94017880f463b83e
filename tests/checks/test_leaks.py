"""`no_leaks`: what is left after the stop, and what grows with each reconnect cycle."""

from __future__ import annotations

import pytest

CLEAN = {"tasks": 0, "sockets": 0, "channels": 0, "objects": {}}
BUSY = {"tasks": 4, "sockets": 1, "channels": 2, "objects": {"WebSocketConnection": 1}}


@pytest.fixture
def samples(story, expect):
    def make(*, stopped=CLEAN, cycles=(), **parameters):
        made = story(expect=[expect("no_leaks", by="client", **parameters)]).connect(1).steady()
        made.add(2, "resources", subject="client", point="steady", **BUSY)
        for number, counts in enumerate(cycles, start=1):
            made.add(
                10 + number,
                "resources",
                subject="client",
                point="cycle",
                cycle=number,
                **{**BUSY, **counts},
            )
        if stopped is not None:
            made.add(125, "resources", subject="client", point="stopped", **stopped)
        return made

    return make


def test_nothing_left_passes_though_the_sample_is_after_the_end(samples):
    assert samples().result("no_leaks") == ("PASS",)


@pytest.mark.parametrize(
    ("left", "text"),
    [
        ({"tasks": 1}, "1 tasks (expected 0)"),
        ({"sockets": 2}, "2 sockets (expected 0)"),
        ({"objects": {"WebSocketConnection": 3}}, "3 WebSocketConnection objects (expected 1)"),
        ({"channels": 4}, "4 channels (expected 2)"),
    ],
)
def test_what_is_left_is_named(samples, left, text):
    finding = samples(stopped={**CLEAN, **left}).finding("no_leaks")
    assert finding.outcome.value == "FAIL"
    assert text in finding.reason


@pytest.mark.parametrize(
    ("left", "outcome"),
    [
        ({"objects": {"WebSocketConnection": 1}, "channels": 2}, "PASS"),
        ({"objects": {"WebSocketConnection": 2}}, "FAIL"),
        ({"channels": 3}, "FAIL"),
        # a connection that was open in the steady state may be kept, and its socket with it
        ({"objects": {"closed socket": 1}}, "PASS"),
        ({"objects": {"closed socket": 2}}, "FAIL"),
        ({"sockets": 1}, "FAIL"),
        ({"tasks": 1}, "FAIL"),
    ],
)
def test_what_a_global_keeps_of_one_connection_may_be_left(samples, left, outcome):
    made = samples(stopped={**CLEAN, **left})
    made.add(0, "resources", subject="client", point="start", **CLEAN)
    assert made.result("no_leaks")[0] == outcome


def test_what_has_reached_its_limit_is_no_leak(samples):
    limit = [{"objects": {"WebSocketConnection": min(n, 5)}} for n in range(1, 9)]
    left = {**CLEAN, "objects": {"WebSocketConnection": 5}}
    assert samples(stopped=left, cycles=limit).result("no_leaks")[0] == "PASS"
    assert samples(stopped=left, cycles=limit[:5]).result("no_leaks")[0] == "FAIL"
    every_other = [{"objects": {"WebSocketConnection": 1 + n // 2}} for n in range(9)]
    assert samples(cycles=every_other).result("no_leaks")[0] == "FAIL"


def test_without_samples_nothing_can_be_said(samples, story, expect):
    assert samples(stopped=None).result("no_leaks") == ("INCONCLUSIVE",)
    made = story(expect=[expect("no_leaks")], client={"command": ["x"]}, server={"command": ["y"]})
    assert made.connect(1).steady().result("no_leaks") == ("INCONCLUSIVE", 2)


@pytest.mark.parametrize(
    ("name", "rows"),
    [
        ("tasks", [{"tasks": 4 + n} for n in range(6)]),
        ("sockets", [{"sockets": 1 + n} for n in range(6)]),
        (
            "WebSocketConnection objects",
            [{"objects": {"WebSocketConnection": 1 + n}} for n in range(6)],
        ),
    ],
)
def test_what_grows_with_each_cycle_fails_with_its_slope(samples, name, rows):
    finding = samples(cycles=rows).finding("no_leaks")
    assert finding.outcome.value == "FAIL"
    assert f"1.00 {name}" in finding.reason


def test_of_several_leaks_the_sockets_are_told_first_and_the_others_too(samples):
    rows = [{"sockets": 1 + n, "channels": 2 + 2 * n} for n in range(6)]
    finding = samples(cycles=rows).finding("no_leaks")
    assert "1.00 sockets" in finding.reason
    assert any("2.00 channels" in line for line in finding.evidence)


@pytest.mark.parametrize(
    "tasks",
    [
        [4, 4, 4, 4, 4, 4],
        [2, 4, 4, 4, 4, 4],
        [4, 5, 4, 5, 4, 5],
        [4, 4, 4, 4, 4, 9],
        [9, 8, 7, 6, 5, 4],
    ],
    ids=["flat", "warm-up", "swings", "one outlier", "falls"],
)
def test_what_does_not_grow_steadily_passes(samples, tasks):
    rows = [{"tasks": count} for count in tasks]
    assert samples(cycles=rows).result("no_leaks")[0] == "PASS"


def test_a_subject_in_process_owes_an_account_and_another_program_does_not(samples, story, expect):
    made = {}
    for name, server in (("callable", {"use": "reference"}), ("program", {"command": ["x"]})):
        made[name] = story(expect=[expect("no_leaks")], server=server).connect(1).steady()
        made[name].add(125, "resources", subject="client", point="stopped", **CLEAN)
    assert made["callable"].result("no_leaks") == ("INCONCLUSIVE", 2)
    assert made["program"].result("no_leaks")[0] == "PASS"


def test_fewer_cycles_than_asked_for_are_inconclusive(story, expect):
    made = story(expect=[expect("no_leaks", by="client", cycles=8)]).connect(1).steady()
    made.add(125, "resources", subject="client", point="stopped", **CLEAN)
    for number in range(1, 8):
        made.add(10 + number, "resources", subject="client", point="cycle", cycle=number, **BUSY)
    assert made.result("no_leaks") == ("INCONCLUSIVE", 7, 8)


def test_samples_between_connections_are_no_growth_when_the_last_one_has_a_connection_again(
    samples,
):
    apart = {"tasks": 1, "sockets": 0, "channels": 0, "objects": {}}
    assert samples(cycles=[apart, apart, BUSY, apart, BUSY]).result("no_leaks")[0] == "PASS"
    above = {"tasks": BUSY["tasks"] + 1}
    assert samples(cycles=[apart, apart, BUSY, apart, above]).result("no_leaks")[0] == "FAIL"


def test_one_leap_is_a_dead_connection_that_its_peer_has_yet_to_notice(samples):
    rows = [{"tasks": count} for count in (4, 4, 4, 4, 9)]
    assert samples(cycles=rows).result("no_leaks")[0] == "PASS"
    rows = [{"tasks": count} for count in (4, 4, 6, 6, 9)]
    assert samples(cycles=rows).result("no_leaks")[0] == "FAIL"
