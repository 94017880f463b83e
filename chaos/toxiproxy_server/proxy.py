"""A proxy: its listener, its toxics in order, and the connections that go through it."""

from __future__ import annotations

import logging
import socket
from collections.abc import Callable
from dataclasses import dataclass, field

import trio

from chaos.faults.pipe import Stage
from chaos.link.connection import STREAMS, EndPolicy
from chaos.link.poller import Poller
from chaos.toxiproxy_server import entrance
from chaos.toxiproxy_server.address import Address, AddressError
from chaos.toxiproxy_server.carried import Carried, Origin
from chaos.toxiproxy_server.entrance import Entrance
from chaos.toxiproxy_server.events import Events
from chaos.toxiproxy_server.go.wire import ApiError, Toxic
from chaos.toxiproxy_server.listener import Listener
from chaos.toxiproxy_server.traffic import Counter, Totals
from chaos.trace import Stream
from chaos.vocabulary import faults as words

LOG = logging.getLogger("trio-chaos.toxiproxy-server")


@dataclass(kw_only=True)
class Ground:
    """What all proxies of a server share. Tasks of proxies live in `nursery`."""

    nursery: trio.Nursery
    seed: int
    ends_are: EndPolicy = "toxiproxy"
    dial_s: float = 30.0
    poller: Poller | None = None  # without one each connection has tasks that read
    totals: Totals = field(default_factory=Totals)
    connections: dict[int, Carried] = field(default_factory=dict)
    events: Events = field(default_factory=Events)
    _count: int = 0

    def next_id(self) -> int:
        """Return the number of the next connection of the server."""
        self._count += 1
        return self._count


