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
import statistics
import sys
import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

import trio
import trio_websocket
from conversations import (
    Echoes,
    Stopwatch,
    echoes,
    over_memory,
    over_simulated_tcp,
    timed_echoes,
)

from chaos.running.job import Job
from chaos.running.pool.crew import Workers, run_jobs
from chaos.running.process import run_seeds
from chaos.scenario.load import load_text
from chaos.scenario.model import Scenario
from chaos.scenario.vary import Bounds

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
HOP_S = 0.005
CONNECTIONS = (100, 1_000, 5_000)
MESSAGES_IN_ALL = 10_000
GROWTH_ROUNDS = 5


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
    job = Job(
        scenario=scenario,
        network="simulated",
        seeds=tuple(range(1, seeds + 1)),
        bounds=Bounds(),
    )

    def run() -> None:
        outcomes = [row.outcome.value for row in run_seeds(job)]
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


def echo_us(connections: int, *, turns: bool = True, by_turns: bool = True) -> float:
    """Return what an echo among so many connections takes, in µs of processor time."""
    each, watch = max(2, MESSAGES_IN_ALL // connections), Stopwatch()
    talk = timed_echoes(each, connections if turns else 0, watch)
    gc.collect()
    over_simulated_tcp(connections, talk, by_turns=by_turns)()
    return 1e6 * watch.spent_s / (each * connections)


GROWTH: Mapping[str, Callable[[int], float]] = {
    "one at a time": echo_us,
    "all at once": partial(echo_us, turns=False),
    "Python's own garbage collection": partial(echo_us, by_turns=False),
}


def growth() -> None:
    """Print what a message costs and a connection holds, with ever more connections.

    All sizes take turns, and each is compared with the smallest of its round: a machine with neighbours is not
    equally fast for minutes.
    """
    held: dict[int, list[float]] = {connections: [] for connections in CONNECTIONS}
    for connections in CONNECTIONS:
        over_simulated_tcp(connections, measuring(held[connections], connections))()
    rows = [
        {(name, size): cost(size) for name, cost in GROWTH.items() for size in CONNECTIONS}
        for _ in range(GROWTH_ROUNDS)
    ]
    base = "one at a time", CONNECTIONS[0]
    for size in CONNECTIONS:
        told = ", ".join(
            f"{name} {statistics.median(row[name, size] for row in rows):.0f} µs "
            f"({statistics.median(row[name, size] / row[base] for row in rows):.2f} x)"
            for name in GROWTH
        )
        print(f"{size} connections, per echo: {told}; {held[size][0] / 1024:.0f} KiB each")


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
    scenario = load_text(HALF_OPEN.read_text(encoding="utf-8"), str(HALF_OPEN))[0]
    seeds = tuple(range(1, 301))
    whole = Job(scenario=scenario, network="simulated", seeds=seeds, bounds=Bounds())
    rates = {1: 0.0, 2: 0.0}
    for width in rates:
        counted, first_s = 0, None
        for rows in run_jobs(whole.portions(10), Workers(width)):
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
