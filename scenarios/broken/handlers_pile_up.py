"""A client that registers a handler at each connect and removes none."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from plain import Client
from plain_wire import Wire

from chaos import report


class Broken(Client):
    """`socket.on("connect", () => socket.on("message", handle))`, in Python."""

    def __init__(self, url: str, options: Mapping[str, Any]) -> None:
        super().__init__(url, options)
        self.handlers: list[Callable[[Mapping[str, Any]], None]] = []

    async def live(self, wire: Wire) -> None:
        """Register the handler, then use the connection to its end."""
        self.handlers.append(lambda row: report("message", id=row["id"], sender=row["sender"]))
        await super().live(wire)

    async def handle(self, row: Mapping[str, Any]) -> None:
        """Call every handler that was ever registered."""
        for handler in self.handlers:
            handler(row)


async def client(url: str, **options: Any) -> None:
    """Run the client until cancelled."""
    await Broken(url, options).run()
