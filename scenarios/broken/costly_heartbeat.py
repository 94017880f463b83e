"""A client that pings every 50 ms."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from plain import Client


class Broken(Client):
    """Took milliseconds for seconds, and nobody looked."""

    def __init__(self, url: str, options: Mapping[str, Any]) -> None:
        super().__init__(url, options)
        self.beat = {**options["heartbeat"], "interval_s": 0.05}


async def client(url: str, **options: Any) -> None:
    """Run the client until cancelled."""
    await Broken(url, options).run()
