"""A proxy: its listener, its toxics in order, and the connections that go through it.

A connection is carried from its arrival to its end. Its bytes are counted where they move: per connection, and per
proxy for /metrics.
"""

from __future__ import annotations

import logging
import math
import socket
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from random import Random
from typing import Any, Literal

import trio

from chaos.faults.machine import Key, acts_on_stream
from chaos.faults.pipe import Stage
from chaos.faults.units import Data, Fin, Rst
from chaos.link.endings import EndPolicy
from chaos.link.ends import READ_BYTES, End, KernelEnd, SilentEnd
from chaos.link.entrance import Entrance
from chaos.link.listener import Listener
from chaos.link.poller import Poller
from chaos.link.relay import Relay
from chaos.scenario.plan import STREAMS, generator
from chaos.toxiproxy_server.address import (
    INHERITED,
    Address,
    AddressError,
    bound,
    dial,
    keep,
    listen,
    printed,
    set_options,
)
from chaos.toxiproxy_server.circles import Circles, Hop, Pair
from chaos.toxiproxy_server.events import Events
from chaos.toxiproxy_server.go.wire import ApiError, Toxic
from chaos.toxiproxy_server.shortage import Shortage, is_shortage
from chaos.trace import Stream
from chaos.vocabulary import faults as words
from chaos.vocabulary.word import Word

