"""What the trace is told of one connection: what passes at the sides that are observed, and how it ends."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from chaos.faults.units import Data, Fin, Rst, Unit
from chaos.trace import Side, Stream
from chaos.wire.observer import Observer

if TYPE_CHECKING:
    from chaos.link.connection import Watch

_STREAMS: tuple[Stream, Stream] = ("upstream", "downstream")


class Story:
    """Records the events of one connection for a watch; does nothing for sides that the watch leaves out."""

    def __init__(self, *, number: int, watch: Watch) -> None:
        self._number = number
        self._watch = watch
        self._observers = {
            (stream, side): Observer(stream) for stream in _STREAMS for side in watch.sides
        }
        self._early_told = False

    def observe(self, stream: Stream, side: Side, unit: Unit) -> None:
        """Record what a unit is at one side of the link."""
        observer = self._observers.get((stream, side))
        if observer is None:
            return
        if isinstance(unit, Data):
            for kind, fields in observer.feed(unit.payload):
                self._note(kind, stream, {"side": side, **fields})
                if kind == "response" and fields["status"] == 101:
                    self._upgraded(side, observer)
            if stream == "upstream" and side == "client" and observer.waiting:
                self._early(observer.waiting)
        elif isinstance(unit, (Fin, Rst)):
            self.record("fin" if isinstance(unit, Fin) else "rst", stream, side)

    def observe_both(self, stream: Stream, sides: tuple[Side, Side], unit: Data) -> None:
        """Record what bytes are that pass one side and then the other at once, as two calls of `observe` would.

        Most bytes are whole frames, whose meaning is found once for both sides.
        """
        first, second = (self._observers.get((stream, side)) for side in sides)
        if first is None or second is None or not (first.at_rest and second.at_rest):
            for side in sides:
                self.observe(stream, side, unit)
            return
        seen = list(first.feed(unit.payload))
        for kind, fields in seen:
            self._note(kind, stream, {"side": sides[0], **fields})
        if not first.at_rest:
            self.observe(stream, sides[1], unit)
            return
        for kind, fields in seen:
            self._note(kind, stream, {"side": sides[1], **fields})

    def record(self, kind: str, stream: Stream, side: Side, **fields: Any) -> None:
        """Record an event of one stream at one side."""
        if side in self._watch.sides:
            self._note(kind, stream, {"side": side, **fields})

    def tell(self, kind: str, **fields: Any) -> None:
        """Record what belongs to the connection as a whole: told by the link that observes the client."""
        if "client" in self._watch.sides:
            self._note(kind, None, fields)

    def _note(self, kind: str, stream: Stream | None, fields: dict[str, Any]) -> None:
        self._watch.recorder.note(kind, self._watch.client, self._number, stream, fields)

    def _upgraded(self, side: Side, observer: Observer) -> None:
        if side == "client":
            self.tell("open")
        requests = self._observers[("upstream", side)]
        for kind, fields in requests.upgrade(observer.extension):
            self.record(kind, "upstream", side, **fields)

    def _early(self, count: int) -> None:
        if not self._early_told:
            self._early_told = True
            self.tell("early_data", bytes=count)
