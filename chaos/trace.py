"""Holds what happened in a run: its events, in order. Checks judge nothing else.

On disk a trace is JSON Lines: the header first, then one event per line. Sizes, opcodes, close codes and
message numbers are kept, never raw bytes: WebSocket masks are random (RFC 6455 §5.3), and payloads may be secret.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Set
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal

from chaos.errors import shortened

Side = Literal["client", "server"]
Stream = Literal["upstream", "downstream"]
SIDES: tuple[Side, Side] = ("client", "server")
OTHER: Mapping[Side, Side] = {"client": "server", "server": "client"}

# the opcodes with which a data message begins
DATA = ("text", "binary")
FORMAT_VERSION = 2
# the stream of what each peer sends
STREAM_FROM: Mapping[Side, Stream] = {"client": "upstream", "server": "downstream"}
_SENT = frozenset((side, stream) for side, stream in STREAM_FROM.items())
# made once: json.dumps makes a new encoder for each line whose options are not the default ones
_to_json = json.JSONEncoder(separators=(",", ":"), ensure_ascii=False).encode

# `side` is always the side of the link at which something was seen: at the client's socket or at the server's.
# Together with the stream it says who did it: upstream at "client" was sent by the client, upstream at "server"
# was delivered to the server; downstream at "server" was sent by the server, downstream at "client" delivered.
EVENTS: Mapping[str, str] = {
    # the run
    "start": "time zero: the server listens and the link accepts",
    "steady": "the steady state is reached: every client open, a message each way, 1 s without a close",
    "end": "the scenario's duration is over; only what is before it is judged (leaks apart)",
    "interrupted": "the run was stopped before its end: {why}, where one of its bounds was met",
    "warning": "the harness or Python warns {text}",
    "lag": "the event loop answered late: {lag_s} above what was asked; kept when above 5 ms",
    "load": "the processor's time in the {over_s} before: the run's process ran for {ran_s} of it and waited, with "
    "the processes that it has started, for {waited_s}; kept when that is more than a twentieth",
    "storm": "a client made too many attempts, and the run ends: {attempts} in {in_s} seconds",
    "network_failed": "the network between the subjects broke: {error}; says nothing about them",
    # the timeline
    "apply": "a timeline entry takes effect: {entry, occurrence, name, what, change}; change is on and off for a "
    "window, instant for a fault without one, action for a peer's action without one",
    "felt": "an entry touched something for the first time on this connection: {entry, name, how}",
    # the link
    "attempt": "the client's TCP connection reached the link: {port} is the client's own port",
    "refused": "a connection attempt was refused or left hanging by the link: {how}",
    "dialed": "the link reached the server",
    "dial_failed": "the link could not reach the server: {error}",
    "request": "a handshake request head: {side, path, upgrade}",
    "response": "a handshake response head: {side, status, retry_after_s, retry_after_late_s, wrong}; "
    "retry_after_s where it names a time, and retry_after_late_s by the latest clock; wrong where it is a 101 that a "
    "client must refuse: what is wrong with it, by which rule",
    "open": "a 101 that answers its request rightly was delivered to the client: the connection is open",
    "early_data": "bytes from the client after its request and before a 101 was delivered: {bytes}",
    "frame": "a WebSocket frame: {side, opcode, bytes, fin, id, sender, code, unsolicited}, stream set; bytes are "
    "those of its payload without compression; fin is false on a frame that does not end its message, else absent; "
    "id and sender of a message stand on the frame that ends it; unsolicited is true on a pong that answers no ping",
    "undecoded": "what came could not be decoded, and nothing more of this stream is read at this side: {side, why, "
    "at_byte, byte}, stream set; byte is the one at place at_byte of the stream, counted from 0",
    "fin": "end of stream: {side}, stream set",
    "rst": "an RST: {side}, stream set",
    "closed": "the link has closed both sockets of this connection",
    # the subjects
    "subject_start": "a subject starts: {subject}",
    "subject_exit": "a subject ended by itself: {subject, error}",
    "message": "the subject handled a workload message: {subject, id, sender}",
    "send": "the subject sent a workload message: {subject, id}",
    "state": "the subject's connection state: {subject, state} (connecting, open, closing, closed)",
    "note": "a line of the subject's own: {subject, text}",
    "resources": "what a subject owns: {subject, point, cycle, tasks, sockets, channels, objects}; "
    "point is start (before any subject), steady, cycle or stopped",
}


@dataclass(frozen=True, slots=True)
class Type:
    """What a field of a trace may hold, for what is read from a file: in words, and as a test."""

    expected: str
    fits: Callable[[Any], bool]


def _is_whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


# a count or a time above this is none, and sums of it would leave the range of numbers
NUMBER_MAX = 1e12
IS_TEXT = Type("text", lambda value: isinstance(value, str))
IS_OBJECT = Type("a JSON object", lambda value: isinstance(value, dict))
IS_YES_OR_NO = Type("true or false", lambda value: isinstance(value, bool))
IS_WHOLE = Type("a whole number", _is_whole)
IS_COUNT = Type(
    "a whole number from 0 on", lambda value: _is_whole(value) and 0 <= value <= NUMBER_MAX
)
IS_NUMBER = Type(
    "a number",
    lambda value: (_is_whole(value) or isinstance(value, float)) and abs(value) <= NUMBER_MAX,
)
IS_PEER = Type("client or server", lambda value: value in ("client", "server"))
IS_STREAM = Type("upstream or downstream", lambda value: value in ("upstream", "downstream"))
IS_COUNTS = Type(
    "an object of whole numbers",
    lambda value: isinstance(value, dict) and all(map(IS_COUNT.fits, value.values())),
)
# What is read of events by its name, whatever their kind. A field that says nothing may be null.
FIELDS: Mapping[str, Type] = {
    **dict.fromkeys(("side", "subject"), IS_PEER),
    **dict.fromkeys(
        ("entry", "occurrence", "attempts", "bytes", "status", "code", "port"), IS_COUNT
    ),
    **dict.fromkeys(("at_byte", "byte", "cycle", "tasks", "sockets", "channels"), IS_COUNT),
    **dict.fromkeys(("lag_s", "in_s", "retry_after_s", "retry_after_late_s"), IS_NUMBER),
    **dict.fromkeys(("change", "what", "how", "opcode", "state", "point", "why", "wrong"), IS_TEXT),
    **dict.fromkeys(("fin", "unsolicited"), IS_YES_OR_NO),
    "id": IS_WHOLE,
    "objects": IS_COUNTS,
}
# the fields without which an event of a kind says nothing
REQUIRED: Mapping[str, tuple[str, ...]] = {
    "apply": ("entry",),
    "felt": ("entry",),
    "lag": ("lag_s",),
    "storm": ("attempts", "in_s"),
    "resources": ("subject",),
    "message": ("subject",),
    "send": ("subject",),
    "state": ("subject",),
}
# of what a subject reports, the fields that are read
REPORTED: Mapping[str, Set[str]] = {
    "message": {"subject", "id"},
    "send": {"subject", "id"},
    "state": {"subject", "state"},
    "note": {"subject"},
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """One thing that happened. `at_s` counts seconds from time zero; `client` and `connection` count from 1."""

    at_s: float
    kind: str
    client: int | None = None
    connection: int | None = None
    stream: Stream | None = None
    data: Mapping[str, Any] = field(default_factory=dict)

    def __getitem__(self, key: str) -> Any:
        return self.data[key]

    def get(self, key: str, default: Any = None) -> Any:
        return self.data.get(key, default)

    @property
    def is_sent(self) -> bool:
        """Whether this frame, FIN or RST was seen at the side that sent it, where its stream begins."""
        return (self.data.get("side"), self.stream) in _SENT

    def sent_by(self, side: Side) -> bool:
        """Tell whether this frame, FIN or RST was sent by that side, seen at its own side of the link."""
        return self.data.get("side") == side and self.stream == STREAM_FROM[side]

    def delivered_to(self, side: Side) -> bool:
        """Tell whether this frame, FIN or RST was delivered to that side."""
        return self.data.get("side") == side and self.stream not in (None, STREAM_FROM[side])


@dataclass(frozen=True, slots=True, kw_only=True)
class Header:
    """Everything needed to judge a trace without its scenario file.

    `scenario` is the whole resolved scenario as plain JSON (`Scenario.to_json()`); `environment` holds versions
    and the machine, and is left out of the digest. `mark` shows to the machine that wrote it that it is its own.
    """

    scenario: Mapping[str, Any]
    network: str
    seed: int
    environment: Mapping[str, Any] = field(default_factory=dict)
    mark: str = ""


@dataclass(frozen=True)
class Trace:
    """The header and the events of one run, in the order in which they were recorded."""

    header: Header
    events: tuple[Event, ...]

    @cached_property
    def _by_kind(self) -> Mapping[tuple[str, int | None], list[Event]]:
        """The events of each kind, of all clients (None) and of each: checks ask for them a lot."""
        index: dict[tuple[str, int | None], list[Event]] = defaultdict(list)
        for event in self.events:
            kind, client = event.kind, event.client
            index[kind, None].append(event)
            if client is not None:
                index[kind, client].append(event)
        return index

    @cached_property
    def _places(self) -> Mapping[int, int]:
        """The place of each event in the trace, by its identity."""
        return {id(event): place for place, event in enumerate(self.events)}

    def __iter__(self) -> Iterator[Event]:
        return iter(self.events)

    def select(self, *kinds: str, client: int | None = None, **data: Any) -> list[Event]:
        """Return the events of these kinds, of this client if given, whose data hold these values."""
        index = self._by_kind
        found = [rows for kind in kinds if (rows := index.get((kind, client)))]
        rows = [event for events in found for event in events]
        if len(found) > 1:
            places = self._places
            rows.sort(key=lambda event: places[id(event)])
        if not data:
            return rows
        wanted = data.items()
        return [
            event for event in rows if all(event.data.get(key) == value for key, value in wanted)
        ]

    @property
    def judged(self) -> Trace:
        """The trace without what came after its end; `resources` apart, which tell of leaks."""
        return self._cut or self

    @cached_property
    def _cut(self) -> Trace | None:
        events, over = self.events, self._last + 1
        end_s = self.end_s()
        after = events[over:]
        kept = [e for e in after if e.at_s <= end_s or e.kind == "resources"]
        return None if len(kept) == len(after) else Trace(self.header, (*events[:over], *kept))

    def end_s(self) -> float:
        """Return the time of the end of what is judged: the `end` event, else the last event."""
        return self.events[self._last].at_s if self.events else 0.0

    @cached_property
    def _last(self) -> int:
        """The place of the event whose time is the end's."""
        last = len(self.events) - 1
        for place in range(last, -1, -1):
            if self.events[place].kind in ("end", "interrupted"):
                return place
        return last


