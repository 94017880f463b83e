"""A client that pings and never asks for the pong, as OkHttp did until 2018."""

from __future__ import annotations

from typing import Any

from plain import Client
from plain_wire import GONE, Wire
from wsproto.events import Ping


class Broken(Client):
    """Its pings keep middleboxes awake. They detect nothing."""

    async def answers(self, wire: Wire) -> bool:
        """Send one ping, and call the peer alive because it could be sent."""
        try:
            await wire.send(Ping())
        except GONE:
            pass
        return True


async def client(url: str, **options: Any) -> None:
    """Run the client until cancelled."""
    await Broken(url, options).run()
