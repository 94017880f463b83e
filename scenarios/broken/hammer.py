"""A client that tries again at once: no backoff."""

from __future__ import annotations

from typing import Any

from plain import Client


class Broken(Client):
    """Sleeps just long enough not to be seen in a profile."""

    def draw_s(self, failures: int) -> float:
        """Return the same short delay each time."""
        return 0.05


async def client(url: str, **options: Any) -> None:
    """Run the client until cancelled."""
    await Broken(url, options).run()
