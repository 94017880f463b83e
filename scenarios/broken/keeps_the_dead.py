"""A server whose handlers only push: they never read, so that no ending of a client reaches them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import trio
from plain import Peer, Server
from plain_wire import Wire

from chaos import subject


class Pusher(Peer):
    """Reads in one task for the sake of pongs, pushes in another, and waits for the second only."""

    async def live(self, wire: Wire) -> None:
        """Push until pushing fails. Into a path that swallows everything it never does."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self.listen, wire)
            for line in self.options.get("workload", ()):
                nursery.start_soon(self.talk, wire, line)


class Broken(Server):
    """Serves everybody who was ever there."""

    def make_peer(self) -> Peer:
        """Return a peer that never notices anything."""
        return Pusher(self.options)


@subject(sends=True)
async def serve(host: str, port: int, *, task_status: trio.TaskStatus[int], **options: Any) -> None:
    """Serve until cancelled."""
    await Broken(options).run(host, port, task_status)
