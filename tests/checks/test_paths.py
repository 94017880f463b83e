"""What checks make of a scenario's `paths`, and of path faults on either leg."""

from __future__ import annotations

from typing import Any

import pytest

from chaos.checks.context import Context
from chaos.checks.paths import (
    added_latency_s,
    client_lateness_s,
    delay_after_s,
    path_hides_client,
)
from chaos.checks.schedule import read_delays
from chaos.scenario.model import Entry

SATELLITE = {"client": {"upstream": {"delay": "80ms"}, "downstream": {"delay": "270ms"}}}
WEAK = {"client": {"delay": "80ms", "loss": 0.01}}


@pytest.mark.parametrize(
    ("paths", "bound_s"),
    [
        (None, 8.0),
        (SATELLITE, 8.35),
        ({**SATELLITE, "server": {"delay": "100ms"}}, 8.55),
        ({"client": {"delay": {"uniform": {"low": "10ms", "high": "50ms"}}}}, 8.1),
        ({"client": {"delay": {"trace": [["0s", "10ms"], ["9s", "200ms"]]}}}, 8.4),
        ({"client": {"bandwidth": "1Mbit/s", "queue": "125kB"}}, 10.0),
        ({"client": {"bandwidth": "1Mbit/s"}}, None),
    ],
)
def test_the_detection_bound_counts_the_way_there_and_back(
    story: Any, entry: Any, expect: Any, paths: Any, bound_s: float | None
) -> None:
    made = story(
        timeline=[entry("stall", at="38s", **{"for": "40s"}, name="outage")],
        expect=[expect("detects_dead_peer", by="client", during="outage", within="20s")],
        paths=paths,
    )
    made.connect(1).steady().apply(38.0).felt(38.2).end(43, "rst", 1, "client")
    made.connect(43.5, 2).apply(78.0, change="off")
    measured = made.finding("detects_dead_peer").measured
    if bound_s is None:
        assert "theoretical_bound_s" not in measured
    else:
        assert measured["theoretical_bound_s"] == pytest.approx(bound_s)


def test_latency_toxics_come_on_top(story: Any, entry: Any) -> None:
    toxic = entry(
        "latency", at="1s", kind="toxic", stream="both", parameters={"latency": 100, "jitter": 0}
    )
    made = story(timeline=[toxic], paths=SATELLITE).apply(1.0)
    context = Context.of(made.trace())
    assert added_latency_s(context, 0, 10, 1) == pytest.approx(0.55)


def delays(story: Any, expect: Any, paths: Any, waits: list[float]) -> tuple[str | float, ...]:
    """Return the figures of what `backoff` says of refused attempts with these waits between them."""
    made = story(
        expect=[expect("backoff", initial="1s", factor=1, max="1s", jitter="none", attempts_min=2)],
        client={"backoff": {"initial": "1s", "max": "1s"}},
        paths=paths,
    )
    at_s = 1.0
    made.connect(at_s).steady().end(20.0, "rst", 1, "client", by="server")
    at_s = 20.0
    for number, wait_s in enumerate(waits, start=2):
        at_s += wait_s
        made.refused(at_s, number)
    return made.result("backoff")


@pytest.mark.parametrize(
    ("paths", "wait_s", "outcome"),
    [
        (None, 1.1, "PASS"),
        (None, 1.6, "FAIL"),
        (SATELLITE, 1.6, "PASS"),
        (SATELLITE, 1.8, "FAIL"),
        (None, 0.8, "FAIL"),
        (SATELLITE, 0.8, "PASS"),
        (SATELLITE, 0.7, "FAIL"),
        (WEAK, 0.1, "INCONCLUSIVE"),
        ({"client": {"bandwidth": "1Mbit/s"}}, 0.1, "INCONCLUSIVE"),
        ({"server": {"delay": "1s"}}, 1.6, "FAIL"),
    ],
)
def test_a_wait_is_judged_by_what_the_clients_path_adds(
    story: Any, expect: Any, paths: Any, wait_s: float, outcome: str
) -> None:
    assert delays(story, expect, paths, [0.5, wait_s, wait_s, wait_s])[0] == outcome


@pytest.mark.parametrize(
    ("paths", "outcome"), [(None, "FAIL"), (SATELLITE, "FAIL"), (WEAK, "INCONCLUSIVE")]
)
def test_a_second_connection_is_only_seen_where_nothing_is_lost(
    story: Any, expect: Any, paths: Any, outcome: str
) -> None:
    made = story(expect=[expect("single_connection")], paths=paths)
    made.connect(1, 1).steady().connect(10, 2)
    assert made.result("single_connection")[0] == outcome


@pytest.mark.parametrize("word", ["partition", "loss", "syn_drop"])
def test_a_fault_behind_the_link_does_not_hide_the_client(entry: Any, word: str) -> None:
    rate = {"rate": 0.5} if word == "loss" else {}
    near, far = (
        Entry.model_validate(entry(word, at="1s", parameters={**leg, **rate}))
        for leg in ({}, {"leg": "server"})
    )
    assert near.settings().hides_client()
    assert not far.settings().hides_client()


def test_a_link_that_dials_into_a_partition_does_not_see_a_client_give_up(
    story: Any, entry: Any, expect: Any
) -> None:
    outcomes = []
    for leg in ("server", "none"):
        rows = [entry("partition", at="5s", **{"for": "50s"}, parameters={"leg": "server"})]
        made = story(timeline=rows if leg == "server" else [], expect=[expect("single_connection")])
        made.connect(1, 1).steady()
        made.add(9, "attempt", client=1, connection=2, port=1)  # dialed never
        made.end(8, "rst", 1, "client").connect(20, 3)
        if leg == "server":
            made.apply(5.0).felt(5.5)
        outcomes.append(made.result("single_connection")[0])
    assert outcomes == ["PASS", "FAIL"]


def test_the_first_retransmission_waits_for_the_round_trip(story: Any, entry: Any) -> None:
    found = []
    for paths in (None, SATELLITE):
        row = entry("partition", at="5s", **{"for": "10s"}, name="outage")
        made = story(timeline=[row], paths=paths).connect(1).apply(5.0).apply(15.0, change="off")
        context = Context.of(made.trace())
        found.append(delay_after_s(context, context.occurrences[0][0]))
    assert found == pytest.approx([11.0, 11.35])


def test_what_the_clients_leg_hides_and_adds(story: Any) -> None:
    def of(paths: Any) -> tuple[bool, tuple[float, float]]:
        context = Context.of(story(paths=paths).connect(1).trace())
        return path_hides_client(context), client_lateness_s(context)

    assert of(None) == (False, (0.0, 0.0))
    assert of(SATELLITE) == (False, (pytest.approx(0.62), pytest.approx(0.08)))
    assert of(WEAK)[0]
    assert of({"server": {"delay": "1s", "loss": 0.5}}) == (False, (0.0, 0.0))


def test_whether_a_connection_was_stable_is_uncertain_by_the_round_trip(
    story: Any, entry: Any
) -> None:
    found = []
    for paths in (None, SATELLITE):
        made = story(client={"stable_after": "5s"}, paths=paths)
        made.connect(1).steady().end(6.2, "rst", 1, "client", by="server").refused(7, 2)
        made.refused(8, 3)
        found.append([row.doubtful for row in read_delays(Context.of(made.trace()), 1)])
    # 5.2 s at the link: above `stable_after`, unless both its ends were seen a third of a second apart
    assert found == [[False, False], [True, True]]
