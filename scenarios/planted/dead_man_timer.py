"""The timer that waits for the next pong outlives its connection, and terminates the next one.

Rebuilds perspective-dev/perspective #2146 (the ping timer was not cleared on terminate): each ping sets a timer that
terminates `this.ws` unless the next pong clears it. The mistake: the end of a connection does not clear it, and
`this.ws` is by then another. Only a client that is back before the timer is over shows it.
"""

from __future__ import annotations

from typing import Any

import trio
from planted_base import GONE, Client, Wire
from wsproto.events import Ping


class Planted(Client):
    """Has one timer per ping, and one field for the connection."""

    wire: Wire | None = None

    async def run(self) -> None:
        """Run the client, with a nursery for its timers."""
        async with trio.open_nursery() as self.nursery:
            await super().run()

    async def live(self, wire: Wire) -> None:
        """Remember the connection, and use it to its end."""
        self.wire = wire
        await super().live(wire)

    async def heartbeat(self, wire: Wire, scope: trio.CancelScope) -> None:
        """Ping, and set the timer anew with each pong."""
        while True:
            pong = wire.pong = trio.Event()
            self.nursery.start_soon(self.timer, pong)
            try:
                await wire.send(Ping())
            except GONE:
                return
            await pong.wait()
            await trio.sleep(self.beat["interval_s"])

    async def timer(self, pong: trio.Event) -> None:
        """Terminate the connection unless a ping after this one is answered: three seconds, as it happens."""
        await trio.sleep(self.beat["interval_s"] + self.beat["timeout_s"])
        wire = self.wire
        if wire is not None and (not pong.is_set() or wire.pong is pong):
            await wire.aclose()


async def client(url: str, **options: Any) -> None:
    """Run the client until cancelled."""
    await Planted(url, options).run()
