"""A client that drops messages when its queue is full."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import trio
from plain import Client


class Broken(Client):
    """Reads fast and hands over through a queue of four; the application takes 20 ms for each message."""

    async def run(self) -> None:
        """Run the client, and the application behind its queue."""
        async with trio.open_nursery() as nursery:
            self.queue, rows = trio.open_memory_channel[Mapping[str, Any]](4)
            nursery.start_soon(self.work, rows)
            with self.queue:
                await super().run()

    async def work(self, rows: trio.MemoryReceiveChannel[Mapping[str, Any]]) -> None:
        """Handle messages one by one."""
        with rows:
            async for row in rows:
                await trio.sleep(0.02)
                await super().handle(row)

    async def handle(self, row: Mapping[str, Any]) -> None:
        """Hand one message over, if there is room."""
        try:
            self.queue.send_nowait(row)
        except trio.WouldBlock:
            return


async def client(url: str, **options: Any) -> None:
    """Run the client until cancelled."""
    await Broken(url, options).run()
