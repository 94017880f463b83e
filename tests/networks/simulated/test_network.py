"""Path faults in whole runs: whom they touch, what is felt, and what a subject without a heartbeat makes of them."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from chaos.api import load_scenarios
from chaos.checks.verdict import Outcome, Verdict
from chaos.running.job import make_job
from chaos.running.process import run_trace
from chaos.scenario.load import load_text
from chaos.scenario.model import Heartbeat, Scenario
from chaos.trace import Trace
from chaos.vocabulary.faults import FAULTS

ROOT = Path(__file__).parents[3]
SHIPPED = ROOT / "scenarios"
TEMPLATE = """
version: 1
name: path-fault
description: Two clients, and a path fault for one of them.
duration: 60s
networks: [simulated]
server: {{heartbeat: {{interval: 2s, timeout: 4s}}}}
client: {{count: 2, heartbeat: {{interval: 2s, timeout: 4s}}, connect_timeout: 3s}}
workload:
  - {{from: server, every: 500ms, size: 64}}
  - {{from: client, every: 500ms, size: 64}}
timeline:
  - {{at: 10s, for: 20s, {fault}, name: fault, clients: [1]}}
expect:
  - reconnects: {{after: fault, within: 20s}}
"""


def run(scenario: Scenario, seed: int = 1) -> tuple[Verdict, Trace]:
    return run_trace(make_job(scenario, network="simulated", seed=seed))


def shipped(number: int) -> Scenario:
    [file] = SHIPPED.glob(f"{number}-*.yaml")
    return load_scenarios(file)[0]


def failed(verdict: Verdict) -> set[str]:
    return {row.check for row in verdict.findings if row.outcome is Outcome.FAIL}


def with_fault(fault: str) -> Scenario:
    [scenario] = load_text(TEMPLATE.format(fault=fault), "template.yaml")
    return scenario


def longest_silence_s(trace: Trace, client: int) -> float:
    times = [event.at_s for event in trace.select("message", client=client, subject="client")]
    return max(later - earlier for earlier, later in pairwise(times))


def test_a_partition_delays_by_retransmission_and_both_directions_are_felt() -> None:
    verdict, trace = run(shipped(53))
    assert verdict.outcome is Outcome.PASS
    assert {event.stream for event in trace.select("felt")} == {"upstream", "downstream"}
    # lost from 10 s on, tried again after 0.2, 0.6, 1.4, 3.1, 6.6 and 13.2 s, so 3 s after the path came back
    assert longest_silence_s(trace, 1) == pytest.approx(13.2, rel=0.05)


@pytest.mark.parametrize(
    "fault",
    [
        "fault: partition",
        "fault: partition, stream: upstream",
        "fault: partition, stream: downstream",
        "fault: loss, rate: 1",
        "fault: host_crash, host: client",
        "fault: host_freeze, host: client",
    ],
)
def test_a_path_fault_of_one_client_leaves_the_other_alone(fault: str) -> None:
    verdict, trace = run(with_fault(fault))
    assert verdict.outcome is Outcome.PASS, verdict.findings
    assert {event.client for event in trace.select("felt")} == {1}
    assert longest_silence_s(trace, 1) >= 18 or "upstream" in fault
    assert longest_silence_s(trace, 2) < 1
    assert len(trace.select("attempt", client=2)) == 1


def test_a_one_way_partition_is_felt_in_its_direction_only() -> None:
    _, trace = run(with_fault("fault: partition, stream: upstream"))
    assert {event.stream for event in trace.select("felt")} == {"upstream"}


@pytest.mark.parametrize("number", [55, 56])
def test_a_client_without_a_heartbeat_does_not_notice(number: int) -> None:
    scenario = shipped(number)
    deaf = scenario.model_copy(
        update={"client": scenario.client.model_copy(update={"heartbeat": None})}
    )
    verdict, _ = run(deaf)
    assert "detects_dead_peer" in failed(verdict)


def test_a_client_that_ignores_its_schedule_while_names_fail_is_found_out() -> None:
    scenario = shipped(57)
    backoff = scenario.client.backoff.model_copy(update={"initial_s": 4.0})
    eager = scenario.model_copy(
        update={"client": scenario.client.model_copy(update={"backoff": backoff})}
    )
    verdict, _ = run(eager)
    assert "backoff" in failed(verdict)


@pytest.mark.parametrize("network", ["embedded", "toxiproxy"])
def test_the_other_networks_say_why_they_cannot(network: str) -> None:
    on_path: dict[str, Any] = {word: row.support for word, row in FAULTS.items() if row.on_path}
    assert set(on_path) == {
        *("partition", "loss", "syn_drop", "host_crash", "host_freeze", "dns_failure"),
    }
    for row in on_path.values():
        assert row[network][0] == "unsupported"
        assert row[network][1]
        assert row["simulated"][0] != "unsupported"


def test_bytes_over_tls_that_wait_for_their_writer_are_observed_once() -> None:
    # a frame right behind the 101 found the 101 still waiting, which was then observed again, as a broken frame
    for seed in (1, 3):
        verdict, _ = run(shipped(42), seed)
        assert verdict.outcome is Outcome.PASS, (seed, verdict.findings)


def test_a_pong_timeout_from_the_office_gives_up_a_weak_mobile_network() -> None:
    scenario = shipped(59)
    office = {"interval": "1s", "timeout": "1s"}
    client = scenario.client.model_copy(update={"heartbeat": Heartbeat.model_validate(office)})
    verdict, _ = run(scenario.model_copy(update={"client": client}))
    assert "no_false_alarm" in failed(verdict)


def test_an_eager_client_is_found_out_across_a_satellite() -> None:
    scenario = shipped(60)
    backoff = scenario.client.backoff.model_copy(update={"initial_s": 4.0})
    client = scenario.client.model_copy(update={"backoff": backoff})
    verdict, _ = run(scenario.model_copy(update={"client": client}))
    assert "backoff" in failed(verdict)


def test_a_satellite_without_its_delays_has_a_shorter_bound() -> None:
    bounds = []
    for scenario in (shipped(60), shipped(60).model_copy(update={"paths": None})):
        verdict, _ = run(scenario)
        [finding, _server] = [row for row in verdict.findings if row.check == "detects_dead_peer"]
        bounds.append(finding.measured["theoretical_bound_s"])
    assert bounds == pytest.approx([7.352, 7.0])
