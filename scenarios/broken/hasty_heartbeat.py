"""A client whose heartbeat calls a slow connection dead."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from plain import Client


class Broken(Client):
    """Waits an eighth of the stated timeout: enough on the developer's own network."""

    def __init__(self, url: str, options: Mapping[str, Any]) -> None:
        super().__init__(url, options)
        self.beat = {**options["heartbeat"], "timeout_s": options["heartbeat"]["timeout_s"] / 8}


async def client(url: str, **options: Any) -> None:
    """Run the client until cancelled."""
    await Broken(url, options).run()