def dump_event(event: Event) -> str:
    """Return one JSON line (without the line end). Times keep microseconds."""
    row: dict[str, Any] = {"at_s": round(event.at_s, 6), "kind": event.kind}
    if event.client is not None:
        row["client"] = event.client
    if event.connection is not None:
        row["connection"] = event.connection
    if event.stream is not None:
        row["stream"] = event.stream
    if event.data:
        row["data"] = dict(event.data)
    return _to_json(row)


def dump_header(header: Header) -> str:
    """Return the header line (without the line end)."""
    row = {
        "trace": FORMAT_VERSION,
        "network": header.network,
        "seed": header.seed,
        "scenario": dict(header.scenario),
        "environment": dict(header.environment),
    }
    if header.mark:
        row["mark"] = header.mark
    return _to_json(row)


def dump_trace(trace: Trace) -> str:
    """Return the trace as JSON Lines."""
    lines = [dump_header(trace.header), *(dump_event(event) for event in trace.events)]
    return "\n".join(lines) + "\n"


def parse_trace(lines: Iterable[str]) -> Trace:
    """Return the trace that these lines hold. Raises ValueError naming the line that is wrong.

    A trace may come from anywhere: what checks rely on has its type afterwards (`FIELDS`). The header's scenario is
    JSON and no more. A last line without its end (a run that was killed) is left out.
    """
    header: Header | None = None
    events: list[Event] = []
    for number, line in enumerate(lines, start=1):
        try:
            row = _read_row(line)
            if header is None:
                header = _parse_header(row)
            else:
                events.append(_parse_event(row))
        except (ValueError, RecursionError) as error:
            if header is not None and not line.endswith("\n"):
                break
            raise ValueError(f"line {number} is not part of a trace: {error}") from error
    if header is None:
        raise ValueError("the file is empty; expected a trace header on line 1")
    return Trace(header, tuple(events))


