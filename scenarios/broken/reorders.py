"""A client that handles each message in a task of its own."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import trio
from plain import Client


class Broken(Client):
    """Every other message needs a look into the database; the next one does not wait for it."""

    async def run(self) -> None:
        """Run the client, with a nursery for its handlers."""
        async with trio.open_nursery() as self.nursery:
            await super().run()

    async def handle(self, row: Mapping[str, Any]) -> None:
        """Start handling one message."""
        self.nursery.start_soon(self.work, row)

    async def work(self, row: Mapping[str, Any]) -> None:
        """Handle one message in its own time."""
        await trio.sleep(0.3 if row["id"] % 2 else 0.0)
        await super().handle(row)


async def client(url: str, **options: Any) -> None:
    """Run the client until cancelled."""
    await Broken(url, options).run()
