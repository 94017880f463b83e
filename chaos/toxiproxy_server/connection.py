"""One client's connection through a proxy, from its arrival to its end."""

from __future__ import annotations

import math
import socket
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from random import Random
from typing import Any, Literal

import trio

from chaos.faults.pipe import Stage
from chaos.link.connection import STREAMS, Connection, EndPolicy, Watch
from chaos.link.ends import End, SilentEnd
from chaos.link.poller import Poller
from chaos.recorder import Recorder
from chaos.scenario.plan import generator
from chaos.toxiproxy_server.address import AddressError, dial, printed
from chaos.toxiproxy_server.entrance import Entrance, reject, strip_head
from chaos.toxiproxy_server.traffic import CountedEnd, Counter
from chaos.trace import Stream

Stages = Mapping[Stream, Sequence[Stage]]


class _Nothing(Recorder):
    """Keeps nothing: what a connection without observers has to record."""

    def note(self, *_: Any, **__: Any) -> Any:
        return None


# no side is observed and nobody wants to know what was felt
UNWATCHED = Watch(
    recorder=_Nothing(clock=trio.current_time),
    client=0,
    sides=frozenset(),
    felt=lambda *_: None,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """Where a connection belongs: what its random draws and its counters derive from."""

    proxy: str
    listen: str
    upstream: str
    number: int  # counts from 1 in each proxy
    seed: int
    ends_are: EndPolicy
    dial_s: float
    poller: Poller | None
    counters: Mapping[Stream, Counter]

    def rng(self, stream: Stream | Literal["entrance"], key: str) -> Random:
        """Return the generator of a toxic on one stream of this connection."""
        return generator(self.seed, "toxiproxy-server", self.proxy, self.number, stream, key)


class Carried:
    """A connection with its two sockets. `run` carries it; `close` and `reset` end it at once."""

    def __init__(self, *, id_: int, origin: Origin, sock: socket.socket, client: str) -> None:
        self.id = id_
        self.origin = origin
        self.opened_s = trio.current_time()
        self.client = client
        self.bytes: dict[Stream, Counter] = {stream: Counter() for stream in STREAMS}
        self._client = self._counted(sock, "upstream", "downstream")
        self._server: CountedEnd | None = None
        self._connection: Connection | None = None
        self._stages: Stages = dict.fromkeys(STREAMS, ())
        self._scope = trio.CancelScope()

    @property
    def server(self) -> str:
        """The address of the upstream; empty as long as, or once, there is none."""
        address = None if self._server is None else self._server.peer
        return "" if address is None else printed(address)

    async def run(self, met: Entrance, stages: Stages) -> None:
        """Carry it until it is over; both sockets are closed then. Cancelling closes them at once."""
        self._stages = stages
        try:
            with self._scope:
                if met.slow_accept_s:
                    await trio.sleep(met.slow_accept_s)
                if met.rejects is not None:
                    await reject(self._client, met.rejects)
                    return
                server = SilentEnd() if met.swallows else await self._dial(met)
                if server is not None:
                    await self._carry(met, server)
        finally:
            self._client.close()

    def replace(self, stages: Stages) -> None:
        """Change what acts on it, now."""
        self._stages = stages
        if self._connection is not None:
            self._connection.replace(stages)

    def moved(self) -> dict[str, dict[str, int]]:
        """Return the bytes received and sent on each stream so far."""
        return {
            stream: {"received": counter.received, "sent": counter.sent}
            for stream, counter in self.bytes.items()
        }

    def active(self) -> frozenset[str]:
        """Return the keys of the toxics that act on it."""
        if self._connection is None:
            return frozenset()
        return self._connection.active("upstream") | self._connection.active("downstream")

    def close(self) -> None:
        """Close both sockets now."""
        if self._connection is not None:
            self._connection.close()
        self._client.close()
        self._scope.cancel()

    def reset(self, side: Literal["both", "client", "server"] = "both") -> None:
        """Send an RST now."""
        if self._connection is not None:
            self._connection.reset(side)
        elif side != "server":
            self._client.reset()
            self._scope.cancel()

    async def _dial(self, met: Entrance) -> End | None:
        """Return the end to the upstream; None, and the client is closed, if it cannot be had."""
        # the scope of all this ends with the client closed: one more for the dial would cost, and do the same
        self._scope.deadline = self.opened_s + met.slow_accept_s + self.origin.dial_s
        try:
            sock = await dial(self.origin.upstream)
        except (OSError, ValueError, AddressError):
            return None
        self._scope.deadline = math.inf
        self._server = self._counted(sock, "downstream", "upstream")
        return self._server

    async def _carry(self, met: Entrance, server: End) -> None:
        self._connection = Connection(
            number=self.id,
            ends={"client": self._client, "server": server},
            watch=UNWATCHED,
            rng_for=self.origin.rng,
            ends_are=self.origin.ends_are,
            caller=self.origin.poller,
        )
        try:
            self._connection.replace(self._stages)
            if met.strips is not None:
                await strip_head(self._connection, self._client, met.strips)
            await self._connection.run()
        finally:
            server.close()

    def _counted(self, sock: socket.socket, received: Stream, sent: Stream) -> CountedEnd:
        """Return an end that counts what comes from its peer as `received` and what goes to it as `sent`."""
        return CountedEnd(
            sock,
            incoming=(self.bytes[received], self.origin.counters[received]),
            outgoing=(self.bytes[sent], self.origin.counters[sent]),
        )
