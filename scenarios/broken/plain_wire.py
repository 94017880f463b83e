"""One WebSocket connection over TCP, written straight on wsproto: the ground that the broken subjects stand on.

Nothing here is broken, and nothing here comes from the project's own peers: a mistake shared by both would be
seen by neither.
"""

from __future__ import annotations

from dataclasses import dataclass

import trio
from wsproto import ConnectionType, WSConnection
from wsproto.events import AcceptConnection, CloseConnection, Event, RejectConnection, Request
from wsproto.utilities import LocalProtocolError

GONE = (trio.BrokenResourceError, trio.ClosedResourceError, OSError)


@dataclass(frozen=True, kw_only=True)
class Ending:
    """How an attempt ended: with a close code, a refused handshake, or (both None) with the TCP connection."""

    lived_s: float = 0.0
    code: int | None = None
    status: int | None = None
    retry_after_s: float = 0.0


class Wire:
    """Sends and receives wsproto events. `aclose` cuts the TCP connection; it never waits."""

    def __init__(self, stream: trio.abc.Stream, side: ConnectionType) -> None:
        self.stream = stream
        self.protocol = WSConnection(side)
        self.pong = trio.Event()
        self.code: int | None = None
        self.path = "/"
        self.text = ""  # the pieces of a text message that is not whole yet
        self.closing = False
        self.pending: list[Event] = []
        self._sending = trio.Lock()

    async def send(self, event: Event) -> None:
        """Send one event. Raises one of GONE when the connection is lost."""
        async with self._sending:
            if self.closing:
                raise trio.ClosedResourceError
            self.closing = isinstance(event, CloseConnection)
            try:
                data = self.protocol.send(event)
            except LocalProtocolError as error:  # the peer's Close has come, ours is on its way
                raise trio.ClosedResourceError from error
            await self.stream.send_all(data)

    async def receive(self) -> list[Event]:
        """Wait for bytes and return the events in them. Raises one of GONE at the end of the stream.

        Events that a caller puts back into `pending` are returned first.
        """
        if self.pending:
            events, self.pending = self.pending, []
            return events
        data = await self.stream.receive_some()
        if not data:
            raise trio.BrokenResourceError
        self.protocol.receive_data(bytes(data))
        return list(self.protocol.events())

    async def close(self, code: int, *, wait_s: float = 0.1) -> None:
        """Say goodbye if that takes no longer than `wait_s`."""
        with trio.move_on_after(wait_s):
            try:
                await self.send(CloseConnection(code=code))
            except GONE:
                return

    async def aclose(self) -> None:
        """Cut the TCP connection."""
        await trio.aclose_forcefully(self.stream)


async def ask(wire: Wire, host: str, target: str) -> Ending | None:
    """Do a client's handshake; return how it was refused, or None when the connection is open."""
    await wire.send(Request(host=host, target=target))
    while True:
        events = await wire.receive()
        while events:
            event = events.pop(0)
            if isinstance(event, AcceptConnection):
                wire.pending = events  # a first message may come together with the 101
                return None
            if isinstance(event, RejectConnection):
                headers = {bytes(name).lower(): bytes(value) for name, value in event.headers}
                told = headers.get(b"retry-after", b"0")
                return Ending(status=event.status_code, retry_after_s=float(told))


async def answer(wire: Wire) -> str:
    """Do a server's handshake; return the path that the client asked for."""
    while True:
        events = await wire.receive()
        while events:
            event = events.pop(0)
            if isinstance(event, Request):
                wire.pending = events
                await wire.send(AcceptConnection())
                wire.path = event.target
                return event.target
