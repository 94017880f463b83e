"""Parting from a dead peer waits for its answer, without a limit.

Rebuilds slackapi/node-slack-sdk #2709: after a change of the library below there was neither `terminate` nor a close
timeout, and `disconnect()` waited for ever for the closing handshake of a peer that was gone. The mistake: the
closing handshake is not bounded. A peer that is only slow answers; only one that never will shows it.
"""

from __future__ import annotations

from typing import Any

import trio
from planted_base import Client, Wire


class Planted(Client):
    """Says goodbye to whom it has just declared dead, and waits for the reply."""

    async def listen(self, wire: Wire) -> None:
        """Read until the connection ends, and say so."""
        self.ended = trio.Event()
        await super().listen(wire)
        self.ended.set()

    async def give_up(self, wire: Wire) -> None:
        """Send Close and wait until the connection ends."""
        await super().give_up(wire)
        await self.ended.wait()


async def client(url: str, **options: Any) -> None:
    """Run the client until cancelled."""
    await Planted(url, options).run()
