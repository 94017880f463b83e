"""A client that gives a dead connection up with 1000, the code for a job well done."""

from __future__ import annotations

from typing import Any

from plain import Client
from plain_wire import Wire


class Broken(Client):
    """Calls `close()` without arguments, whatever the reason."""

    async def give_up(self, wire: Wire) -> None:
        """Part from a dead peer with the default code."""
        await wire.close(1000)


async def client(url: str, **options: Any) -> None:
    """Run the client until cancelled."""
    await Broken(url, options).run()