class Proxy:
    """Constructed stopped. No method waits: what it changes has changed when it returns, on live connections too."""

    def __init__(self, *, name: str, listen: str, upstream: str, ground: Ground) -> None:
        self.name = name
        self.listen = listen
        self.upstream = upstream
        self.ground = ground
        self._toxics: dict[str, tuple[str, Toxic]] = {}  # name → (key of its stages, toxic)
        self._made = 0
        self._accepted = 0
        self._listener: Listener | None = None
        self._scope = trio.CancelScope()
        self._carried: dict[int, Carried] = {}
        self._counters: dict[Stream, Counter] = {}
        self._counted_for = ("", "")

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
        listener = Listener(address)
        self.listen = listener.address
        self._listener = listener
        self._scope = trio.CancelScope()
        self._see_to_refusal()
        self.ground.nursery.start_soon(self._serve, listener, self._scope)

    def stop(self) -> None:
        """Refuse clients and close all connections."""
        if self._listener is None:
            return
        self._listener.close()
        self._listener = None
        for carried in list(self._carried.values()):
            carried.close()
        self._scope.cancel()

    def add(self, toxic: Toxic) -> None:
        """Add a toxic behind those of its stream."""
        self._made += 1
        key = f"{self._made}:{toxic.name}"
        self._toxics[toxic.name] = (key, toxic)
        if isinstance(toxic.settings, words.Reset):
            for carried in list(self._carried.values()):
                if carried.origin.rng("entrance", key).random() < toxic.toxicity:
                    carried.reset(toxic.settings.side)
        self._apply()
        self.ground.events.tell("toxic_added", proxy=self.name, toxic=toxic.body())

    def change(self, toxic: Toxic) -> None:
        """Give the toxic of this name new settings."""
        key, _ = self._toxics[toxic.name]
        self._toxics[toxic.name] = (key, toxic)
        self._apply()
        self.ground.events.tell("toxic_changed", proxy=self.name, toxic=toxic.body())

    def remove(self, name: str) -> None:
        """Remove a toxic. Raises ApiError (404)."""
        self.toxic(name)
        del self._toxics[name]
        self._apply()
        self.ground.events.tell("toxic_removed", proxy=self.name, name=name)

    def clear(self) -> None:
        """Remove all toxics."""
        if self._toxics:
            names = list(self._toxics)
            self._toxics.clear()
            self._apply()
            for name in names:
                self.ground.events.tell("toxic_removed", proxy=self.name, name=name)

    def active(self, carried: Carried) -> list[str]:
        """Return the names of the toxics that act on a connection."""
        keys = carried.active()
        return [toxic.name for key, toxic in self._toxics.values() if key in keys]

    def _apply(self) -> None:
        self._see_to_refusal()
        stages = self._stages()
        for carried in list(self._carried.values()):
            carried.replace(stages)

    def _stages(self) -> dict[Stream, list[Stage]]:
        stages: dict[Stream, list[Stage]] = {stream: [] for stream in STREAMS}
        for key, toxic in self._toxics.values():
            if not isinstance(toxic.settings, entrance.FAULTS):
                for stream in toxic.streams:
                    stage = Stage(key=key, settings=toxic.settings, toxicity=toxic.toxicity)
                    stages[stream].append(stage)
        return stages

    def _see_to_refusal(self) -> None:
        if self._listener is None:
            return
        rows = [toxic for _, toxic in self._toxics.values()]
        if any(isinstance(row.settings, words.Refuse) and row.toxicity > 0 for row in rows):
            self._listener.refuse()
            return
        try:
            self._listener.admit()
        except AddressError as error:
            self.stop()
            LOG.warning("proxy %s is disabled: %s", self.name, error)

    async def _serve(self, listener: Listener, scope: trio.CancelScope) -> None:
        try:
            with scope:
                async with trio.open_nursery() as nursery:

                    def arrived(sock: socket.socket, client: str) -> None:
                        nursery.start_soon(self._handle, self._arrived(sock, client))

                    await listener.serve(arrived, self.ground.poller)
        finally:
            listener.close()

    def _arrived(self, sock: socket.socket, client: str) -> Carried:
        self._accepted += 1
        ground = self.ground
        addresses = self.listen, self.upstream
        if addresses != self._counted_for:
            self._counted_for = addresses
            self._counters = {
                way: ground.totals.of(
                    way, listen=self.listen, name=self.name, upstream=self.upstream
                )
                for way in STREAMS
            }
        origin = Origin(
            proxy=self.name,
            listen=self.listen,
            upstream=self.upstream,
            number=self._accepted,
            seed=ground.seed,
            ends_are=ground.ends_are,
            dial_s=ground.dial_s,
            poller=ground.poller,
            counters=self._counters,
        )
        carried = Carried(id_=ground.next_id(), origin=origin, sock=sock, client=client)
        self._carried[carried.id] = carried
        ground.connections[carried.id] = carried
        ground.events.tell(
            "connection_opened", id=carried.id, proxy=self.name, client=carried.client
        )
        return carried

    async def _handle(self, carried: Carried) -> None:
        try:
            await carried.run(self._entrance(carried), self._stages())
        except Exception:
            # a bug that one connection meets must not end the others
            LOG.exception("connection %d of proxy %s failed", carried.id, self.name)
        finally:
            del self._carried[carried.id]
            del self.ground.connections[carried.id]
            self.ground.events.tell(
                "connection_closed", id=carried.id, proxy=self.name, bytes=carried.moved()
            )

    def _entrance(self, carried: Carried) -> Entrance:
        """Return what the toxics do to a connection that comes in now."""
        met: list[words.Fault] = []
        for key, toxic in self._toxics.values():
            draw: Callable[[], float] = carried.origin.rng("entrance", key).random
            both = len(toxic.streams) == len(STREAMS)
            # the two streams of a blackhole draw by themselves, so only a certain one swallows the dial
            certain = both and toxic.toxicity >= 1
            if isinstance(toxic.settings, words.Blackhole):
                met += [toxic.settings] if certain else []
            elif isinstance(toxic.settings, entrance.FAULTS) and draw() < toxic.toxicity:
                met.append(toxic.settings)
        return entrance.entrance(met)
