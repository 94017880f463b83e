"""Clients and servers that keep something of each connection, rightly or wrongly, in ways that are easy to miss."""

from __future__ import annotations

import socket
import sys
from collections import deque
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import anyio
import anyio.abc
import trio

sys.path.append(str(Path(__file__).parents[3] / "scenarios" / "broken"))

from plain import Client, Server
from plain_wire import Wire
from wsproto import ConnectionType, WSConnection

from chaos import subject

KEPT: list[Any] = []  # what a program holds in a global


class Session:
    """A connection object of nobody's library, which keeps no socket."""

    def __init__(self) -> None:
        self.state = "open"


class Connection:
    """No connection: one row of a history, of a class that is called so."""

    def __init__(self, row: Mapping[str, Any]) -> None:
        self.row = row


# wrong


class SystemTasks(Client):
    """The handler of each connection is a system task, and goes on after it."""

    async def live(self, wire: Wire) -> None:
        trio.lowlevel.spawn_system_task(trio.sleep_forever)
        await super().live(wire)


class ShieldedTasks(Client):
    """The handler of each connection is a system task that shields itself from being cancelled."""

    async def live(self, wire: Wire) -> None:
        trio.lowlevel.spawn_system_task(self.stay)
        await super().live(wire)

    async def stay(self) -> None:
        with trio.CancelScope(shield=True):
            await trio.sleep_forever()


class StdlibSockets(Client):
    """A socket of the standard library is made for each connection, handed to trio, and kept open."""

    async def live(self, wire: Wire) -> None:
        sock = socket.socket()
        sock.bind(("127.0.0.1", 0))
        KEPT.append(trio.socket.from_stdlib_socket(sock))
        await super().live(wire)


class Pairs(Client):
    """A pair of sockets is made for each connection, and kept open."""

    async def live(self, wire: Wire) -> None:
        KEPT.append(trio.socket.socketpair())
        await super().live(wire)


class AnyioStreams(Client):
    """Each connection is made with anyio, which the client never closes."""

    async def dial(self) -> Wire:
        stream: Any = await anyio.connect_tcp(str(self.host), int(self.port or 0))
        KEPT.append(stream)
        inner = trio.SocketStream(stream._trio_socket)
        return Wire(inner, ConnectionType.CLIENT)

    async def leave(self, wire: Wire) -> None:
        pass


class Closures(Client):
    """A callback is registered for each connection, and never taken back; it refers to its stream."""

    def __init__(self, url: str, options: Mapping[str, Any]) -> None:
        super().__init__(url, options)
        self.callbacks: list[Callable[[], str]] = []

    async def live(self, wire: Wire) -> None:
        stream = wire.stream
        self.callbacks.append(lambda: repr(stream))
        await super().live(wire)


class Sessions(Client):
    """An object of a class of its own is kept for each connection."""

    async def live(self, wire: Wire) -> None:
        KEPT.append(Session())
        await super().live(wire)


class Channels(Client):
    """A memory channel of each connection stays in a global."""

    async def live(self, wire: Wire) -> None:
        KEPT.append(trio.open_memory_channel[int](1))
        await super().live(wire)


class KeepsClients(Server):
    """The server keeps the connections of clients that have gone."""

    async def leave(self, wire: Wire) -> None:
        KEPT.append(wire)
        await super().leave(wire)


class AnyioServer(Server):
    """A server on anyio, which closes no stream of a client that has gone."""

    async def run(self, host: str, port: int, task_status: trio.TaskStatus[int]) -> None:
        listener: Any = await anyio.create_tcp_listener(local_host=host, local_port=port)
        task_status.started(listener.extra(anyio.abc.SocketAttribute.local_port))
        await listener.serve(self.keep)

    async def keep(self, stream: Any) -> None:
        KEPT.append(stream)
        await self.handle(trio.SocketStream(stream._trio_socket))

    async def leave(self, wire: Wire) -> None:
        pass


# right


class History(Client):
    """The last messages are kept, as objects of a class that is called `Connection`."""

    def __init__(self, url: str, options: Mapping[str, Any]) -> None:
        super().__init__(url, options)
        self.history: deque[Connection] = deque(maxlen=1000)

    async def handle(self, row: Mapping[str, Any]) -> None:
        self.history.append(Connection(row))
        await super().handle(row)


class InAGlobal(Client):
    """The application object is in a global, with its options, its channel and its last connection."""

    def __init__(self, url: str, options: Mapping[str, Any]) -> None:
        super().__init__(url, options)
        KEPT.append(self)
        self.inbox = trio.open_memory_channel[int](1)
        self.wire: Wire | None = None

    async def live(self, wire: Wire) -> None:
        self.wire = wire
        await super().live(wire)


class Pool(Client):
    """A pool of connections, which has the same size all the time and is closed in the end."""

    async def run(self) -> None:
        pool = [trio.socket.socketpair() for _ in range(3)]
        KEPT.extend(WSConnection(ConnectionType.CLIENT) for _ in range(3))
        try:
            await super().run()
        finally:
            for pair in pool:
                for sock in pair:
                    sock.close()


class Cache(Client):
    """The last connections are kept for a statistics page: three of them."""

    async def live(self, wire: Wire) -> None:
        STATISTICS.append(wire)
        await super().live(wire)


STATISTICS: deque[Wire] = deque(maxlen=3)


class SharedServer(Server):
    """The server's state is in the same global as the client's."""

    def __init__(self, options: Mapping[str, Any]) -> None:
        super().__init__(options)
        KEPT.append(self)


def client_of(kind: type[Client], *connections: type) -> Any:
    """Return a subject that runs a client of this class."""

    @subject(sends=True, connections=connections)
    async def client(url: str, **options: Any) -> None:
        await kind(url, options).run()

    return client


def server_of(kind: type[Server]) -> Any:
    """Return a subject that runs a server of this class."""

    @subject(sends=True)
    async def serve(host: str, port: int, *, task_status: Any, **options: Any) -> None:
        await kind(options).run(host, port, task_status)

    return serve


system_tasks, shielded_tasks = client_of(SystemTasks), client_of(ShieldedTasks)
stdlib_sockets, pairs, anyio_streams = map(client_of, (StdlibSockets, Pairs, AnyioStreams))
closures, channels = client_of(Closures), client_of(Channels)
sessions, sessions_unknown = client_of(Sessions, Session), client_of(Sessions)
history, in_a_global, pool, cache = map(client_of, (History, InAGlobal, Pool, Cache))
keeps_clients, anyio_server, shared_server = map(
    server_of, (KeepsClients, AnyioServer, SharedServer)
)
