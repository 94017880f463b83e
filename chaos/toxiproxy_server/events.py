"""What happens in a server, told to whoever listens: bounded for each, so that nobody who is slow is waited for.

Over HTTP they are server-sent events (https://html.spec.whatwg.org/multipage/server-sent-events.html).
"""

from __future__ import annotations

from collections import deque
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
LISTENERS_MAX = 1_000
HEARTBEAT_S = 15.0
HEARTBEAT = b": still here\n\n"
TURN_S = 0.001  # between the turns of two listeners
KEPT_MAX = 1000  # events that a listener may be behind before it is dropped


@dataclass(slots=True, kw_only=True)
class Happening:
    """One event; `number` counts from 1 over the server's life."""

    number: int
    kind: Kind
    fields: dict[str, Any]
    encoded: bytes = b""  # once `encode` has been asked for it


class Events:
    """Takes events and passes them on. `tell` never waits; no method needs to be awaited.

    What is told goes into one log, which listeners read when it is their turn: one is woken every `TURN_S`. So many
    listeners take no more of the server's time than few, but hear of an event a little later.
    """

    def __init__(self, kept_max: int = KEPT_MAX) -> None:
        """Drop a listener that is more than `kept_max` events behind."""
        self._kept_max = kept_max
        self._checked_every = max(1, kept_max // 10)
        self._log: deque[Happening] = deque(maxlen=kept_max + self._checked_every)
        self.told = 0
        self._listeners: dict[Listener, None] = {}
        self._caught_up: dict[Listener, None] = {}  # they wait, and have read everything
        self._behind: dict[Listener, None] = {}  # they wait for their turn
        self._has_turn: Listener | None = None
        self._watchers: list[Watcher] = []

    def tell(self, kind: Kind, **fields: Any) -> None:
        """Pass an event on to those who listen now; who is too far behind is dropped."""
        self.told += 1
        if self._listeners:
            self._log.append(Happening(number=self.told, kind=kind, fields=fields))
            if self.told % self._checked_every == 0:
                self._drop_laggards()
            self._behind.update(self._caught_up)
            self._caught_up.clear()
            self._give_turn()
        for watcher in list(self._watchers):
            watcher(kind, fields)

    def _drop_laggards(self) -> None:
        for listener in list(self._listeners):
            if self.told - listener.number > self._kept_max:
                self._drop(listener)

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
        for listener in list(self._listeners):
            self._drop(listener)

    @contextmanager
    def listen(self) -> Iterator[Listener]:
        """Give the events from now on. The block is left early, quietly, when the listener is dropped."""
        listener = Listener(self)
        with listener.scope:
            self._listeners[listener] = None
            try:
                yield listener
            finally:
                self._listeners.pop(listener, None)

    @property
    def listeners(self) -> int:
        """How many listen."""
        return len(self._listeners)

    def _drop(self, listener: Listener) -> None:
        del self._listeners[listener]
        listener.scope.cancel()

    # turns

    def wait_in_line(self, listener: Listener) -> None:
        """Have a listener woken when it is its turn."""
        line = self._behind if listener.number < self.told else self._caught_up
        line[listener] = None
        self._give_turn()

    def leave_line(self, listener: Listener) -> None:
        """Have a listener woken no more; if it has the turn, the next one gets it."""
        self._behind.pop(listener, None)
        self._caught_up.pop(listener, None)
        if self._has_turn is listener:
            self._has_turn = None
            self._give_turn()

    def _give_turn(self) -> None:
        if self._has_turn is None and self._behind:
            self._has_turn = next(iter(self._behind))
            del self._behind[self._has_turn]
            self._has_turn.woken.set()

    def behind(self, number: int) -> list[Happening]:
        """Return what was told after the event of this number."""
        count = min(self.told - number, len(self._log))
        return [self._log[index] for index in range(-count, 0)]


class Listener(AsyncIterator[Happening]):
    """Hears of events, one by one or as many as there are. One task only may wait at a time."""

    def __init__(self, events: Events) -> None:
        """Hear of what is told from now on."""
        self.number = events.told  # of the last event that was heard
        self.scope = trio.CancelScope()
        self.woken = trio.Event()
        self._events = events
        self._heard: deque[Happening] = deque()

    async def all(self) -> list[Happening]:
        """Wait until there are events, and return all of them. Cancelling loses none."""
        if not self._heard:
            self.woken = trio.Event()
            self._events.wait_in_line(self)
            try:
                await self.woken.wait()
                await trio.sleep(TURN_S)
            finally:
                self._events.leave_line(self)
            self._heard.extend(self._events.behind(self.number))
            self.number = self._events.told
        heard = list(self._heard)
        self._heard.clear()
        return heard

    async def __anext__(self) -> Happening:
        """Wait for the next event."""
        heard = deque(await self.all())
        first = heard.popleft()
        self._heard = heard
        return first


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
        with self._events.listen() as listener:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(_until_gone, receive, nursery.cancel_scope)
                await send(start)
                # the head goes out with the first bytes of the body
                await _send(send, b"retry: 2000\n\n")
                await _pass_on(listener, send)
        await send({"type": "http.response.body", "body": b"", "more_body": False})


async def _pass_on(listener: Listener, send: Send) -> None:
    while True:
        happenings: list[Happening] = []
        with trio.move_on_after(HEARTBEAT_S):
            happenings = await listener.all()
        await _send(send, b"".join(map(encode, happenings)) or HEARTBEAT)


async def _send(send: Send, part: bytes) -> None:
    await send({"type": "http.response.body", "body": part, "more_body": True})


def encode(happening: Happening) -> bytes:
    """Return an event as it goes over the wire, written once for all; JSON has no line ends in it."""
    if not happening.encoded:
        told = write(happening.fields)
        text = f"id: {happening.number}\nevent: {happening.kind}\ndata: {told}\n\n"
        happening.encoded = text.encode()
    return happening.encoded


async def _until_gone(receive: Receive, scope: trio.CancelScope) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
    scope.cancel()
