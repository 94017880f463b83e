"""A client with wsproto on a bare trio stream."""

from __future__ import annotations

from typing import Any

import trio
from manners import Ending, Manners, Silent, handle, parts
from wsproto import ConnectionType, WSConnection
from wsproto.events import (
    AcceptConnection,
    CloseConnection,
    Event,
    Message,
    Ping,
    Pong,
    RejectConnection,
    Request,
    TextMessage,
)
from wsproto.utilities import RemoteProtocolError

from chaos import subject

GONE = (OSError, trio.BrokenResourceError, trio.ClosedResourceError, EOFError, RemoteProtocolError)


@subject(sends=True)
async def client(url: str, **options: Any) -> None:
    """Keep a connection until cancelled."""
    manners = Manners(options)
    await manners.keep(lambda: Connection(url, manners).run())


class Connection:
    """One connection: a stream, wsproto's state, and what has come out of it."""

    def __init__(self, url: str, manners: Manners) -> None:
        self.url, self.manners = url, manners
        self.ws = WSConnection(ConnectionType.CLIENT)
        self.turn = trio.Lock()
        self.pongs = trio.Event()
        self.text: list[str] = []
        self.ended: Ending | None = None

    async def run(self) -> Ending:
        """Connect and live until the end."""
        host, port, target = parts(self.url)
        try:
            with trio.fail_after(self.manners.connect_timeout_s) as attempt:
                self.stream = await trio.open_tcp_stream(host, port)
                async with self.stream:
                    await self.send(Request(host=f"{host}:{port}", target=target))
                    while not await self.has_answer():
                        pass
                    if self.ended is not None:
                        return self.ended
                    attempt.deadline = float("inf")
                    self.manners.opened()
                    return await self.live()
        except* (*GONE, Silent, trio.TooSlowError):
            pass
        return self.ended or Ending()

    async def has_answer(self) -> bool:
        """Read once; tell whether the handshake is over."""
        for event in await self.receive():
            if isinstance(event, RejectConnection):
                headers = {name.lower(): value for name, value in event.headers}
                told = headers.get(b"retry-after")
                self.ended = Ending(status=event.status_code, retry_after=told and told.decode())
                return True
            if isinstance(event, AcceptConnection):
                return True
        return False

    async def receive(self) -> list[Event]:
        """Return what the next bytes complete."""
        data = await self.stream.receive_some(65536)
        self.ws.receive_data(data or None)
        if not data:
            raise EOFError
        return list(self.ws.events())

    async def send(self, event: Event) -> None:
        """Send an event."""
        async with self.turn:
            await self.stream.send_all(self.ws.send(event))

    async def live(self) -> Ending:
        """Send, beat and listen until the end."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self.manners.send_all, lambda text: self.send(TextMessage(text)))
            nursery.start_soon(self.beat)
            for event in self.ws.events():
                await self.take(event)
            while self.ended is None:
                for event in await self.receive():
                    await self.take(event)
            nursery.cancel_scope.cancel()
        return self.ended or Ending()

    async def take(self, event: Event) -> None:
        """Handle an event of an open connection."""
        if isinstance(event, Message):
            self.text.append(str(event.data))
            if event.message_finished:
                handle("".join(self.text))
                self.text.clear()
        elif isinstance(event, Ping):
            await self.send(event.response())
        elif isinstance(event, Pong):
            self.pongs.set()
        elif isinstance(event, CloseConnection):
            self.ended = Ending(code=event.code)
            await self.send(event.response())

    async def beat(self) -> None:
        """Send a ping, wait for its pong, rest."""
        while True:
            await trio.sleep(self.manners.interval_s)
            self.pongs = trio.Event()
            with trio.move_on_after(self.manners.timeout_s) as wait:
                await self.send(Ping(b"still there?"))
                await self.pongs.wait()
            if wait.cancelled_caught:
                raise Silent
