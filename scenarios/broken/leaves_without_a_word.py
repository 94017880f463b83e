"""A client that cuts a connection without a Close frame."""

from __future__ import annotations

from typing import Any

from plain import Client
from plain_wire import Wire


class Broken(Client):
    """Parts from a dead peer in silence, though it cannot know that the peer hears nothing."""

    async def give_up(self, wire: Wire) -> None:
        """Say nothing; the socket is closed next."""


async def client(url: str, **options: Any) -> None:
    """Run the client until cancelled."""
    await Broken(url, options).run()
