"""A proxy: its listener, its toxics in order, and the connections that go through it."""

from __future__ import annotations

import logging
import socket
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import trio

from chaos.faults.machine import Key, acts_on_stream
from chaos.faults.pipe import Stage
from chaos.link.listener import Listener
from chaos.scenario.plan import STREAMS
from chaos.toxiproxy_server.address import (
    INHERITED,
    Address,
    AddressError,
    bound,
    keep,
    listen,
    printed,
    set_options,
)
from chaos.toxiproxy_server.connection import Counter, Origin, ProxiedConnection, SharedState
from chaos.toxiproxy_server.go.wire import ApiError, Toxic
from chaos.trace import Stream
from chaos.vocabulary import faults as words
from chaos.vocabulary.word import Word

LOG = logging.getLogger("trio-chaos.toxiproxy-server")


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
        self._listener = Listener()
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
        """Remove all toxics."""
        if self._toxics:
            names = list(self._toxics)
            self._toxics.clear()
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
