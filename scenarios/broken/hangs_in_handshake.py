"""A client that waits for the answer to its handshake for ever."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from plain import Client


class Broken(Client):
    """Has a heartbeat for connections, and nothing for those that never become one."""

    def __init__(self, url: str, options: Mapping[str, Any]) -> None:
        super().__init__(url, {**options, "connect_timeout_s": float("inf")})


async def client(url: str, **options: Any) -> None:
    """Run the client until cancelled."""
    await Broken(url, options).run()
