"""A ping that is on its way when the connection ends is waited for for ever.

Rebuilds python-websockets #464 (and trio-websocket 0.12, whose `ping()` never wakes): nothing wakes who waits for a
pong when the connection that should bring it is gone. The client joins its heartbeat before it reconnects, and so
never does. The mistake: the end of a connection is no answer to its pending pings. A silent peer is noticed by a
watchdog of its own, so that only an end that comes between ping and pong shows it: some milliseconds of each second.
"""

from __future__ import annotations

from typing import Any

import trio
from planted_base import Client, Wire
from wsproto.events import Ping


class Planted(Client):
    """Reads, and when reading is over, waits for its heartbeat to end too."""

    async def live(self, wire: Wire) -> None:
        """Use the connection to its end, then join the heartbeat."""
        self.over, self.beating = trio.Event(), trio.Event()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self.beats, wire)
            for line in self.options.get("workload", ()):
                if line["sender"] == self.side:
                    nursery.start_soon(self.talk, wire, line)
            nursery.start_soon(self.watch, wire, nursery.cancel_scope)
            await self.listen(wire)
            self.over.set()
            await self.beating.wait()
            nursery.cancel_scope.cancel()

    async def beats(self, wire: Wire) -> None:
        """Ping and wait for the pong, until the connection is over."""
        try:
            while not self.over.is_set():
                wire.pong = trio.Event()
                await wire.send(Ping())
                await wire.pong.wait()
                with trio.move_on_after(self.beat["interval_s"]):
                    await self.over.wait()
        except OSError:
            pass
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            pass
        finally:
            self.beating.set()

    async def watch(self, wire: Wire, scope: trio.CancelScope) -> None:
        """Give up a peer that answers no ping in time."""
        while not self.over.is_set():
            asked, since_s = wire.pong, trio.current_time()
            limit_s = self.beat["interval_s"] + self.beat["timeout_s"]
            while asked is wire.pong and not self.over.is_set():
                await trio.sleep(0.1)
                if trio.current_time() - since_s > limit_s and not asked.is_set():
                    if self.over.is_set():
                        return
                    await self.give_up(wire)
                    scope.cancel()
                    return


async def client(url: str, **options: Any) -> None:
    """Run the client until cancelled."""
    await Planted(url, options).run()
