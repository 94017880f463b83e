"""What became of each connection, read from the link's events.

`side` and `stream` together say who did something: upstream at "client" was sent by the client, upstream at
"server" was delivered to the server, downstream at "server" was sent by the server, downstream at "client" was
delivered to the client (`chaos/trace.py`).
"""

from __future__ import annotations

from bisect import bisect_right, insort
from collections.abc import Container, Iterable
from dataclasses import dataclass, field
from functools import cached_property

from chaos.trace import Event, Side, Stream, Trace

BOTH_STREAMS: tuple[Stream, ...] = ("upstream", "downstream")
NO_STATUS = 1005  # RFC 6455 §7.4.1: a Close frame without a code
# how a link may treat an attempt without ending it: the client must give up by itself
_HANGS = ("hang", "left", "blackhole", "drop", "swallow", "stall", "ignore")


def is_close_frame(event: Event) -> bool:
    """Tell whether the event is a WebSocket Close frame."""
    return event.kind == "frame" and event.data.get("opcode") == "close"


def ends_stream(event: Event) -> bool:
    """Tell whether the event is a Close frame, a FIN or an RST."""
    kind = event.kind  # asked of every event of every connection, by several checks
    if kind == "frame":
        return event.data.get("opcode") == "close"
    return kind in ("fin", "rst")


def close_code(event: Event) -> int:
    """Return the code of a Close frame; 1005 if it has none."""
    code = event.get("code")
    return NO_STATUS if code is None else int(code)


@dataclass(eq=False)
class ConnectionRecord:
    """One connection of one client, from its attempt on. Times are seconds from time zero.

    What follows from its events is looked for once: they must be complete by then.
    """

    client: int
    number: int
    attempt_s: float
    events: list[Event] = field(default_factory=list)

    def first(self, *kinds: str, since_s: float = 0.0) -> Event | None:
        """Return the first event of these kinds at or after a time."""
        found = (row for row in self.events if row.kind in kinds and row.at_s >= since_s)
        return next(found, None)

    @cached_property
    def open_s(self) -> float | None:
        """When its 101 was delivered."""
        event = self.first("open")
        return event.at_s if event else None

    def ending_by(self, side: Side, *, since_s: float = 0.0) -> Event | None:
        """Return the first Close frame, FIN or RST that this side sent at or after a time."""
        for event in self.events:
            if event.at_s >= since_s and ends_stream(event) and event.sent_by(side):
                return event
        return None

    @cached_property
    def first_ending(self) -> Event | None:
        """The first Close frame, FIN, RST or closing of any kind after the connection was open."""
        seen_open = False
        for event in self.events:
            if not seen_open:
                seen_open = event.kind == "open"
            elif event.kind == "closed" or ends_stream(event):
                return event
        return None

    def lost_s(self) -> float:
        """Return when the first ending of any kind was seen; infinity while the connection lives."""
        event = self.first_ending
        return event.at_s if event else float("inf")

    def client_socket_end_s(self) -> float:
        """Return when the client's socket was over: its own FIN or RST, one delivered to it, or the link's closing.

        A connection in a blackhole delivers nothing any more, so the client's own FIN or RST at its side counts.
        Infinity while it lives.
        """
        return self._socket_end_s

    @cached_property
    def _socket_end_s(self) -> float:
        for event in self.events:
            if event.kind in ("closed", "dial_failed") or (
                event.kind == "refused" and not hangs(event)
            ):
                return event.at_s
            if event.kind in ("fin", "rst") and event.get("side") == "client":
                return event.at_s
        return float("inf")

    def refusal(self) -> Event | None:
        """Return what first ended the connection or the attempt as the client saw it, its own giving up excluded.

        A Close frame, FIN or RST delivered to it, a handshake response that is not 101, or a refusal by the link.
        """
        return self._refusal

    @cached_property
    def _refusal(self) -> Event | None:
        for event in self.events:
            if event.kind == "dial_failed" or (event.kind == "refused" and not hangs(event)):
                return event
            if event.kind == "response" and event.get("side") == "client":
                if event.get("status") != 101:
                    return event
            elif ends_stream(event) and event.delivered_to("client"):
                return event
        return None

    def over_s(self) -> float:
        """Return when the client was done with the connection or the attempt, as far as the link saw it.

        That is the end of its socket, or a handshake response that is not 101. Infinity while it goes on.
        """
        return self._over_s

    @cached_property
    def _over_s(self) -> float:
        refused = (
            event.at_s
            for event in self.events
            if event.kind == "response" and event.get("side") == "client"
            if int(event.get("status", 101)) >= 200
        )
        return min(self.client_socket_end_s(), next(refused, float("inf")))

    def undecoded(self, streams: Container[Stream | None] = BOTH_STREAMS) -> Event | None:
        """Return the event with which the link stopped to read one of these streams, if it did."""
        rows = (row for row in self.events if row.kind == "undecoded" and row.stream in streams)
        return next(rows, None)

    def delivered_frames(self) -> list[Event]:
        """Return the frames that passed, either way; Close frames are not counted."""
        return self._delivered_frames

    @cached_property
    def _delivered_frames(self) -> list[Event]:
        return [
            event
            for event in self.events
            if event.kind == "frame"
            and event.get("opcode") != "close"
            and (event.delivered_to("client") or event.delivered_to("server"))
        ]


