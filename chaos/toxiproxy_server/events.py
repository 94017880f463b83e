"""What happens in a server, told to whoever listens: bounded for each, so that nobody who is slow is waited for.

Over HTTP they are server-sent events (https://html.spec.whatwg.org/multipage/server-sent-events.html).
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

import trio
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from chaos.toxiproxy_server.go.gojson import write

Kind = Literal[
    "connection_opened",
    "connection_closed",
    "toxic_added",
    "toxic_changed",
    "toxic_removed",
    "proxy_created",
    "proxy_changed",
    "proxy_deleted",
    "timeline_started",
    "timeline_step",
    "timeline_ended",
]
Watcher = Callable[[Kind, Mapping[str, Any]], None]
LISTENERS_MAX = 100
HEARTBEAT_S = 15.0
HEARTBEAT = b": still here\n\n"
KEPT_MAX = 1000  # events that a listener may be behind before it is dropped


@dataclass(frozen=True, slots=True, kw_only=True)
class Happening:
    """One event; `number` counts from 1 over the server's life."""

    number: int
    kind: Kind
    fields: dict[str, Any]


class Events:
    """Takes events and passes them on. `tell` never waits; no method needs to be awaited."""

    def __init__(self, kept_max: int = KEPT_MAX) -> None:
        """Drop a listener that is more than `kept_max` events behind."""
        self._kept_max = kept_max
        self._told = 0
        self._listeners: dict[trio.MemorySendChannel[Happening], trio.CancelScope] = {}
        self._watchers: list[Watcher] = []

    def tell(self, kind: Kind, **fields: Any) -> None:
        """Pass an event on to those who listen now; who has no room left is dropped."""
        self._told += 1
        if self._listeners:
            happening = Happening(number=self._told, kind=kind, fields=fields)
            for channel in list(self._listeners):
                try:
                    channel.send_nowait(happening)
                except (trio.WouldBlock, trio.BrokenResourceError):
                    self._drop(channel)
        for watcher in list(self._watchers):
            watcher(kind, fields)

    @contextmanager
    def watch(self, watcher: Watcher) -> Iterator[None]:
        """Call `watcher` with each event, within `tell`: before anything comes of what happened."""
        self._watchers.append(watcher)
        try:
            yield
        finally:
            self._watchers.remove(watcher)

    def close(self) -> None:
        """End the stream of every listener."""
        for channel in list(self._listeners):
            self._drop(channel)

    @contextmanager
    def listen(self) -> Iterator[AsyncIterator[Happening]]:
        """Give the events from now on. The block is left early, quietly, when the listener is dropped."""
        sends, receives = trio.open_memory_channel[Happening](self._kept_max)
        with trio.CancelScope() as scope:
            self._listeners[sends] = scope
            try:
                yield receives
            finally:
                self._listeners.pop(sends, None)
                sends.close()
                receives.close()

    @property
    def listeners(self) -> int:
        """How many listen."""
        return len(self._listeners)

    def _drop(self, channel: trio.MemorySendChannel[Happening]) -> None:
        scope = self._listeners.pop(channel)
        channel.close()
        scope.cancel()


class EventStream(Response):
    """A response that goes on until the client goes, is too slow, or the server stops."""

    media_type = "text/event-stream"

    def __init__(self, events: Events) -> None:
        """Answer with the events from the moment on at which it is sent."""
        self.status_code = 200
        self.background = None
        self._events = events
        self.init_headers({"Cache-Control": "no-store"})

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send events; cancelling is safe."""
        start = {"type": "http.response.start", "status": 200, "headers": self.raw_headers}
        with self._events.listen() as happenings:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(_until_gone, receive, nursery.cancel_scope)
                await send(start)
                # the head goes out with the first bytes of the body
                await _send(send, b"retry: 2000\n\n")
                await _pass_on(happenings, send)
        await send({"type": "http.response.body", "body": b"", "more_body": False})


async def _pass_on(happenings: AsyncIterator[Happening], send: Send) -> None:
    while True:
        happening = None
        with trio.move_on_after(HEARTBEAT_S):
            happening = await anext(happenings, None)
            if happening is None:
                return  # dropped, or the server stops
        await _send(send, HEARTBEAT if happening is None else encode(happening))


async def _send(send: Send, part: bytes) -> None:
    await send({"type": "http.response.body", "body": part, "more_body": True})


def encode(happening: Happening) -> bytes:
    """Return an event as it goes over the wire; JSON has no line ends in it."""
    return (
        f"id: {happening.number}\nevent: {happening.kind}\ndata: {write(happening.fields)}\n\n"
    ).encode()


async def _until_gone(receive: Receive, scope: trio.CancelScope) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
    scope.cancel()
