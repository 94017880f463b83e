"""What virtual time costs: runs, messages and connections in the simulated network.

    python benchmarks/simulated.py [runs] [messages] [growth] [processes]

Times are of this process's processor, medians of interleaved rounds. Both sides of each ratio are measured in one go.

* runs: seeds per second on one core, with all checks and traces, and simulated seconds per second; and the
  same two minutes of bare trio-websocket over trio's memory streams on MockClock;
* messages: one echoed message between trio-websocket's own client and server: over trio's memory streams on
  MockClock, and over simulated TCP through the link with its observers and trace, without and with latency;
* growth: the same with ever more connections at once, and what a connection holds in memory; then with Python's
  own policy of garbage collection instead of ours;
* processes: a sweep on one process and on two.
"""

from __future__ import annotations

import gc
import itertools
import statistics
import sys
import time
from collections.abc import Awaitable, Callable
from contextlib import nullcontext
from pathlib import Path

import trio
import trio_websocket
from trio.testing import MockClock, memory_stream_pair

from chaos.clock import VirtualClock, seed_scheduler
from chaos.collector import collect_by_turns
from chaos.explore.executors import Processes, run_units
from chaos.explore.result import Unit
from chaos.explore.units import run_unit, split
from chaos.explore.vary import Bounds
from chaos.link.connection import Watch
from chaos.link.link import Link
from chaos.networks.base import dialer
from chaos.networks.simulated.end import FabricCaller
from chaos.networks.simulated.inside import inside
from chaos.networks.simulated.paths import constant
from chaos.networks.simulated.world import World
from chaos.peers.probes import recording_sockets
from chaos.recorder import Recorder
from chaos.scenario.load import load_text
from chaos.scenario.model import Scenario
from chaos.scenario.plan import make_plan

QUIET = """
version: 1
name: two-quiet-minutes
duration: 2m
client: {heartbeat: {interval: 20s, timeout: 10s}}
expect:
  - no_false_alarm
  - never_sends_before_open
  - availability: {at_least: 1}
  - no_leaks
"""
BOTH = QUIET.replace(
    "two-quiet-minutes\n",
    "two-quiet-minutes-both-beat\nserver: {heartbeat: {interval: 20s, timeout: 10s}}\n",
)
EXAMPLE = """
version: 1
name: half-open-socket
duration: 2m
networks: [simulated]
variables: {beat: 5s}
server: {heartbeat: {interval: "${beat}", timeout: 5s}}
client:
  heartbeat: {interval: "${beat}", timeout: 3s}
  backoff: {initial: 1s, factor: 2, max: 8s, jitter: full}
workload:
  - {from: server, every: 500ms, size: 64}
timeline:
  - {at: 20s, for: 40s, fault: blackhole, name: outage}
  - {at: 80s, for: 10s, toxic: latency, stream: downstream, attributes: {latency: 400, jitter: 100}}
  - {at: 100s, action: close, by: server, code: 4000, name: rejected}
expect:
  - detects_dead_peer: {by: client, during: outage, within: 9s}
  - detects_dead_peer: {by: server, during: outage, within: 11s}
  - reconnects: {after: outage, within: 20s}
  - backoff: {initial: 1s, factor: 2, max: 8s}
  - delivers: {duplicated: 0, reordered: 0}
  - never_reconnects: {after: rejected}
  - no_leaks
"""
HALF_OPEN = Path(__file__).parents[1] / "scenarios" / "11-half-open.yaml"
BARE = "two quiet minutes of bare trio-websocket over memory streams, five pings"
ROUNDS = 9
SEEDS = 20
MESSAGES = 1_000
MESSAGE = "x" * 64
HOP_S = 0.005
# between one connection's turn and the next one's; an echo takes a tenth of it
TURN_S = 0.001
SPREAD_S = 10.0
CONNECTIONS = (100, 1_000, 5_000)
MESSAGES_IN_ALL = 10_000


def timed(function: Callable[[], object]) -> float:
    """Return the seconds of processor time that a call takes."""
    gc.collect()
    started_s = time.process_time()
    function()
    return time.process_time() - started_s


def medians(arms: dict[str, Callable[[], object]], rounds: int = ROUNDS) -> dict[str, float]:
    """Return the median of each arm; the arms take turns."""
    for function in arms.values():
        function()  # imports and caches
    times: dict[str, list[float]] = {name: [] for name in arms}
    for _ in range(rounds):
        for name, function in arms.items():
            times[name].append(timed(function))
    return {name: statistics.median(row) for name, row in times.items()}


# runs


