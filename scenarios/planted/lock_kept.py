"""An attempt whose address cannot be resolved leaves the lock behind that keeps attempts apart.

Rebuilds pladaria/reconnecting-websocket #134 and #166: `_connectLock` is set, the URL provider throws, and the line
that releases the lock is never reached. From then on each attempt returns at once: the client is stuck for ever, and
reports no error. The mistake: no `finally`. Refused, reset and unanswered attempts release it; only a name that does
not resolve shows it.
"""

from __future__ import annotations

import socket
from typing import Any

import trio
from planted_base import Client, Ending


class Planted(Client):
    """Makes one attempt at a time, and releases the lock after those that got as far as a socket."""

    locked = False

    async def attempt(self) -> Ending:
        """Connect and live, unless an attempt is on its way."""
        if self.locked:
            return Ending()
        self.locked = True
        if await self.resolves():
            ending = await super().attempt()
            self.locked = False
            return ending
        return Ending()

    async def resolves(self) -> bool:
        """Ask for the address: the URL provider of the report."""
        try:
            await trio.socket.getaddrinfo(self.host, self.port, type=socket.SOCK_STREAM)
        except OSError:
            return False
        return True


async def client(url: str, **options: Any) -> None:
    """Run the client until cancelled."""
    await Planted(url, options).run()
