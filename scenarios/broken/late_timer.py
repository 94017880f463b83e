"""A client whose close timer outlives its socket and starts a second reconnection."""

from __future__ import annotations

from typing import Any

import trio
from plain import Client
from plain_wire import Ending


class Broken(Client):
    """Two things may start a reconnection: the end of the socket, and the timer that was set for it. Both do."""

    async def run(self) -> None:
        """Run the client, with a nursery for its timers."""
        async with trio.open_nursery() as self.nursery:
            await super().run()

    def delay_s(self, ending: Ending) -> float | None:
        """Return the next delay. The timer that bounds the closing handshake was set and is not cleared."""
        if ending.code is not None:
            self.nursery.start_soon(self.force_close)
        return super().delay_s(ending)

    async def force_close(self) -> None:
        """The closing handshake has taken too long: connect again."""
        await trio.sleep(3.0)
        await self.attempt()


async def client(url: str, **options: Any) -> None:
    """Run the client until cancelled."""
    await Broken(url, options).run()
