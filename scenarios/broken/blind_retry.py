"""A client that comes back whatever it was told."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from plain import Client
from plain_wire import Ending


class Broken(Client):
    """Reads neither the close code nor the status: every ending is a network failure to it."""

    def delay_s(self, ending: Ending) -> float | None:
        """Back off politely, for ever."""
        return super().delay_s(replace(ending, code=None, status=None))


async def client(url: str, **options: Any) -> None:
    """Run the client until cancelled."""
    await Broken(url, options).run()
