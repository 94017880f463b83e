"""What `open` starts ends after the connection does, and then says that all is well.

Rebuilds automerge/automerge-repo #200 and openclaw/openclaw #128809: the `open` handler has something to do first (it
loads state, it authenticates), and then notes that the client is connected. A connection that is lost meanwhile is
noted as lost before that. The health check says ok from then on, and nobody reconnects. The mistake: the handler does
not ask whether its connection is still the one. A Close frame cancels it; only a connection that is cut within a
moment of its 101 shows it.
"""

from __future__ import annotations

from typing import Any

import trio
from planted_base import Client, Ending, Wire

LOAD_S = 0.02


class Planted(Client):
    """Reconnects when it is not connected, and believes its own note of that."""

    connected = False

    async def run(self) -> None:
        """Run the client, with a nursery for its handlers."""
        async with trio.open_nursery() as self.nursery:
            await super().run()

    async def live(self, wire: Wire) -> None:
        """Call the `open` handler, use the connection to its end, note that it is over."""
        handler = trio.CancelScope()
        self.nursery.start_soon(self.on_open, handler)
        await super().live(wire)
        self.connected = False
        if wire.code is not None:
            handler.cancel()

    async def on_open(self, handler: trio.CancelScope) -> None:
        """Load what the application needs, then call the client connected."""
        with handler:
            await trio.sleep(LOAD_S)
            self.connected = True

    async def attempt(self) -> Ending:
        """Wait until there is a need, then connect."""
        while self.connected:  # noqa: ASYNC110 - it looks now and then, as the health check of the report did
            await trio.sleep(0.1)
        return await super().attempt()


async def client(url: str, **options: Any) -> None:
    """Run the client until cancelled."""
    await Planted(url, options).run()
