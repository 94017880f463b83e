"""What a trace is told of one connection: what passes at its observed sides, what was felt, and how it ends."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from chaos.faults.machine import Key
from chaos.faults.units import Data, Fin, Rst, Unit
from chaos.link.endings import SIDES
from chaos.recorder import Recorder
from chaos.scenario.model import Entry
from chaos.trace import Side, Stream
from chaos.wire.observer import Observer


@dataclass(frozen=True, slots=True, kw_only=True)
class Journal:
    """Where the events of one client's connections are recorded: at the `sides` that a link observes."""

    recorder: Recorder
    client: int
    sides: frozenset[Side]
    timeline: Sequence[Entry] = ()


class Transcript:
    """Records the events of one connection in a journal; leaves out the sides that the journal leaves out."""

    def __init__(self, journal: Journal, number: int) -> None:
        self._journal = journal
        self._number = number
        self._observers = {
            (stream, side): Observer(stream) for stream in SIDES for side in journal.sides
        }
        self._has_early_data = False

    @property
    def observes(self) -> bool:
        """Whether bytes are observed at any side."""
        return bool(self._observers)

    def observe(self, stream: Stream, side: Side, unit: Unit) -> None:
        """Record what a unit is at one side of the link."""
        observer = self._observers.get((stream, side))
        if observer is None:
            return
        if isinstance(unit, Data):
            for kind, fields in observer.feed(unit.payload):
                self._note(kind, stream, {"side": side, **fields})
                if kind == "response" and fields["status"] == 101:
                    self._follow_upgrade(side, observer)
            if stream == "upstream" and side == "client" and observer.waiting:
                self._tell_early_data(observer.waiting)
        elif isinstance(unit, (Fin, Rst)):
            self.record("fin" if isinstance(unit, Fin) else "rst", stream, side)

    def observe_both(self, stream: Stream, unit: Data) -> None:
        """Record what bytes are that pass both sides of the link at once, as two calls of `observe` would.

        Most bytes are whole frames, whose meaning is found once for both sides.
        """
        near, far = SIDES[stream]
        first, second = self._observers.get((stream, near)), self._observers.get((stream, far))
        if first is None or second is None or not (first.at_rest and second.at_rest):
            self.observe(stream, near, unit)
            self.observe(stream, far, unit)
            return
        seen = list(first.feed(unit.payload))
        for kind, fields in seen:
            self._note(kind, stream, {"side": near, **fields})
        if not first.at_rest:
            self.observe(stream, far, unit)
            return
        for kind, fields in seen:
            self._note(kind, stream, {"side": far, **fields})

    def record(self, kind: str, stream: Stream, side: Side, **fields: Any) -> None:
        """Record an event of one stream at one side."""
        if side in self._journal.sides:
            self._note(kind, stream, {"side": side, **fields})

    def tell(self, kind: str, *, side: Side = "client", **fields: Any) -> None:
        """Record what belongs to the connection as a whole: told by the link that observes this side."""
        if side in self._journal.sides:
            self._note(kind, None, fields)

    def felt(self, stream: Stream, key: Key, how: str) -> None:
        """Record that a stage or fault has touched this connection, if its key is an entry of the timeline."""
        journal = self._journal
        if self.observes and isinstance(key, int):
            record_felt(
                journal.recorder,
                journal.timeline,
                key,
                how,
                client=journal.client,
                connection=self._number,
                stream=stream,
            )

    def _note(self, kind: str, stream: Stream | None, fields: dict[str, Any]) -> None:
        self._journal.recorder.note(kind, self._journal.client, self._number, stream, fields)

    def _follow_upgrade(self, side: Side, observer: Observer) -> None:
        if side == "client":
            self.tell("open")
        requests = self._observers[("upstream", side)]
        for kind, fields in requests.upgrade(observer.extension):
            self.record(kind, "upstream", side, **fields)

    def _tell_early_data(self, count: int) -> None:
        if not self._has_early_data:
            self._has_early_data = True
            self.tell("early_data", bytes=count)


# of a connection that nobody observes
UNOBSERVED = Transcript(
    Journal(recorder=Recorder(clock=lambda: 0.0), client=0, sides=frozenset()), 0
)


def record_felt(
    recorder: Recorder,
    timeline: Sequence[Entry],
    entry: int,
    how: str,
    *,
    client: int | None,
    connection: int | None = None,
    stream: Stream | None = None,
) -> None:
    """Record that an entry of a timeline has touched something, where it is felt."""
    fields = {"entry": entry, "name": timeline[entry].name, "how": how}
    recorder.note("felt", client, connection, stream, fields)
