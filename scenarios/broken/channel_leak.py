"""A client that keeps the memory channel of every connection that it ever had."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import trio
from plain import Client
from plain_wire import Wire


class Broken(Client):
    """A list of subscribers that only grows."""

    def __init__(self, url: str, options: Mapping[str, Any]) -> None:
        super().__init__(url, options)
        self.subscribers: list[tuple[Any, Any]] = []

    async def live(self, wire: Wire) -> None:
        """Subscribe, then use the connection to its end."""
        self.subscribers.append(trio.open_memory_channel[Mapping[str, Any]](16))
        await super().live(wire)

    async def handle(self, row: Mapping[str, Any]) -> None:
        """Pass one message to the newest subscriber, who takes it at once."""
        sender, receiver = self.subscribers[-1]
        sender.send_nowait(row)
        await super().handle(receiver.receive_nowait())


async def client(url: str, **options: Any) -> None:
    """Run the client until cancelled."""
    await Broken(url, options).run()
