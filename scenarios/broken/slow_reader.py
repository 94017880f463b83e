"""A client whose heartbeat times out because the application reads slowly."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import trio
from plain import Client


class Broken(Client):
    """Handles each message in the loop that reads: the pong waits behind all of them."""

    async def handle(self, row: Mapping[str, Any]) -> None:
        """Handle one message, which takes as long as a query to a database under load."""
        await super().handle(row)
        await trio.sleep(self.options.get("work_s", 0.5))


async def client(url: str, **options: Any) -> None:
    """Run the client until cancelled."""
    await Broken(url, options).run()
