"""A client that takes an open connection for a success, so that accept-then-close makes it storm."""

from __future__ import annotations

from typing import Any

from plain import Client
from plain_wire import Ending, Wire


class Broken(Client):
    """Resets its backoff when the 101 arrives instead of after a while of use."""

    async def open(self, wire: Wire) -> Ending | None:
        """Do the handshake, and start the schedule over if it worked."""
        refused = await super().open(wire)
        if refused is None:
            self.failures = 0
        return refused


async def client(url: str, **options: Any) -> None:
    """Run the client until cancelled."""
    await Broken(url, options).run()
