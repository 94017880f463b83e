"""A client that does the closing handshake with a dead peer before it reconnects."""

from __future__ import annotations

from typing import Any

import trio
from plain import Client
from plain_wire import Wire


class Broken(Client):
    """`await ws.close()`, then reconnect: with a dead peer that is a wait for a timeout."""

    async def give_up(self, wire: Wire) -> None:
        """Send Close and wait for the answer, as a polite client does with a live peer."""
        await super().give_up(wire)
        await trio.sleep(self.options.get("close_wait_s", 6.0))


async def client(url: str, **options: Any) -> None:
    """Run the client until cancelled."""
    await Broken(url, options).run()
