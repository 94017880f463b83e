"""A client without a heartbeat: nothing tells it that the path is dead."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from plain import Client


class Broken(Client):
    """Waits for the network to say that it is gone. A dead path says nothing."""

    def __init__(self, url: str, options: Mapping[str, Any]) -> None:
        super().__init__(url, options)
        self.beat = None


async def client(url: str, **options: Any) -> None:
    """Run the client until cancelled."""
    await Broken(url, options).run()
