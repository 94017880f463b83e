"""What a trace is told of one connection: what passes at its observed sides, what was felt, and how it ends."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from chaos.faults.machine import Key
from chaos.faults.units import Data, Fin, Rst, Unit
from chaos.link.endings import OTHER, SIDES
from chaos.recorder import Recorder
from chaos.scenario.model import Entry
from chaos.trace import Side, Stream
from chaos.wire.decoder import Observation
from chaos.wire.messages import Readers
from chaos.wire.observer import Observer
from chaos.wire.pings import Pings


@dataclass(frozen=True, slots=True, kw_only=True)
class Journal:
    """Where the events of one client's connections are recorded: at the `sides` that a link observes.

    `readers` say of each stream where the numbers of its messages are, if not at the top of their JSON.
    """

    recorder: Recorder
    client: int
    sides: frozenset[Side]
    timeline: Sequence[Entry] = ()
    readers: Mapping[Stream, Readers] = field(default_factory=dict)


class Transcript:
    """Records the events of one connection in a journal; leaves out the sides that the journal leaves out."""

    def __init__(self, journal: Journal, number: int) -> None:
        self._journal = journal
        self._number = number
        self._observers: dict[tuple[Stream, Side], Observer] = {}
        for side in journal.sides:
            requests = self._make_observer("upstream")
            self._observers["upstream", side] = requests
            self._observers["downstream", side] = self._make_observer("downstream", requests)
        self._pings = {place: Pings() for place in self._observers}
        self._has_early_data = False

    def _make_observer(self, stream: Stream, requests: Observer | None = None) -> Observer:
        return Observer(
            stream,
            requests=requests,
            readers=self._journal.readers.get(stream, ()),
            wall_clock=time.time,  # virtual in a simulated run, as its subjects see it
        )

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
            self._tell_all(stream, side, observer.feed(unit.payload))
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
        self._tell_all(stream, near, seen)
        if not first.at_rest:
            self.observe(stream, far, unit)
            return
        second.pass_by(unit.payload)
        self._tell_all(stream, far, seen)

    def _tell_all(self, stream: Stream, side: Side, seen: Iterable[Observation]) -> None:
        """Record what an observer has seen at one side, and tell the other observers of that side."""
        for kind, fields, beat in seen:
            if beat is None:
                self._note(kind, stream, {"side": side, **fields})
                if kind == "response":
                    self._follow_response(side, fields)
            else:
                self._tell_beat(stream, side, fields, beat)

    def _tell_beat(self, stream: Stream, side: Side, fields: dict[str, Any], beat: bytes) -> None:
        """Record a ping or a pong; a pong that answers no ping of the other side says so (RFC 6455 §5.5.3)."""
        if fields["opcode"] == "ping":
            self._pings[stream, side].add(beat)
        else:
            other = OTHER[stream], side
            # where not all pings could be read, any may have been answered
            if not self._pings[other].has(beat) and not self._observers[other].is_over:
                fields = {**fields, "unsolicited": True}
        self._note("frame", stream, {"side": side, **fields})

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

    def _follow_response(self, side: Side, fields: dict[str, Any]) -> None:
        """Tell the observer of the requests what the answer means for it."""
        requests, status = self._observers["upstream", side], fields["status"]
        if status == 101:
            # a client must fail what does not answer its request rightly: then nothing is open (RFC 6455 §4.1)
            if side == "client" and "wrong" not in fields:
                self.tell("open")
            agreed = self._observers["downstream", side].agreed
            self._tell_all("upstream", side, requests.upgrade(agreed))
        elif not 100 <= status < 200:
            requests.refuse()

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
