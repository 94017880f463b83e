"""One client's connection through a proxy, from its arrival to its end, and the bytes that are counted meanwhile.

Bytes are counted where they move: per connection, and per proxy for /metrics.
"""

from __future__ import annotations

import math
import socket
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from random import Random
from typing import Literal

import trio

from chaos.faults.machine import Key
from chaos.faults.pipe import Stage
from chaos.faults.units import Data, Fin, Rst
from chaos.link.endings import EndPolicy
from chaos.link.ends import READ_BYTES, End, KernelEnd, SilentEnd
from chaos.link.entrance import Entrance
from chaos.link.poller import Poller
from chaos.link.relay import Relay
from chaos.scenario.plan import STREAMS, generator
from chaos.toxiproxy_server.address import AddressError, dial, printed
from chaos.toxiproxy_server.events import Events
from chaos.trace import Stream
from chaos.vocabulary.word import Word

Labels = tuple[str, str, str, str]  # direction, listener, proxy, upstream
Stages = Mapping[Stream, Sequence[Stage]]


@dataclass(slots=True)
class Counter:
    """Bytes of one stream."""

    received: int = 0
    sent: int = 0


# the bytes of every proxy there ever was, as Prometheus wants them: they only grow
Totals = dict[Labels, Counter]


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


@dataclass(kw_only=True)
class SharedState:
    """What all proxies of a server share. The tasks of proxies live in `nursery`."""

    nursery: trio.Nursery
    seed: int
    end_policy: EndPolicy = "toxiproxy"
    dial_s: float = 30.0
    poller: Poller | None = None  # without one each connection has tasks that read
    totals: Totals = field(default_factory=dict)
    connections: dict[int, ProxiedConnection] = field(default_factory=dict)
    events: Events = field(default_factory=Events)
    _count: int = 0

    def next_id(self) -> int:
        """Return the number of the next connection of the server."""
        self._count += 1
        return self._count


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """Where a connection belongs: what its random draws and its counters derive from."""

    proxy: str
    upstream: str
    number: int  # counts from 1 in each proxy
    shared: SharedState
    counters: Mapping[Stream, Counter]

    def rng(self, stream: Stream | Literal["entrance"], key: Key) -> Random:
        """Return the generator of a toxic on one stream of this connection."""
        return generator(self.shared.seed, "toxiproxy-server", self.proxy, self.number, stream, key)


class ProxiedConnection:
    """A connection with its two sockets. `run` carries it; `close` and `reset` end it at once."""

    def __init__(self, *, id_: int, origin: Origin, sock: socket.socket, client: str) -> None:
        self.id = id_
        self.origin = origin
        self.opened_s = trio.current_time()
        self.client = client
        self.bytes: dict[Stream, Counter] = {stream: Counter() for stream in STREAMS}
        self._client = self._counted(sock, "upstream", "downstream")
        self._server: CountedEnd | None = None
        self._relay: Relay | None = None
        self._stages: Stages = dict.fromkeys(STREAMS, ())
        self._scope = trio.CancelScope()

    @property
    def server(self) -> str:
        """The address of the upstream; empty as long as, or once, there is none."""
        address = None if self._server is None else self._server.peer
        return "" if address is None else printed(address)

    async def run(self, met: Iterable[tuple[Key, Word]], stages: Stages) -> None:
        """Carry it until it is over; both sockets are closed then. Cancelling closes them at once.

        `met` are the faults that it meets where it comes in; a blackhole among them swallows it.
        """
        self._stages = stages
        entrance = Entrance(client=self._client, faults=lambda: met)
        try:
            with self._scope:
                await entrance.hold_back()
                if await entrance.reject():
                    return
                swallowed = any(fault.swallows for _, fault in met)
                server = SilentEnd() if swallowed else await self._dial()
                if server is not None:
                    await self._carry(entrance, server)
        finally:
            self._client.close()

    def replace(self, stages: Stages) -> None:
        """Change what acts on it, now."""
        self._stages = stages
        if self._relay is not None:
            self._relay.replace(stages)

    def moved(self) -> dict[str, dict[str, int]]:
        """Return the bytes received and sent on each stream so far."""
        return {
            stream: {"received": counter.received, "sent": counter.sent}
            for stream, counter in self.bytes.items()
        }

    def active(self) -> frozenset[Key]:
        """Return the keys of the toxics that act on it."""
        return frozenset() if self._relay is None else self._relay.active()

    def close(self) -> None:
        """Close both sockets now."""
        if self._relay is not None:
            self._relay.close()
        self._client.close()
        self._scope.cancel()

    def reset(self, side: Literal["both", "client", "server"] = "both") -> None:
        """Send an RST now."""
        if self._relay is not None:
            self._relay.reset(side)
        elif side != "server":
            self._client.reset()
            self._scope.cancel()

    async def _dial(self) -> End | None:
        """Return the end to the upstream; None, and the client is closed, if it cannot be had."""
        # the scope of all this ends with the client closed: one more for the dial would cost, and do the same
        self._scope.deadline = trio.current_time() + self.origin.shared.dial_s
        try:
            sock = await dial(self.origin.upstream)
        except (OSError, ValueError, AddressError):
            return None
        self._scope.deadline = math.inf
        self._server = self._counted(sock, "downstream", "upstream")
        return self._server

    async def _carry(self, entrance: Entrance, server: End) -> None:
        self._relay = Relay(
            ends={"client": self._client, "server": server},
            rng_for=self.origin.rng,
            end_policy=self.origin.shared.end_policy,
            caller=self.origin.shared.poller,
        )
        try:
            self._relay.replace(self._stages)
            await entrance.strip_upgrade(self._relay)
            await self._relay.run()
        finally:
            server.close()

    def _counted(self, sock: socket.socket, received: Stream, sent: Stream) -> CountedEnd:
        """Return an end that counts what comes from its peer as `received` and what goes to it as `sent`."""
        return CountedEnd(
            sock,
            incoming=(self.bytes[received], self.origin.counters[received]),
            outgoing=(self.bytes[sent], self.origin.counters[sent]),
        )
