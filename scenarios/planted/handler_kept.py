"""A message handler is removed when a connection says goodbye, and kept when it just ends.

Rebuilds Digital-Alchemy/hass #14 and socketio/socket.io #758: listeners are added per connection and removed in one
of the ways out only, so that each message is handled twice after the first connection that took another. The
mistake: the clean-up stands in the branch for Close frames instead of in a `finally`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from planted_base import Client, Wire

from chaos import report

Handler = Callable[[Mapping[str, Any]], None]


class Planted(Client):
    """Has a list of handlers, one per connection that was ever open and one too few removals."""

    def __init__(self, url: str, options: Mapping[str, Any]) -> None:
        super().__init__(url, options)
        self.handlers: list[Handler] = []

    async def live(self, wire: Wire) -> None:
        """Add the handler, use the connection, and remove the handler after a Close."""

        def handler(row: Mapping[str, Any]) -> None:
            report("message", id=row["id"], sender=row["sender"])

        self.handlers.append(handler)
        await super().live(wire)
        if wire.code is not None:
            self.handlers.remove(handler)

    async def handle(self, row: Mapping[str, Any]) -> None:
        """Call every handler that is there."""
        for handler in self.handlers:
            handler(row)


async def client(url: str, **options: Any) -> None:
    """Run the client until cancelled."""
    await Planted(url, options).run()
