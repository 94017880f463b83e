"""The paths of a scenario as a run has them: what is laid where, and what is drawn from what."""

from __future__ import annotations

from typing import Any

import pytest

from chaos.api import Selection
from chaos.checks.verdict import Outcome, Verdict
from chaos.networks.simulated.hosts import LINK_ADDRESS, SERVER_ADDRESS, client_address
from chaos.networks.simulated.network import lay_paths
from chaos.networks.simulated.paths import DEFAULT_DELAY_S, Path
from chaos.networks.simulated.world import World
from chaos.running.job import make_job
from chaos.running.process import run_trace
from chaos.scenario.load import load_text
from chaos.scenario.model import Scenario
from chaos.scenario.plan import make_plan
from chaos.trace import Trace

TEMPLATE = """
version: 1
name: paths
duration: 30s
networks: [embedded, simulated]
client: {{count: 2, heartbeat: {{interval: 2s, timeout: 3s}}}}
server: {{heartbeat: {{interval: 2s, timeout: 3s}}}}
workload: [{{from: server, every: 500ms}}, {{from: client, every: 500ms}}]
paths: {paths}
timeline: {timeline}
expect: [no_false_alarm]
"""


def scenario_with(paths: str, timeline: str = "[]") -> Scenario:
    [scenario] = load_text(TEMPLATE.format(paths=paths, timeline=timeline), "paths.yaml")
    return scenario


def laid(paths: str, seed: int = 1, zero_s: float = 0.0) -> World:
    scenario = scenario_with(paths)
    world = World()
    world.hosts.settle(scenario.client.count)
    lay_paths(world, make_plan(scenario, seed), lambda: zero_s)
    return world


def delays(world: World, source: str, target: str, count: int = 50) -> list[float]:
    path = world.fabric.path(source, target)
    return [path.delay(float(at_s)) for at_s in range(count)]


def lost_of(path: Path, count: int = 5_000) -> float:
    """Return the share of packets that a path loses."""
    assert path.loss is not None
    return sum(path.loss() for _ in range(count)) / count


def run(scenario: Scenario, seed: int = 1) -> tuple[Verdict, Trace]:
    return run_trace(make_job(scenario, network="simulated", seed=seed))


def round_trips_s(trace: Trace, side: str) -> list[float]:
    """Return how long each ping waited for its pong, as seen at a side of the link."""
    frames = trace.select("frame", client=1, side=side)
    pings = [row.at_s for row in frames if row["opcode"] == "ping" and row.stream == FROM[side]]
    pongs = [row.at_s for row in frames if row["opcode"] == "pong" and row.stream != FROM[side]]
    return [min(at_s for at_s in pongs if at_s >= ping) - ping for ping in pings[:-1]]


# who sends at a side towards it is the other one: a ping seen there on its way to the peer
FROM = {"client": "downstream", "server": "upstream"}


def test_each_direction_of_each_leg_gets_what_is_said_of_it() -> None:
    world = laid(
        "{client: {delay: 40ms, loss: 0.1, bandwidth: 2Mbit/s, queue: 64kB, upstream: {delay: 60ms, loss: 0.2}},"
        " server: {downstream: {delay: 5ms}}}"
    )
    for client in (1, 2):
        up = world.fabric.path(client_address(client), LINK_ADDRESS)
        down = world.fabric.path(LINK_ADDRESS, client_address(client))
        assert (up.delay(0), up.bandwidth, up.queue_bytes) == (0.06, 250_000, 64_000)
        assert lost_of(up) == pytest.approx(0.2, rel=0.2)
        assert (down.delay(0), down.bandwidth) == (0.04, 250_000)
        assert lost_of(down) == pytest.approx(0.1, rel=0.2)
    assert world.fabric.path(SERVER_ADDRESS, LINK_ADDRESS).delay(0) == 0.005
    behind = world.fabric.path(LINK_ADDRESS, SERVER_ADDRESS)
    assert (behind.delay(0), behind.loss, behind.bandwidth) == (DEFAULT_DELAY_S, None, None)


@pytest.mark.parametrize(
    "delay",
    [
        "{uniform: {low: 10ms, high: 90ms}}",
        "{normal: {mean: 50ms, deviation: 5ms}}",
        "{lognormal: {median: 60ms, sigma: 0.5}}",
        "{pareto: {least: 20ms, alpha: 3}}",
    ],
)
def test_draws_come_from_the_seed_and_each_path_has_its_own(delay: str) -> None:
    paths = f"{{client: {{delay: {delay}}}}}"
    one, two = client_address(1), client_address(2)
    first = delays(laid(paths), one, LINK_ADDRESS)
    assert first == delays(laid(paths), one, LINK_ADDRESS)
    others = [
        delays(laid(paths), two, LINK_ADDRESS),
        delays(laid(paths), LINK_ADDRESS, one),
        delays(laid(paths, seed=2), one, LINK_ADDRESS),
    ]
    assert all(first != other for other in others)
    assert len(set(first)) == len(first)


