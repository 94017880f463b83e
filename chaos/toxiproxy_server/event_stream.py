"""Server-sent events (https://html.spec.whatwg.org/multipage/server-sent-events.html) of what happens in a server."""

from __future__ import annotations

from collections.abc import AsyncIterator

import trio
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from chaos.toxiproxy_server.events import Events, Happening
from chaos.toxiproxy_server.go.gojson import write

HEARTBEAT_S = 15.0
HEARTBEAT = b": still here\n\n"


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
        with self._events.listen() as happenings:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(_until_gone, receive, nursery.cancel_scope)
                await self._start(send)
                await _pass_on(happenings, send)
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _start(self, send: Send) -> None:
        await send(
            {
                "type": "http.response.start",
                "status": self.status_code,
                "headers": self.raw_headers,
            }
        )
        # the head goes out with the first bytes of the body
        await _send(send, b"retry: 2000\n\n")


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
