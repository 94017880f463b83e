"""Three clients with trio-websocket, in three styles. It has no heartbeat, so that each has one of its own."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import trio
from manners import Ending, Manners, Silent, first_of, handle, parts
from trio_websocket import (
    ConnectionClosed,
    ConnectionRejected,
    HandshakeError,
    WebSocketConnection,
    wrap_client_stream,
)

from chaos import subject

ENDS = (
    OSError,
    trio.ClosedResourceError,
    trio.BrokenResourceError,
    trio.TooSlowError,
    HandshakeError,
    ConnectionClosed,
    Silent,
)


def ending_of(group: BaseExceptionGroup[Any]) -> Ending:
    """Return what these exceptions say about the end."""
    refused = first_of(group, ConnectionRejected)
    if refused is not None:
        headers = dict(refused.headers or ())
        told = headers.get(b"retry-after")
        return Ending(status=refused.status_code, retry_after=told and told.decode())
    closed = first_of(group, ConnectionClosed)
    return Ending(code=closed.reason.code if closed is not None and closed.reason else None)


async def beat(ws: WebSocketConnection, manners: Manners) -> None:
    """Send a ping, wait for its pong, rest."""
    while True:
        await trio.sleep(manners.interval_s)
        with trio.move_on_after(manners.timeout_s) as wait:
            await ws.ping()
        if wait.cancelled_caught:
            raise Silent


# a loop, with a nursery for each connection. `open_websocket_url` would not do: a handshake that is never answered,
# and a connection that the server ends, leave their sockets open in trio-websocket 0.12.2


@subject(sends=True)
async def loop(url: str, **options: Any) -> None:
    """Keep a connection until cancelled."""
    manners = Manners(options)
    host, port, target = parts(url)

    async def once() -> Ending:
        ending = Ending()
        try:
            with trio.fail_after(manners.connect_timeout_s) as attempt:
                stream = await trio.open_tcp_stream(host, port)
                async with stream, trio.open_nursery() as nursery:
                    ws = await wrap_client_stream(nursery, stream, f"{host}:{port}", target)
                    attempt.deadline = float("inf")
                    manners.opened()
                    nursery.start_soon(beat, ws, manners)
                    nursery.start_soon(manners.send_all, ws.send_message)
                    while True:
                        handle(await ws.get_message())
        except* ENDS as group:
            ending = ending_of(group)
        return ending

    await manners.keep(once)


# a supervisor that owns the connections, and a channel from it to the program


@subject(sends=True)
async def supervisor(url: str, **options: Any) -> None:
    """Keep a connection until cancelled; messages are handled by a task that outlives connections."""
    manners = Manners(options)
    sender, receiver = trio.open_memory_channel[str](100)

    async def program() -> None:
        async for message in receiver:
            handle(message)

    async def once() -> Ending:
        ending = Ending()
        try:
            async with connected(url, manners) as ws, trio.open_nursery() as nursery:
                nursery.start_soon(beat, ws, manners)
                nursery.start_soon(manners.send_all, ws.send_message)
                while True:
                    await sender.send(await ws.get_message())
        except* ENDS as group:
            ending = ending_of(group)
        return ending

    async with trio.open_nursery() as nursery, sender, receiver:
        nursery.start_soon(program)
        await manners.keep(once)


@asynccontextmanager
async def connected(url: str, manners: Manners) -> AsyncIterator[WebSocketConnection]:
    """Give an open connection, and close its socket at the end, in whichever way that comes."""
    host, port, target = parts(url)
    async with trio.open_nursery() as reading:
        with trio.fail_after(manners.connect_timeout_s):
            stream = await trio.open_tcp_stream(host, port)
        try:
            with trio.fail_after(manners.connect_timeout_s):
                ws = await wrap_client_stream(reading, stream, f"{host}:{port}", target)
            manners.opened()
            yield ws
        finally:
            await trio.aclose_forcefully(stream)
            reading.cancel_scope.cancel()


# a class that manages its connection


class Manager:
    """Has at most one connection, and the tasks that belong to it."""

    def __init__(self, url: str, options: dict[str, Any]) -> None:
        self.url, self.manners = url, Manners(options)
        self.ending = Ending()

    async def connect_once(self) -> Ending:
        """Open, use and close a connection; return how it ended."""
        self.ending = Ending()
        try:
            async with connected(self.url, self.manners) as ws:
                await self.use(ws)
        except* ENDS as group:
            self.ending = ending_of(group)
        return self.ending

    async def use(self, ws: WebSocketConnection) -> None:
        """Run the tasks of a connection until one of them says that it is over."""
        async with trio.open_nursery() as self.tasks:
            self.tasks.start_soon(self.heartbeat, ws)
            self.tasks.start_soon(self.manners.send_all, ws.send_message)
            self.tasks.start_soon(self.read, ws)

    async def read(self, ws: WebSocketConnection) -> None:
        """Handle messages."""
        while True:
            handle(await ws.get_message())

    async def heartbeat(self, ws: WebSocketConnection) -> None:
        """End the tasks of a connection whose pong is late."""
        try:
            await beat(ws, self.manners)
        except Silent:
            self.tasks.cancel_scope.cancel()


@subject(sends=True)
async def manager(url: str, **options: Any) -> None:
    """Keep a connection until cancelled."""
    own = Manager(url, options)
    await own.manners.keep(own.connect_once)