def sweep(scenario: Scenario, seeds: int = SEEDS) -> Callable[[], object]:
    unit = Unit(scenario=scenario.to_json(), seeds=tuple(range(1, seeds + 1)), bounds=Bounds())

    def run() -> None:
        outcomes = [row.outcome.value for row in run_unit(unit)]
        assert outcomes == ["PASS"] * seeds, outcomes

    return run


def runs() -> None:
    """Print seeds and simulated seconds per second on one core."""
    scenarios = [
        load_text(QUIET, "quiet.yaml")[0],
        load_text(BOTH, "both.yaml")[0],
        load_text(EXAMPLE, "example.yaml")[0],
    ]
    found = medians({BARE: bare, **{scenario.name: sweep(scenario) for scenario in scenarios}})
    print(f"{BARE}: {1000 * found[BARE] / SEEDS:.1f} ms each")
    for scenario in scenarios:
        each_s = found[scenario.name] / SEEDS
        print(
            f"{scenario.name}: {1 / each_s:.0f} seeds/s on one core ({1000 * each_s:.1f} ms each, "
            f"{found[scenario.name] / found[BARE]:.1f} x the bare two minutes), "
            f"{scenario.duration_s / each_s:,.0f} simulated seconds per second"
        )


def bare() -> None:
    """Run the quiet two minutes without link, checks and trace: what depends on the machine alone."""

    async def ping(websocket: trio_websocket.WebSocketConnection) -> None:
        for _ in range(5):
            await trio.sleep(20)
            await websocket.ping()
        await trio.sleep(20)

    for _ in range(SEEDS):
        over_memory(1, ping)()


# messages

Echoes = Callable[[trio_websocket.WebSocketConnection], Awaitable[None]]


def echoes(count: int, spread: int = 0) -> Echoes:
    """Return a conversation of so many echoes; `spread` over so many connections, which then take turns."""
    numbers = itertools.count()

    async def talk(websocket: trio_websocket.WebSocketConnection) -> None:
        due_s = trio.current_time() + SPREAD_S + next(numbers) % (spread or 1) * TURN_S
        for _ in range(count):
            if spread:
                await trio.sleep_until(due_s)
                due_s += spread * TURN_S
            await websocket.send_message(MESSAGE)
            assert await websocket.get_message() == MESSAGE

    return talk


async def answer(request: trio_websocket.WebSocketRequest) -> None:
    websocket = await request.accept()
    try:
        while True:
            await websocket.send_message(await websocket.get_message())
    except trio_websocket.ConnectionClosed:
        return


async def converse(
    client: trio.abc.Stream, nursery: trio.Nursery, talk: Echoes
) -> trio_websocket.WebSocketConnection:
    websocket = await trio_websocket.wrap_client_stream(nursery, client, "server", "/")
    await talk(websocket)
    return websocket


async def serve(stream: trio.abc.Stream) -> None:
    async with trio.open_nursery() as nursery:
        request = await trio_websocket.wrap_server_stream(nursery, stream)
        await answer(request)
        nursery.cancel_scope.cancel()


def over_memory(connections: int, talk: Echoes) -> Callable[[], None]:
    """Return a conversation over trio's memory streams on MockClock."""

    async def main() -> None:
        async with trio.open_nursery() as nursery:
            async with trio.open_nursery() as talks:
                for _ in range(connections):
                    ours, theirs = memory_stream_pair()
                    nursery.start_soon(serve, theirs)
                    talks.start_soon(converse, ours, nursery, talk)
            nursery.cancel_scope.cancel()

    return lambda: trio.run(main, clock=MockClock(autojump_threshold=0))


def over_simulated_tcp(
    connections: int, talk: Echoes, *, hop_s: float | None = None, by_turns: bool = True
) -> Callable[[], None]:
    """Return the same conversation through the link, client, link and server on hosts of their own."""

    def run() -> None:
        world = World()
        world.hosts.settle(connections)
        seed_scheduler(1)
        clock = VirtualClock(world.fabric)
        with collect_by_turns(clock, world.sockets.__len__) if by_turns else nullcontext():
            trio.run(simulate, world, connections, talk, hop_s, clock=clock)

    return run


