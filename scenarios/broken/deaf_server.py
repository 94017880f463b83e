"""A server without a heartbeat."""

from __future__ import annotations

from typing import Any

import trio
from plain import Peer, Server

from chaos import subject


class Broken(Server):
    """Believes in a connection until the kernel says otherwise."""

    def make_peer(self) -> Peer:
        """Return a peer that does not ping."""
        return Peer({**self.options, "heartbeat": None})


@subject(sends=True)
async def serve(host: str, port: int, *, task_status: trio.TaskStatus[int], **options: Any) -> None:
    """Serve until cancelled."""
    await Broken(options).run(host, port, task_status)