LOG = logging.getLogger("trio-chaos.toxiproxy-server")

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
    circles: Circles = field(default_factory=Circles)
    shortage: Shortage = field(default_factory=Shortage)
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
        self.came_from: Hop | None = None
        self._accepted: Pair = client, printed(sock.getsockname())
        self._dialed: Pair | None = None
        origin.shared.circles.note_accepted(self, self._accepted)

    @property
    def proxy(self) -> str:
        """The name of its proxy."""
        return self.origin.proxy

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
                if self._client.closed or await entrance.reject():
                    return
                swallowed = any(fault.swallows for _, fault in met)
                server = SilentEnd() if swallowed else await self._dial()
                if server is not None:
                    await self._carry(entrance, server)
        finally:
            self._client.close()
            self.origin.shared.circles.forget(accepted=self._accepted, dialed=self._dialed)

    def replace(self, stages: Stages) -> None:
        """Change what acts on it, now."""
        self._stages = stages
        if self._relay is not None:
            self._relay.replace(stages)

    def forget_resets(self) -> None:
        """Take back what resets of one side have left in force, from the next `replace` on."""
        if self._relay is not None:
            self._relay.forget_resets()

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
        shared = self.origin.shared
        self._scope.deadline = trio.current_time() + shared.dial_s
        try:
            sock = await dial(self.origin.upstream)
        except (OSError, ValueError, AddressError) as error:
            if isinstance(error, OSError) and is_shortage(error):
                shared.shortage.note(error)
            return None
        self._scope.deadline = math.inf
        self._server = self._counted(sock, "downstream", "upstream")
        if self._server.peer is not None:
            self._dialed = printed(sock.getsockname()), printed(self._server.peer)
            shared.circles.note_dialed(self, self._dialed)
        return self._server

    async def _carry(self, entrance: Entrance, server: End) -> None:
        self._relay = Relay(
            ends={"client": self._client, "server": server},
            rng_for=self.origin.rng,
            end_policy=self.origin.shared.end_policy,
            caller=self.origin.shared.poller,
            frees_forgotten=True,
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


class Proxy:
    """Constructed stopped. No method waits: what it changes has changed when it returns, on live connections too."""

    def __init__(self, *, name: str, listen: str, upstream: str, shared: SharedState) -> None:
        self.name = name
        self.listen = listen
        self.upstream = upstream
        self.shared = shared
        self._toxics: dict[str, tuple[str, Toxic]] = {}  # name → (key of its stages, toxic)
        self._made = 0
        self._accepted = 0
        self._listener: Listener | None = None
        self._address = Address(host="", port=0)  # where it listens
        self._scope = trio.CancelScope()
        self._connections: dict[int, ProxiedConnection] = {}

    @property
    def enabled(self) -> bool:
        """Whether it listens."""
        return self._listener is not None

    def body(self) -> dict[str, object]:
        """Return it as the API shows it."""
        return {
            "name": self.name,
            "listen": self.listen,
            "upstream": self.upstream,
            "enabled": self.enabled,
            "Logger": {},
            "toxics": [toxic.body() for toxic in self.toxics()],
        }

    def toxics(self) -> list[Toxic]:
        """Return its toxics: upstream ones first, then downstream ones, then those of both; as they were added."""
        rows = [toxic for _, toxic in self._toxics.values()]
        return sorted(rows, key=lambda row: (len(row.streams), row.streams[0] != "upstream"))

    def toxic(self, name: str) -> Toxic:
        """Return a toxic. Raises ApiError (404)."""
        if name not in self._toxics:
            raise ApiError("toxic not found", 404)
        return self._toxics[name][1]

    def start(self, address: Address) -> None:
        """Listen; `listen` becomes where it does. Does nothing if it is started. Raises AddressError."""
        if self._listener is not None:
            return
        sock = listen(address)
        self.listen = bound(sock)
        self._address = Address(host=address.host, port=int(sock.getsockname()[1]))
        self._listener = Listener(self.shared.shortage.note)
        self._accept_from(sock)
        self._scope = trio.CancelScope()
        self._refuse_or_admit()
        self.shared.nursery.start_soon(self._serve, self._listener, self._scope)

    def _accept_from(self, sock: socket.socket) -> None:
        assert self._listener is not None
        set_options(sock)  # those that the sockets it accepts are to have
        self._listener.listen(sock)

    def stop(self) -> None:
        """Refuse clients and close all connections."""
        if self._listener is None:
            return
        self._listener.close()
        self._listener = None
        for connection in list(self._connections.values()):
            connection.close()
        self._scope.cancel()

    def add(self, toxic: Toxic) -> None:
        """Add a toxic behind those of its stream."""
        self._made += 1
        key = f"{self._made}:{toxic.name}"
        self._toxics[toxic.name] = (key, toxic)
        if isinstance(toxic.settings, words.Reset):
            for connection in list(self._connections.values()):
                if connection.origin.rng("entrance", key).random() < toxic.toxicity:
                    connection.reset(toxic.settings.side)
        self._apply()
        self.shared.events.tell("toxic_added", proxy=self.name, toxic=toxic.body())

    def change(self, toxic: Toxic) -> None:
        """Give the toxic of this name new settings."""
        key, _ = self._toxics[toxic.name]
        self._toxics[toxic.name] = (key, toxic)
        self._apply()
        self.shared.events.tell("toxic_changed", proxy=self.name, toxic=toxic.body())

    def remove(self, name: str) -> None:
        """Remove a toxic. Raises ApiError (404)."""
        self.toxic(name)
        del self._toxics[name]
        self._apply()
        self.shared.events.tell("toxic_removed", proxy=self.name, name=name)

    def clear(self) -> None:
        """Remove all toxics, and what they have left behind."""
        names = list(self._toxics)
        self._toxics.clear()
        for connection in self._connections.values():
            connection.forget_resets()
        self._apply()
        for name in names:
            self.shared.events.tell("toxic_removed", proxy=self.name, name=name)

    def active(self, connection: ProxiedConnection) -> list[str]:
        """Return the names of the toxics that act on a connection."""
        keys = connection.active()
        return [toxic.name for key, toxic in self._toxics.values() if key in keys]

    def _apply(self) -> None:
        self._refuse_or_admit()
        stages = self._stages()
        for connection in list(self._connections.values()):
            connection.replace(stages)

    def _stages(self) -> dict[Stream, list[Stage]]:
        stages: dict[Stream, list[Stage]] = {stream: [] for stream in STREAMS}
        for key, toxic in self._toxics.values():
            if acts_on_stream(toxic.settings):
                for stream in toxic.streams:
                    stage = Stage(key=key, settings=toxic.settings, toxicity=toxic.toxicity)
                    stages[stream].append(stage)
        return stages

    def _refuse_or_admit(self) -> None:
        """Refuse clients if a toxic says so, else admit them; stop if somebody else has taken the port meanwhile."""
        listener = self._listener
        if listener is None:
            return
        rows = [toxic for _, toxic in self._toxics.values()]
        refuses = any(row.settings.refuses and row.toxicity > 0 for row in rows)
        if refuses and listener.listens:
            listener.refuse()
            listener.hold(keep(self._address))
        elif not refuses and not listener.listens:
            try:
                listener.hold(None)
                self._accept_from(listen(self._address))
            except AddressError as error:
                self.stop()
                LOG.warning("proxy %s is disabled: %s", self.name, error)

    async def _serve(self, listener: Listener, scope: trio.CancelScope) -> None:
        try:
            with scope:
                async with trio.open_nursery() as nursery:
                    await listener.serve(partial(self._arrived, nursery), self.shared.poller)
        finally:
            listener.close()

    def _arrived(self, nursery: trio.Nursery, sock: socket.socket, address: Any) -> None:
        if not INHERITED:
            set_options(sock)
        self._accepted += 1
        shared = self.shared
        labels = (self.listen, self.name, self.upstream)
        origin = Origin(
            proxy=self.name,
            upstream=self.upstream,
            number=self._accepted,
            shared=shared,
            counters={way: shared.totals.setdefault((way, *labels), Counter()) for way in STREAMS},
        )
        connection = ProxiedConnection(
            id_=shared.next_id(), origin=origin, sock=sock, client=printed(address)
        )
        self._connections[connection.id] = shared.connections[connection.id] = connection
        shared.events.tell(
            "connection_opened", id=connection.id, proxy=self.name, client=connection.client
        )
        nursery.start_soon(self._handle, connection)

    async def _handle(self, connection: ProxiedConnection) -> None:
        try:
            await connection.run(list(self._met_by(connection)), self._stages())
        except Exception:
            # a bug that one connection meets must not end the others
            LOG.exception("connection %d of proxy %s failed", connection.id, self.name)
        finally:
            del self._connections[connection.id]
            del self.shared.connections[connection.id]
            self.shared.events.tell(
                "connection_closed", id=connection.id, proxy=self.name, bytes=connection.moved()
            )

    def _met_by(self, connection: ProxiedConnection) -> Iterator[tuple[Key, Word]]:
        """Yield the faults that a connection meets which comes in now."""
        for key, toxic in self._toxics.values():
            draw: Callable[[], float] = connection.origin.rng("entrance", key).random
            settings = toxic.settings
            if settings.swallows:
                # its two streams draw by themselves, so only a certain one swallows the dial
                if len(toxic.streams) == len(STREAMS) and toxic.toxicity >= 1:
                    yield key, settings
            elif not acts_on_stream(settings) and draw() < toxic.toxicity:
                yield key, settings
