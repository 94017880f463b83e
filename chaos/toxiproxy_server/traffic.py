"""Bytes counted while they move: per connection, and per proxy for /metrics."""

from __future__ import annotations

import socket
from collections.abc import Sequence
from dataclasses import dataclass, field

from chaos.faults.units import Data, Fin, Rst
from chaos.link.ends import READ_BYTES
from chaos.link.kernel_end import KernelEnd
from chaos.trace import Stream

Labels = tuple[str, str, str, str]  # direction, listener, proxy, upstream


@dataclass(slots=True)
class Counter:
    """Bytes of one stream."""

    received: int = 0
    sent: int = 0


@dataclass(slots=True)
class Totals:
    """Bytes of every proxy there ever was, as Prometheus wants them: they only grow."""

    rows: dict[Labels, Counter] = field(default_factory=dict)

    def of(self, stream: Stream, *, listen: str, name: str, upstream: str) -> Counter:
        """Return the counter that belongs to these labels."""
        return self.rows.setdefault((stream, listen, name, upstream), Counter())


class CountedEnd(KernelEnd):
    """An end that counts what comes from its peer as received, and what goes to it as sent."""

    def __init__(
        self, sock: socket.socket, *, incoming: Sequence[Counter], outgoing: Sequence[Counter]
    ) -> None:
        super().__init__(sock)
        self._incoming = incoming
        self._outgoing = outgoing

    def receive_now(self, at_most: int = READ_BYTES) -> Data | Fin | Rst | None:
        unit = super().receive_now(at_most)
        if isinstance(unit, Data):
            self.note_moved(received=len(unit.payload))
        return unit

    def send_now(self, payload: bytes | memoryview) -> int | None:
        taken = super().send_now(payload)
        if taken:
            self.note_moved(sent=taken)
        return taken

    def note_moved(self, *, received: int = 0, sent: int = 0) -> None:
        if received:
            for counter in self._incoming:
                counter.received += received
        if sent:
            for counter in self._outgoing:
                counter.sent += sent
