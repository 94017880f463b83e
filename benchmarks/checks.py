"""How long each check and each guard takes on a long trace, and how that grows: no check may be quadratic.

    python benchmarks/checks.py [events] [shape]

Traces of several shapes are made up: many connections, a long one, a storm of refused attempts, many clients.
Each check judges the trace alone, from its events on, and its time and memory are printed, with the growth from half
the events: about 2 is linear, 4 is quadratic. More than a second or 200 MB for 100,000 events is marked.
"""

from __future__ import annotations

import sys
import time
import tracemalloc
from collections.abc import Callable, Iterator
from typing import Any

from chaos.checks.context import Context
from chaos.checks.guards import run_guards
from chaos.checks.judge import JUDGES
from chaos.scenario.model import Expectation, Scenario
from chaos.trace import Event, Header, Trace
from chaos.vocabulary.checks import CHECKS

EVENTS = 100_000
SECONDS_MAX, MEGABYTES_MAX = 1.0, 200.0
BEAT = {"interval": "2s", "timeout": "1s"}
PARAMETERS: dict[str, dict[str, Any]] = {
    "detects_dead_peer": {"during": "slow", "within": "5s"},
    "no_false_alarm": {},
    "reconnects": {"after": "cut", "within": "5s"},
    "never_reconnects": {"after": "cut"},
    "backoff": {"initial": "1s", "max": "30s"},
    "delivers": {"lost": 0, "duplicated": 0, "reordered": 0},
    "no_leaks": {"cycles": 5},
    "single_connection": {},
    "single_handler": {},
    "close_code": {"after": "cut", "code": 1000, "by": "client"},
    "handshake": {"after": "cut", "attempts_max": 10, "retry_after": True},
    "never_sends_before_open": {},
    "herd": {"after": "cut", "peak_per_s": 100},
    "availability": {"at_least": 0.5},
    "cost": {"bytes_per_hour_max": 10**9},
}


def story(at_s: float, number: int, client: int, frames: int, refused: bool) -> Iterator[Event]:
    """Yield what happens on one connection, which two entries of the timeline touch."""

    def event(kind: str, stream: Any = None, **data: Any) -> Event:
        nonlocal at_s
        at_s = round(at_s + 0.0001, 6)
        return Event(
            at_s=at_s, kind=kind, client=client, connection=number, stream=stream, data=data
        )

    yield event("attempt", port=1)
    yield event("request", "upstream", side="client")
    if refused:
        yield event("felt", entry=1, name="slow", how="held")
        yield event("response", "downstream", side="client", status=503, retry_after_s=0.001)
    else:
        yield event("open")
        yield event("felt", entry=1, name="slow", how="held")
        for turn in range(frames):
            row = {"bytes": 64, "id": number * 1000 + turn, "sender": "server"}
            yield event("frame", "downstream", side="server", opcode="text", **row)
            yield event("frame", "downstream", side="client", opcode="text", **row)
            yield event("message", subject="client", id=row["id"], sender="server")
            if turn % 3 == 0:
                for stream, opcode, by in (
                    ("upstream", "ping", "client"),
                    ("downstream", "pong", "server"),
                ):
                    other = "server" if by == "client" else "client"
                    yield event("frame", stream, side=by, opcode=opcode, bytes=4)
                    yield event("frame", stream, side=other, opcode=opcode, bytes=4)
        yield event("resources", subject="client", point="cycle", cycle=number, tasks=1, sockets=1)
        yield event("felt", entry=0, name="cut", how="reset")
    yield event("fin", "downstream", side="client")
    yield event("fin", "upstream", side="client")
    yield event("closed")


# shape: how many clients there are, how many frames a connection carries, whether all are refused
SHAPES: dict[str, tuple[int, int | None, bool]] = {
    "many connections": (1, 2, False),
    "one long connection": (1, None, False),
    "a storm of refused attempts": (1, 0, True),
    "many clients": (50, 2, False),
}


