"""A client that gives up after a few failed attempts and never comes back."""

from __future__ import annotations

from typing import Any

from plain import Client
from plain_wire import Ending


class Broken(Client):
    """Counts to four. Nobody is there to press reload."""

    def delay_s(self, ending: Ending) -> float | None:
        """Return the next delay, or None after four failures in a row."""
        return None if self.failures >= 4 else super().delay_s(ending)


async def client(url: str, **options: Any) -> None:
    """Run the client until cancelled."""
    await Broken(url, options).run()