def describe_ending(event: Event | None) -> str:
    """Return how reasons speak of what ended a connection or an attempt."""
    if event is None:
        return "its own giving up"
    if event.kind == "response":
        return f"HTTP {event.get('status')}"
    if event.kind == "frame":
        side = "its own " if event.delivered_to("server") or event.stream == "upstream" else ""
        return f"{side}Close {event.get('code', NO_STATUS)}"
    return {"fin": "a FIN", "rst": "an RST", "refused": "a refused attempt"}.get(
        event.kind, event.kind
    )


def hangs(refused: Event) -> bool:
    """Tell whether a `refused` event left the client waiting instead of answering it."""
    return str(refused.get("how", "")).startswith(_HANGS)


def read_connections(trace: Trace) -> dict[int, list[ConnectionRecord]]:
    """Return the connections of each client, in the order of their attempts.

    An attempt that never reached a link, since nobody listened, is recorded by the client's own sockets without a
    connection number: it becomes a connection with number 0.
    """
    found: dict[tuple[int, int], ConnectionRecord] = {}
    by_client: dict[int, list[ConnectionRecord]] = {}
    for event in trace.events:
        if event.client is None or (
            event.connection is None and event.kind not in ("attempt", "refused")
        ):
            continue
        own = by_client.setdefault(event.client, [])
        number = event.connection or 0
        connection = found.get((event.client, number))
        if connection is None or (number == 0 and event.kind == "attempt"):
            connection = ConnectionRecord(event.client, number, event.at_s)
            found[event.client, number] = connection
            own.append(connection)
        connection.events.append(event)
    return by_client


def assign_slots(
    connections: Iterable[ConnectionRecord], *, newest: bool = False
) -> list[list[ConnectionRecord]]:
    """Return the connections of one client by slot: a slot holds one after the other, never two at a time.

    A client that keeps a spare connection has two slots, each with a series of its own. An attempt goes on with the
    slot that has been free for the longest time (with `newest`, for the shortest, as that of a client with one series
    for all its connections); it opens a new one while all others are taken.
    """
    slots: list[list[ConnectionRecord]] = []
    # when each slot is free, and its place: the first slot of those that are free for as long is taken
    free_from: list[tuple[float, int]] = []
    for connection in connections:
        free = bisect_right(free_from, (connection.attempt_s, len(slots)))
        place = len(slots)
        if free:
            _, key = free_from.pop(free - 1 if newest else 0)
            place = -key if newest else key
            slots[place].append(connection)
        else:
            slots.append([connection])
        insort(free_from, (connection.over_s(), -place if newest else place))
    return slots
