"""Bytes counted while they move: per connection, and per proxy for /metrics."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import trio

from chaos.faults.units import Data, Fin, Rst
from chaos.link.ends import READ_BYTES, End
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


class CountedEnd(End):
    """An end that tells how many bytes came from its peer and went to it."""

    def __init__(
        self,
        stream: trio.SocketStream,
        *,
        received: Callable[[int], None],
        sent: Callable[[int], None],
    ) -> None:
        super().__init__(stream)
        self._tell_received = received
        self._tell_sent = sent

    async def receive(self, at_most: int = READ_BYTES) -> Data | Fin | Rst | None:
        unit = await super().receive(at_most)
        if isinstance(unit, Data):
            self._tell_received(len(unit.payload))
        return unit

    def receive_now(self, at_most: int = READ_BYTES) -> Data | Fin | Rst | None:
        unit = super().receive_now(at_most)
        if isinstance(unit, Data):
            self._tell_received(len(unit.payload))
        return unit

    def send_now(self, payload: bytes | memoryview) -> int | None:
        taken = super().send_now(payload)
        if taken:
            self._tell_sent(taken)
        return taken

    async def send(self, payload: bytes | memoryview) -> bool:
        done = await super().send(payload)
        if done:
            self._tell_sent(len(payload))
        return done

    def note_spliced(self, *, received: int = 0, sent: int = 0) -> None:
        self._tell_received(received)
        self._tell_sent(sent)
