"""A client without jitter: all that lost the same server come back in the same instant."""

from __future__ import annotations

from typing import Any

from plain import Client


class Broken(Client):
    """Grows its delays and caps them, and draws nothing."""

    def draw_s(self, failures: int) -> float:
        """Return exactly the cap."""
        return min(self.plan["max_s"], self.plan["initial_s"] * self.plan["factor"] ** failures)


async def client(url: str, **options: Any) -> None:
    """Run the client until cancelled."""
    await Broken(url, options).run()
