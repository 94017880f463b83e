"""A client whose heartbeat timers outlive their connections."""

from __future__ import annotations

from typing import Any

import trio
from plain import Client
from plain_wire import Wire


class Broken(Client):
    """`setInterval` without `clearInterval`."""

    async def run(self) -> None:
        """Run the client, with a nursery for its timers."""
        async with trio.open_nursery() as self.nursery:
            await super().run()

    async def heartbeat(self, wire: Wire, scope: trio.CancelScope) -> None:
        """Start a timer that looks at the connection for ever, beside the right heartbeat."""
        self.nursery.start_soon(self.tick, wire)
        await super().heartbeat(wire, scope)

    async def tick(self, wire: Wire) -> None:
        """Look whether the connection is idle, every second."""
        while True:
            await trio.sleep(1.0)


async def client(url: str, **options: Any) -> None:
    """Run the client until cancelled."""
    await Broken(url, options).run()