def between(at_s: float, number: int, client: int, *, is_cut: bool) -> Iterator[Event]:
    """Yield what happens before a further connection: the entry `cut`, once for all clients, a state, a lag."""
    if is_cut:
        row = {"entry": 0, "occurrence": number, "change": "instant"}
        yield Event(at_s=at_s, kind="apply", data=row)
    state = {"subject": "client", "state": "connecting"}
    yield Event(at_s=at_s, kind="state", client=client, data=state)
    yield Event(at_s=at_s, kind="lag", data={"lag_s": 0.001})


def made(shape: str, count: int) -> Trace:
    """Return a trace of about so many events."""
    clients, frames, refused = SHAPES[shape]
    events = [Event(at_s=0.0, kind="start")]
    number, at_s = 0, 0.1
    while len(events) < count:
        number += 1
        client = (number - 1) % clients + 1
        each = (count - 20) * 3 // 13 if frames is None else frames
        rows = list(story(at_s, number, client, each, refused))
        if number == 1:
            rows.insert(3, Event(at_s=rows[2].at_s, kind="steady"))
            rows.insert(
                4,
                Event(
                    at_s=rows[2].at_s,
                    kind="apply",
                    data={"entry": 1, "occurrence": 1, "change": "on"},
                ),
            )
        else:
            events += between(at_s, number, client, is_cut=client == 1)
        events += rows
        at_s = rows[-1].at_s + 0.01
    events.append(Event(at_s=at_s + 10, kind="end"))
    scenario = {
        "version": 1,
        "name": "long",
        "duration": f"{at_s + 10:.3f}s",
        "client": {"use": "mine.py:client", "count": clients, "heartbeat": BEAT},
        "server": {"use": "reference", "heartbeat": BEAT},
        "workload": [{"from": "server", "every": "500ms"}],
        "timeline": [
            {"kind": "fault", "word": "reset", "at": "1s", "every": "1s", "times": 9, "name": "cut"},
            {"kind": "toxic", "word": "latency", "at": "1s", "name": "slow", "parameters": {"latency": 5}},
        ],
        "expect": [{"check": word, "parameters": row} for word, row in PARAMETERS.items()],
    }  # fmt: skip
    whole = Scenario.model_validate(scenario)
    return Trace(Header(scenario=whole.to_json(), network="simulated", seed=1), tuple(events))


def works(trace: Trace) -> dict[str, Callable[[], object]]:
    """Return what is measured: each check, and all guards together, each with a context of its own."""
    scenario = Scenario.from_json(trace.header.scenario)

    def judge(expectation: Expectation) -> object:
        context = Context.of(Trace(trace.header, trace.events), scenario)
        settings = CHECKS[expectation.check].model_validate(expectation.parameters)
        return JUDGES[expectation.check](context, settings, context.scope_of(expectation))

    found: dict[str, Callable[[], object]] = {
        "guards": lambda: run_guards(Context.of(Trace(trace.header, trace.events), scenario))
    }
    return found | {row.check: lambda row=row: judge(row) for row in scenario.expect}  # type: ignore[misc]


def took_s(work: Callable[[], object]) -> float:
    """Return the processor time of one call, in seconds."""
    started_s = time.process_time()
    work()
    return time.process_time() - started_s


def main(arguments: list[str]) -> None:
    """Print a line for each shape and check."""
    count = int(arguments[0]) if arguments else EVENTS
    for shape in [arguments[1]] if len(arguments) > 1 else SHAPES:
        whole = works(made(shape, count))
        half = works(made(shape, count // 2))
        print(f"{shape}, {count:,} events")
        for name, work in whole.items():
            half_s, whole_s = took_s(half[name]), took_s(work)
            tracemalloc.start()
            work()
            peak = tracemalloc.get_traced_memory()[1] / 1e6
            tracemalloc.stop()
            mark = "  TOO MUCH" if whole_s > SECONDS_MAX or peak > MEGABYTES_MAX else ""
            growth = whole_s / max(half_s, 1e-4)
            print(
                f"  {name:24} {whole_s:6.2f} s  {peak:6.1f} MB  growth {growth:4.1f}{mark}",
                flush=True,
            )


if __name__ == "__main__":
    main(sys.argv[1:])
