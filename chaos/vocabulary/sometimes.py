"""Names the states that a sweep should reach at least once: a fault that meets no connection at work tests little.

Each is a predicate over a trace. `sometimes:` in a scenario names those without which its sweep is not convincing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from chaos.trace import Event, Side, Trace

_AT_CAP = 0.9  # a wait this close to its cap counts: attempts take a moment themselves


@dataclass(frozen=True, slots=True, kw_only=True)
class State:
    """A state worth reaching; `reached` tells whether a trace did."""

    word: str
    what: str
    reached: Callable[[Trace], bool]


def _windows(trace: Trace) -> list[tuple[int, str, float, float]]:
    """Return (entry, what, start, end) of each window of the timeline, in the order in which they began."""
    found: list[tuple[int, str, float, float]] = []
    began: dict[int, Event] = {}
    for event in trace.select("apply"):
        entry = int(event["entry"])
        if event["change"] == "on":
            began[entry] = event
        elif event["change"] == "off" and entry in began:
            start = began.pop(entry)
            found.append((entry, str(start["what"]), start.at_s, event.at_s))
    end_s = trace.end_s()
    found += [(entry, str(row["what"]), row.at_s, end_s) for entry, row in began.items()]
    return sorted(found, key=lambda row: row[2])


def _happened_during(trace: Trace, kind: str, word: str | None = None) -> bool:
    """Whether an event of this kind happened in a window (of this word)."""
    windows = [row for row in _windows(trace) if word is None or row[1].split()[-1] == word]
    return any(
        start_s <= event.at_s < end_s
        for event in trace.select(kind)
        for _, _, start_s, end_s in windows
    )


def _windows_overlap(trace: Trace) -> bool:
    windows = _windows(trace)
    until_s = float("-inf")
    for _, _, start_s, end_s in windows:
        if start_s < until_s:
            return True
        until_s = max(until_s, end_s)
    return False


def _open_times(trace: Trace) -> dict[tuple[int | None, int | None], float]:
    return {(event.client, event.connection): event.at_s for event in trace.select("open")}


def _reset_in_handshake(trace: Trace) -> bool:
    """Whether an RST met a connection between its attempt and its 101."""
    opened = _open_times(trace)
    asked = {(event.client, event.connection) for event in trace.select("attempt")}
    return any(
        key in asked and event.at_s < opened.get(key, float("inf"))
        for event in trace.select("rst")
        for key in [(event.client, event.connection)]
    )


def _died_before_message(trace: Trace) -> bool:
    """Whether a connection ended before it carried a message."""
    ended = {(event.client, event.connection) for event in trace.select("closed")}
    spoke = {
        (event.client, event.connection)
        for event in trace.select("frame")
        if event.get("opcode") in ("text", "binary", "continuation") and event.get("fin", True)
    }
    return bool((ended & _open_times(trace).keys()) - spoke)


def _gave_up(trace: Trace, side: Side) -> bool:
    """Whether this peer was the first to end a connection, inside a window."""
    told: set[tuple[int | None, int | None]] = set()
    windows = _windows(trace)
    for event in trace.select("fin", "rst", "frame") if windows else ():
        key = (event.client, event.connection)
        ends = event.kind != "frame" or event.get("opcode") == "close"
        if not ends or key in told or event.get("side") not in ("client", "server"):
            continue
        told.add(key)
        if event.sent_by(side) and any(start <= event.at_s <= end for _, _, start, end in windows):
            return True
    return False


def _was_replayed(trace: Trace) -> bool:
    """Whether the same message crossed the link on two connections."""
    seen: dict[tuple[object, ...], int | None] = {}
    for event in trace.select("frame"):
        if event.get("id") is None or event.get("sender") is None:
            continue
        key = (event.client, event["sender"], event["id"], event.get("side"), event.stream)
        if seen.setdefault(key, event.connection) != event.connection:
            return True
    return False


def _waits_between_attempts(trace: Trace) -> Iterator[float]:
    """Yield how long each client waited between the end of an attempt and its next one."""
    over: dict[int | None, float] = {}
    for event in trace.select("attempt", "closed", "refused"):
        if event.kind != "attempt":
            over[event.client] = event.at_s
        elif event.client in over:
            yield event.at_s - over.pop(event.client)


def _waited_at_cap(trace: Trace) -> bool:
    """Whether a client waited nearly as long as its longest backoff."""
    from chaos.vocabulary.base import parse_duration  # noqa: PLC0415 - pydantic, which --help must not load

    cap_s = parse_duration(str(trace.header.scenario["client"]["backoff"]["max"]))
    return any(wait_s >= _AT_CAP * cap_s for wait_s in _waits_between_attempts(trace))


def _both_closed(trace: Trace) -> bool:
    """Whether both peers sent a Close on one connection before the other's arrived."""
    sent: dict[tuple[int | None, int | None], set[str]] = {}
    got: set[tuple[int | None, int | None, str]] = set()
    for event in trace.select("frame", opcode="close"):
        key, side = (event.client, event.connection), str(event["side"])
        if not event.is_sent:
            got.add((*key, side))
        elif (*key, side) not in got:
            sent.setdefault(key, set()).add(side)
    return any(len(sides) == 2 for sides in sent.values())


def _reconnected(trace: Trace) -> bool:
    clients = [event.client for event in trace.select("open")]
    return len(clients) > len(set(clients))


STATES: Mapping[str, State] = {
    row.word: row
    for row in (
        State(word="reconnected", what="a client was connected again", reached=_reconnected),
        State(
            word="detected_by_client",
            what="the client was the first to give a connection up, in a window",
            reached=lambda trace: _gave_up(trace, "client"),
        ),
        State(
            word="detected_by_server",
            what="the server was the first to give a connection up, in a window",
            reached=lambda trace: _gave_up(trace, "server"),
        ),
        State(
            word="attempt_during_outage",
            what="a client tried to connect while a window was open",
            reached=lambda trace: _happened_during(trace, "attempt"),
        ),
        State(
            word="reconnected_during_drain",
            what="a connection opened while the server drained",
            reached=lambda trace: _happened_during(trace, "open", "drain"),
        ),
        State(
            word="two_faults_at_once",
            what="two windows were open together",
            reached=_windows_overlap,
        ),
        State(
            word="reset_in_handshake",
            what="an RST on a connection before its 101",
            reached=_reset_in_handshake,
        ),
        State(
            word="refused",
            what="an attempt was refused",
            reached=lambda trace: bool(trace.select("refused")),
        ),
        State(
            word="died_before_first_message",
            what="a connection ended before it carried a message",
            reached=_died_before_message,
        ),
        State(
            word="message_replayed",
            what="a message crossed the link on two connections",
            reached=_was_replayed,
        ),
        State(
            word="backoff_at_cap",
            what="a client waited nearly its longest backoff",
            reached=_waited_at_cap,
        ),
        State(
            word="closed_while_closing",
            what="both peers sent a Close before the other's arrived",
            reached=_both_closed,
        ),
    )
}


def states_reached(trace: Trace) -> tuple[str, ...]:
    """Return the states that a trace reached before its end, in the order of the table."""
    judged = trace.judged
    return tuple(word for word, state in STATES.items() if state.reached(judged))
