"""What a run waits for, read off its events: the steady state, triggers, reconnect cycles. Pure."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import ClassVar, Protocol

from chaos.scenario.model import Scenario, Storm
from chaos.scenario.plan import Triggered
from chaos.trace import STREAM_FROM, Event
from chaos.wire.frames import DATA_OPCODES

STEADY_QUIET_S = 1.0


class Watch(Protocol):
    """Takes events of the kinds in `KINDS`."""

    KINDS: ClassVar[frozenset[str]]

    def see(self, event: Event) -> None:
        """Take one event."""


class Watches:
    """Hands each event to those who want to see its kind: most want few, and most events are frames."""

    def __init__(self, *watches: Watch) -> None:
        self._by_kind: dict[str, list[Callable[[Event], None]]] = {}
        for watch in watches:
            self.add(watch)

    def add(self, watch: Watch) -> None:
        """Begin to show events to a watch."""
        for kind in watch.KINDS:
            self._by_kind.setdefault(kind, []).append(watch.see)

    def remove(self, watch: Watch) -> None:
        """Stop to show events to a watch."""
        for kind in watch.KINDS:
            self._by_kind[kind].remove(watch.see)

    def see(self, event: Event) -> None:
        """Show an event to those who want it, in the order in which they were added."""
        for see in self._by_kind.get(event.kind, ()):
            see(event)


@dataclass(slots=True)
class SteadyWatch:
    """Knows when every client is open and one workload message has passed each declared way; says so once.

    A message with a number is one; where no number can be read yet, any data frame is.
    """

    KINDS: ClassVar[frozenset[str]] = frozenset(
        ("open", "fin", "rst", "closed", "refused", "frame")
    )

    scenario: Scenario
    told: Callable[[], None]
    quiet_since_s: float = 0.0
    disturbed: bool = False  # whether an attempt or a connection has ended
    _open: set[int] = field(default_factory=set)
    _passed: set[tuple[int, str]] = field(default_factory=set)
    _has_told: bool = False

    def see(self, event: Event) -> None:
        """Take one event."""
        if event.kind == "open" and event.client is not None:
            self._open.add(event.client)
        elif event.kind in ("fin", "rst", "closed", "refused") or event.get("opcode") == "close":
            self.quiet_since_s = event.at_s
            self.disturbed = True
        elif event.kind == "frame" and event.client is not None:
            # a later fragment is not counted: its message is
            if not event.is_sent and event.get("opcode") in ("text", "binary"):
                self._passed.add((event.client, str(event.stream)))
        else:
            return
        if not self._has_told and self.reached:
            self._has_told = True
            self.told()

    @property
    def reached(self) -> bool:
        """Whether all but the quiet second is there."""
        clients = range(1, self.scenario.client.count + 1)
        streams = {STREAM_FROM[row.sender] for row in self.scenario.workload}
        return self._open.issuperset(clients) and all(
            (client, stream) in self._passed for client in clients for stream in streams
        )


@dataclass(slots=True)
class TriggerWatch:
    """Counts events for the timeline entries that wait for one, over all clients."""

    KINDS: ClassVar[frozenset[str]] = frozenset(("open", "attempt", "frame"))

    waiting: tuple[Triggered, ...]
    fire: Callable[[Triggered], None]
    _counts: Counter[str] = field(default_factory=Counter)

    def see(self, event: Event) -> None:
        """Take one event, and count it if it is one that entries wait for."""
        if event.kind != "frame":
            self.count(event.kind)
            return
        if event["opcode"] == "ping" and event.is_sent:
            self.count("ping")
        elif event["opcode"] in DATA_OPCODES and event.get("fin", True) and not event.is_sent:
            self.count("message")

    def count(self, kind: str) -> None:
        """Count one event of a kind, and fire what has waited for it."""
        self._counts[kind] += 1
        for row in self.waiting:
            if row.trigger.event == kind and row.trigger.number == self._counts[kind]:
                self.fire(row)


@dataclass(slots=True)
class StormWatch:
    """Counts each client's attempts, and says once that one makes too many: in one outage, or in a second."""

    KINDS: ClassVar[frozenset[str]] = frozenset(("attempt", "open"))

    limits: Storm
    told: Callable[[int, int, float], None]  # client, attempts, and in how many seconds
    _outages: dict[int, list[float]] = field(default_factory=dict)
    _seconds: dict[int, deque[float]] = field(default_factory=dict)
    _has_told: bool = False

    def see(self, event: Event) -> None:
        """Take one event."""
        client = event.client
        if client is None or self._has_told:
            return
        if event.kind == "open":
            self._outages.pop(client, None)
            return
        outage = self._outages.setdefault(client, [event.at_s, 0])
        outage[1] += 1
        second = self._seconds.setdefault(client, deque())
        second.append(event.at_s)
        while event.at_s - second[0] >= 1.0:
            second.popleft()
        if len(second) > self.limits.per_second_max:
            self._tell(client, len(second), event.at_s - second[0])
        elif outage[1] > self.limits.per_outage_max:
            self._tell(client, int(outage[1]), event.at_s - outage[0])

    def _tell(self, client: int, attempts: int, in_s: float) -> None:
        self._has_told = True
        self.told(client, attempts, in_s)


@dataclass(slots=True)
class CycleWatch:
    """Counts reconnect cycles: cycle n is over when each client has opened n + 1 connections."""

    KINDS: ClassVar[frozenset[str]] = frozenset(("fin", "rst", "open"))

    clients: int
    told: Callable[[int], None]  # the number of the cycle that is over
    cycles: int = 0
    _opens: Counter[int] = field(default_factory=Counter)
    _given_up: set[tuple[int | None, int | None]] = field(default_factory=set)

    def see(self, event: Event) -> None:
        """Take one event."""
        if event.kind in ("fin", "rst") and event.stream == "upstream":
            self._given_up.add((event.client, event.connection))
        if event.kind != "open" or event.client is None:
            return
        # an attempt that is answered after the client has given it up is no reconnection
        if (event.client, event.connection) in self._given_up:
            return
        self._opens[event.client] += 1
        done = min(self._opens.values()) - 1 if len(self._opens) == self.clients else 0
        if done > self.cycles:
            self.cycles = done
            self.told(done)