def test_what_one_path_loses_or_delays_changes_no_draw_of_another() -> None:
    one, two = client_address(1), client_address(2)
    delay = "delay: {uniform: {low: 10ms, high: 90ms}}"
    plain = delays(laid(f"{{client: {{{delay}}}}}"), one, LINK_ADDRESS)
    busy = laid(f"{{client: {{{delay}, loss: 0.5}}, server: {{{delay}}}}}")
    for _ in range(100):
        busy.fabric.path(two, LINK_ADDRESS).transit(0.0)
    assert delays(busy, one, LINK_ADDRESS) == plain


def test_a_trace_counts_from_time_zero() -> None:
    world = laid("{client: {delay: {trace: [[0s, 40ms], [10s, 300ms]]}}}", zero_s=3.0)
    path = world.fabric.path(client_address(2), LINK_ADDRESS)
    assert [path.delay(at_s) for at_s in (3.0, 12.9, 13.0)] == [0.04, 0.04, 0.3]


def test_a_ping_takes_the_way_there_and_back() -> None:
    scenario = scenario_with(
        "{client: {upstream: {delay: 80ms}, downstream: {delay: 270ms}}, server: {delay: 50ms}}"
    )
    verdict, trace = run(scenario)
    assert verdict.outcome is Outcome.PASS, verdict.findings
    # a server's ping on its way to the client, and a client's on its way to the server
    assert round_trips_s(trace, "client") == pytest.approx(
        [0.35] * len(round_trips_s(trace, "client"))
    )
    assert round_trips_s(trace, "server") == pytest.approx(
        [0.1] * len(round_trips_s(trace, "server"))
    )
    assert len(round_trips_s(trace, "client")) >= 5


def test_a_network_that_is_slower_than_a_heartbeat_allows_raises_false_alarms() -> None:
    verdict, _ = run(scenario_with("{client: {delay: 1600ms}}"))
    failed = {row.check for row in verdict.findings if row.outcome is Outcome.FAIL}
    assert failed == {"no_false_alarm"}


@pytest.mark.parametrize(
    ("network", "reason"),
    [
        ("embedded", "paths on embedded: acts below sockets: simulated TCP only"),
        ("simulated", None),
    ],
)
def test_other_networks_skip_a_scenario_with_paths(network: str, reason: str | None) -> None:
    scenario = scenario_with("{client: {delay: 40ms}}")
    assert Selection(paths=(), network=network).why_not(scenario) == reason
    bare = scenario.model_copy(update={"paths": None})
    assert Selection(paths=(), network=network).why_not(bare) is None


# path faults behind the link


def faulty(fault: str, **more: Any) -> tuple[Verdict, Trace]:
    timeline = f"[{{at: 10s, for: 6s, {fault}, name: fault}}]"
    return run(scenario_with("{server: {delay: 1ms}}", timeline), **more)


@pytest.mark.parametrize("stream", ["upstream", "downstream"])
def test_a_partition_behind_the_link_touches_every_client_in_its_direction(stream: str) -> None:
    verdict, trace = faulty(f"fault: partition, leg: server, stream: {stream}")
    felt = trace.select("felt")
    assert {(row.client, row.stream) for row in felt} == {(None, stream)}
    assert verdict.outcome is Outcome.PASS, verdict.findings
    side = "server" if stream == "downstream" else "client"
    for client in (1, 2):
        frames = [
            row.at_s
            for row in trace.select("frame", client=client, side=side)
            if row.stream == stream and 10.2 < row.at_s < 16
        ]
        # what the client sends still reaches the link; what the server sends does not
        assert bool(frames) is (stream == "upstream")


def test_loss_behind_the_link_delays_and_loses_nothing() -> None:
    _, trace = faulty("fault: loss, rate: 0.5, leg: server")
    assert {row.stream for row in trace.select("felt")} == {"upstream", "downstream"}
    assert {row.client for row in trace.select("felt")} == {None}
    sent = {row["id"] for row in trace.select("send", subject="server") if row.at_s < 10}
    handled = {row["id"] for row in trace.select("message", subject="client")}
    assert sent <= handled


def test_a_syn_dropped_behind_the_link_leaves_open_connections_alone() -> None:
    timeline = (
        "[{at: 10s, for: 6s, fault: syn_drop, leg: server, name: fault}, "
        "{at: 11s, fault: reset, name: cut, clients: [1]}]"
    )
    _, trace = run(scenario_with("{server: {delay: 1ms}}", timeline))
    [felt] = [row for row in trace.select("felt") if row["name"] == "fault"]
    assert (felt.client, felt.stream, felt["how"]) == (None, "upstream", "dropped a SYN")
    # the link takes the client's new connection, and cannot dial the server for it
    attempts = [row.at_s for row in trace.select("attempt", client=1) if row.at_s > 11]
    dialed = [row.at_s for row in trace.select("dialed", client=1) if row.at_s > 11]
    assert attempts[0] < 13
    assert dialed[0] > 16
    assert len(trace.select("attempt", client=2)) == 1


def test_both_legs_may_be_cut_at_once_and_heal_each_by_itself() -> None:
    timeline = (
        "[{at: 10s, for: 2s, fault: partition, leg: server}, {at: 10s, for: 1s, fault: partition}]"
    )
    verdict, trace = run(scenario_with("{server: {delay: 1ms}}", timeline))
    assert verdict.outcome is Outcome.PASS, verdict.findings
    assert {(row["entry"], row.client) for row in trace.select("felt")} == {
        (0, None),
        (1, 1),
        (1, 2),
    }
