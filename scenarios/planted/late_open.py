"""An attempt that was given up opens after all, and nobody has told it that it is not wanted any more.

Rebuilds socketio/socket.io #430 and automerge/automerge-repo #200: the connect timeout starts a new attempt and
leaves the old one pending; its `open` handler runs later, beside the new connection. The mistake: the timeout ends
the wait, and not what was waited for. Only a handshake that takes longer than the timeout shows it.
"""

from __future__ import annotations

from typing import Any

import trio
from planted_base import GONE, Client, Ending, Wire


class Planted(Client):
    """Bounds how long it waits for an attempt, not how long the attempt goes on."""

    async def run(self) -> None:
        """Run attempts that may outlive their turn."""
        async with trio.open_nursery() as self.nursery:
            await super().run()

    async def attempt(self) -> Ending:
        """Wait for an attempt to end, or for the connect timeout if it does not open."""
        opened, over = trio.Event(), trio.Event()
        endings: list[Ending] = []
        self.nursery.start_soon(self.one_attempt, opened, over, endings)
        with trio.move_on_after(self.options["connect_timeout_s"]):
            await opened.wait()
        if opened.is_set():
            await over.wait()
        return endings[0] if endings else Ending()

    async def one_attempt(
        self, opened: trio.Event, over: trio.Event, endings: list[Ending]
    ) -> None:
        """Connect and live, however long it takes."""
        wire: Wire | None = None
        try:
            wire = await self.dial()
            refused = await self.open(wire)
            opened.set()
            started_s = trio.current_time()
            if refused is None:
                await self.live(wire)
                refused = Ending(lived_s=trio.current_time() - started_s, code=wire.code)
            endings.append(refused)
        except GONE:
            pass
        finally:
            opened.set()
            over.set()
            if wire is not None:
                await self.leave(wire)


async def client(url: str, **options: Any) -> None:
    """Run the client until cancelled."""
    await Planted(url, options).run()
