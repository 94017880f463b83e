"""A client whose delays grow without a maximum."""

from __future__ import annotations

from typing import Any

from plain import Client


class Broken(Client):
    """Doubles for ever; after a long outage it stays away for hours."""

    def draw_s(self, failures: int) -> float:
        """Return a delay by the schedule, the maximum forgotten."""
        cap_s = self.plan["initial_s"] * self.plan["factor"] ** failures
        return self.random.uniform(cap_s / 2, cap_s)


async def client(url: str, **options: Any) -> None:
    """Run the client until cancelled."""
    await Broken(url, options).run()
