"""A connection on which the goodbye cannot be written is not closed.

Rebuilds alpacax/alpamon #443: `Close()` wrote a Close frame, returned early when that failed, and never reached the
line that closes the socket: one descriptor per reconnection. The mistake: the clean-up depends on a courtesy. A peer
that says goodbye, or only falls silent, leaves a connection that can be written to; one that resets does not.
"""

from __future__ import annotations

from typing import Any

import trio
from planted_base import GONE, Client, Wire
from wsproto.connection import ConnectionState
from wsproto.frame_protocol import CloseReason, FrameProtocol

# Descriptors stay open until somebody closes them: the garbage collector must not do it here either.
OPEN: list[Wire] = []


class Planted(Client):
    """Closes what it can part from politely."""

    async def leave(self, wire: Wire) -> None:
        """Write a Close frame and close the socket, the second only after the first."""
        if wire.protocol.state is ConnectionState.CONNECTING:
            await wire.aclose()
            return
        goodbye = FrameProtocol(client=True, extensions=[]).close(CloseReason.NORMAL_CLOSURE)
        with trio.move_on_after(0.1, shield=True):
            try:
                await wire.stream.send_all(goodbye)
            except GONE:
                OPEN.append(wire)
                return
        await wire.aclose()


async def client(url: str, **options: Any) -> None:
    """Run the client until cancelled."""
    OPEN.clear()
    await Planted(url, options).run()