def _read_row(line: str) -> Mapping[str, Any]:
    row = json.loads(line, parse_constant=_refuse_constant)
    if not isinstance(row, dict):
        raise ValueError(f"expected a JSON object, got {shortened(line.strip())!r}")  # noqa: TRY004
    return row


def _refuse_constant(name: str) -> Any:
    raise ValueError(f"{name} is no number of JSON")


def _parse_header(row: Mapping[str, Any]) -> Header:
    form = row.get("trace")
    if form != FORMAT_VERSION or isinstance(form, float):
        again = "; run the scenario again" if form in range(1, FORMAT_VERSION) else ""
        raise ValueError(f"its format is {shortened(repr(form))}; expected {FORMAT_VERSION}{again}")
    return Header(
        scenario=_field(row, "scenario", IS_OBJECT),
        network=_field(row, "network", IS_TEXT),
        seed=_field(row, "seed", IS_WHOLE),
        environment=_optional(row, "environment", IS_OBJECT) or {},
        mark=_optional(row, "mark", IS_TEXT) or "",
    )


def _parse_event(row: Mapping[str, Any]) -> Event:
    kind = _field(row, "kind", IS_TEXT)
    data = _optional(row, "data", IS_OBJECT) or {}
    for name in REQUIRED.get(kind, ()):
        _field(data, name, FIELDS[name])
    # what else a subject reports is its own business, and no check reads it
    for name in data.keys() & REPORTED.get(kind, FIELDS.keys()):
        _optional(data, name, FIELDS[name])
    return Event(
        at_s=float(_field(row, "at_s", IS_NUMBER)),
        kind=kind,
        client=_optional(row, "client", IS_COUNT),
        connection=_optional(row, "connection", IS_COUNT),
        stream=_optional(row, "stream", IS_STREAM),
        data=data,
    )


def _optional(row: Mapping[str, Any], name: str, kind: Type) -> Any:
    """Return a field of a row that came from a file, or None. Raises ValueError if it is of another type."""
    return None if row.get(name) is None else _field(row, name, kind)


def _field(row: Mapping[str, Any], name: str, kind: Type) -> Any:
    """Return a field of a row that came from a file. Raises ValueError if it is not there or of another type."""
    if name not in row:
        raise ValueError(f"it has no {name!r}; expected {kind.expected}")
    value = row[name]
    if not kind.fits(value):
        raise ValueError(f"its {name!r} is {shortened(repr(value))}; expected {kind.expected}")
    return value
