"""A client that opens a new connection when a heartbeat fails, and leaves the old one alone."""

from __future__ import annotations

from typing import Any

import trio
from plain import Client
from plain_wire import GONE, Wire
from wsproto.events import Ping


class Broken(Client):
    """`ws = new WebSocket(url)` over the only reference to the old one, whose reader goes on."""

    async def run(self) -> None:
        """Run attempts that may outlive their turn."""
        async with trio.open_nursery() as self.nursery:
            await super().run()

    async def live(self, wire: Wire) -> None:
        """Use the connection until it ends, or until its heartbeat fails: then it is just forgotten."""
        over = trio.Event()
        self.nursery.start_soon(self.follow, wire, over)
        await over.wait()

    async def follow(self, wire: Wire, over: trio.Event) -> None:
        """Be the reader of one connection to its very end."""
        try:
            self.nursery.start_soon(self.watch, wire, over)
            await self.listen(wire)
        finally:
            over.set()
            await wire.aclose()

    async def watch(self, wire: Wire, over: trio.Event) -> None:
        """Ping; when a pong is late, open a new connection."""
        while not over.is_set() and await self.answers(wire):
            await trio.sleep(self.beat["interval_s"])
        over.set()

    async def leave(self, wire: Wire) -> None:
        """Forget the connection. Its socket stays as it is."""


async def client(url: str, **options: Any) -> None:
    """Run the client until cancelled."""
    await Broken(url, options).run()
