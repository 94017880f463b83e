"""Peers that do exactly what a test tells them, on memory streams and virtual time."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import pytest
import trio
import trio.testing
from wsproto import ConnectionType, WSConnection
from wsproto.connection import ConnectionState
from wsproto.events import AcceptConnection, Event, Ping, Request

from chaos.recorder import Recorder, Reporter, current_reporter

Handler = Callable[[Any], Awaitable[None]]


class Script:
    """One end of a WebSocket, driven event by event; pings are answered unless `mute`."""

    def __init__(self, stream: Any, kind: ConnectionType = ConnectionType.SERVER) -> None:
        self.stream = stream
        self.ws = WSConnection(kind)
        self.mute = False
        self.pings = 0
        self._events: Iterator[Event] = iter(())

    async def send(self, event: Event) -> None:
        await self.stream.send_all(self.ws.send(event))

    async def next(self) -> Event | None:
        """Return the next event that is not a ping, or None at the end of the stream."""
        while True:
            for event in self._events:
                if not isinstance(event, Ping):
                    return event
                self.pings += 1
                if not self.mute and self.ws.state is ConnectionState.OPEN:
                    await self.send(event.response())
            try:
                data = await self.stream.receive_some()
            except trio.BrokenResourceError:
                return None
            if not data:
                return None
            self.ws.receive_data(bytes(data))
            self._events = self.ws.events()

    async def accept(self) -> Script:
        assert isinstance(await self.next(), Request)
        await self.send(AcceptConnection())
        return self

    async def drain(self) -> None:
        while await self.next() is not None:
            pass

    @classmethod
    async def dial(cls, stream: Any, path: str = "/") -> Script:
        script = cls(stream, ConnectionType.CLIENT)
        await script.send(Request(host="test", target=path))
        assert isinstance(await script.next(), AcceptConnection)
        return script


@pytest.fixture
def script() -> type[Script]:
    return Script


class Wire:
    """Gives a client its streams; the other end of each goes to the next handler, the last one for ever."""

    def __init__(self, nursery: trio.Nursery, *handlers: Handler) -> None:
        self.nursery = nursery
        self.handlers = list(handlers)
        self.dialed_s: list[float] = []
        self.streams: list[Any] = []

    async def __call__(self) -> Any:
        await trio.lowlevel.checkpoint()
        ours, theirs = trio.testing.memory_stream_pair()
        self.dialed_s.append(trio.current_time())
        self.streams.append(ours)
        handler = self.handlers.pop(0) if len(self.handlers) > 1 else self.handlers[0]
        self.nursery.start_soon(handler, theirs)
        return ours


@pytest.fixture
def wire(nursery: trio.Nursery) -> Callable[..., Wire]:
    return lambda *handlers: Wire(nursery, *handlers)


@pytest.fixture
async def recorder() -> Recorder:
    """Records what is reported in the test's own tasks and their children."""
    recorder = Recorder(clock=trio.current_time)
    recorder.start()
    current_reporter.set(Reporter(recorder, "client", 1))
    return recorder
