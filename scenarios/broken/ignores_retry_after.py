"""A client that does not read Retry-After."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from plain import Client
from plain_wire import Ending


class Broken(Client):
    """Backs off by its own schedule only."""

    def delay_s(self, ending: Ending) -> float | None:
        """Return the schedule's delay, whatever the server asked for."""
        return super().delay_s(replace(ending, retry_after_s=0.0))


async def client(url: str, **options: Any) -> None:
    """Run the client until cancelled."""
    await Broken(url, options).run()
