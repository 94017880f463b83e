"""The close event of an old connection tears down the state of the new one.

Rebuilds JKHeadley/instar #1076: a socket that its heartbeat had given up reported its close when the next connection
was long open. The handler set `this.ws = null` whoever called, so that the next reconnect left an open orphan: 5,075
refusals for too many connections in 74 minutes. The mistake: the handler does not ask whose close it is. Only a
connection that is given up and dies later, when the next one is open, shows it.
"""

from __future__ import annotations

from typing import Any

import trio
from planted_base import Client, Ending, Wire

CLOSE_WAIT_S = 4.0


class Planted(Client):
    """Closes what it gave up in the background; each close event makes it connect again."""

    wire: Wire | None = None

    async def run(self) -> None:
        """Run the client, with a nursery for what is still closing."""
        async with trio.open_nursery() as self.nursery:
            await super().run()

    async def attempt(self) -> Ending:
        """Connect and live until somebody says that the connection has closed."""
        self.closed = trio.Event()
        endings: list[Ending] = []
        self.nursery.start_soon(self.one_connection, endings)
        await self.closed.wait()
        return endings[0] if endings else Ending()

    async def one_connection(self, endings: list[Ending]) -> None:
        """Be one connection, from the dial to the close event."""
        endings.append(await super().attempt())
        self.closed.set()  # of whichever connection is the one now

    async def give_up(self, wire: Wire) -> None:
        """Give up a silent peer: connect again at once, and let the closing handshake take its time."""
        self.closed.set()
        await super().give_up(wire)
        await trio.sleep(CLOSE_WAIT_S)


async def client(url: str, **options: Any) -> None:
    """Run the client until cancelled."""
    await Planted(url, options).run()