async def simulate(world: World, connections: int, talk: Echoes, hop_s: float | None) -> None:
    link_address = world.hosts.addresses("link")[0]
    server_address = world.hosts.addresses("server")[0]
    if hop_s is not None:
        for one, other in ((link_address, link_address), (link_address, server_address)):
            for way in ((one, other), (other, one)):
                world.fabric.path(*way).delay = constant(hop_s)
    scenario = Scenario.model_validate({"version": 1, "name": "benchmark", "duration": "1h"})
    watch = Watch(
        recorder=Recorder(world.fabric.time),
        client=1,
        sides=frozenset(("client", "server")),
        felt=lambda *_: None,
    )
    with recording_sockets(world), inside(world):
        async with trio.open_nursery() as nursery:
            listeners = await trio.open_tcp_listeners(0)
            port = listeners[0].socket.getsockname()[1]
            nursery.start_soon(trio.serve_listeners, serve, listeners)
            link = Link(
                plan=make_plan(scenario, 1),
                watch=watch,
                dial=dialer("127.0.0.1", port, None),
                caller=FabricCaller(world.fabric),
            )
            entrance = await link.open(nursery)

            async def client() -> None:
                stream = await trio.open_tcp_stream("localhost", entrance)
                await converse(stream, nursery, talk)

            async with trio.open_nursery() as talks:
                for _ in range(connections):
                    talks.start_soon(client)
            nursery.cancel_scope.cancel()


def messages() -> None:
    """Print what an echoed message costs, against bare trio-websocket over memory streams."""
    talk = echoes(MESSAGES)
    found = medians(
        {
            "memory streams, no link": over_memory(1, talk),
            "simulated, through the link": over_simulated_tcp(1, talk),
            f"the same with {1000 * HOP_S:g} ms per hop": over_simulated_tcp(1, talk, hop_s=HOP_S),
        }
    )
    base_s = found["memory streams, no link"]
    for name, spent_s in found.items():
        print(f"{name}: {1e6 * spent_s / MESSAGES:.0f} µs per echo, {spent_s / base_s:.2f} x")


# growth


def growth() -> None:
    """Print what a message costs and a connection holds, with ever more connections."""
    base_us = 0.0
    for connections in CONNECTIONS:
        each = max(2, MESSAGES_IN_ALL // connections)
        held: list[float] = []
        over_simulated_tcp(connections, measuring(held, connections))()
        arms = {
            "one at a time": (
                over_simulated_tcp(connections, echoes(n, connections)) for n in (1, 1 + each)
            ),
            "all at once": (over_simulated_tcp(connections, echoes(n)) for n in (1, 1 + each)),
            "Python's own garbage collection": (
                over_simulated_tcp(connections, echoes(n, connections), by_turns=False)
                for n in (1, 1 + each)
            ),
        }
        cost = {}
        for name, (less, more) in arms.items():
            found = medians({"less": less, "more": more}, rounds=3)
            cost[name] = 1e6 * (found["more"] - found["less"]) / (each * connections)
        base_us = base_us or cost["one at a time"]
        told = ", ".join(f"{name} {us:.0f} µs ({us / base_us:.2f} x)" for name, us in cost.items())
        print(f"{connections} connections, per echo: {told}; {held[0] / 1024:.0f} KiB each")


def measuring(held: list[float], connections: int) -> Echoes:
    """Return a conversation that says nothing, the last of which notes what all connections hold."""
    before = resident_bytes()
    arrived = 0

    async def talk(_: trio_websocket.WebSocketConnection) -> None:
        nonlocal arrived
        arrived += 1
        await trio.sleep(60)
        if arrived == connections:
            arrived = 0
            held.append((resident_bytes() - before) / connections)

    return talk


def resident_bytes() -> int:
    """Return the resident set of this process (Linux)."""
    return int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1]) * 4096


# processes


def processes() -> None:
    """Print how much faster a sweep is on two processes than on one, start-up left out."""
    data = load_text(HALF_OPEN.read_text(encoding="utf-8"), str(HALF_OPEN))[0].to_json()
    rates = {1: 0.0, 2: 0.0}
    for width in rates:
        units = [
            Unit(scenario=data, seeds=portion, bounds=Bounds())
            for portion in split(10, range(1, 301))
        ]
        counted, first_s = 0, None
        for rows in run_units(units, Processes(width=width)):
            if first_s is None:
                first_s = time.monotonic()
            else:
                counted += len(rows)
        assert first_s is not None
        rates[width] = counted / (time.monotonic() - first_s)
    print(
        f"half-open sweep: {rates[1]:.1f} seeds/s on one process, {rates[2]:.1f} on two: "
        f"{rates[2] / rates[1]:.2f} x"
    )


SECTIONS = {"runs": runs, "messages": messages, "growth": growth, "processes": processes}


def main(arguments: list[str]) -> None:
    """Run the sections that are named, or all."""
    if unknown := [name for name in arguments if name not in SECTIONS]:
        sys.exit(f"unknown section {unknown[0]!r}; expected {', '.join(SECTIONS)}")
    for name in arguments or SECTIONS:
        SECTIONS[name]()


if __name__ == "__main__":
    main(sys.argv[1:])
