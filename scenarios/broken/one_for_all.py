"""A server in which the failure of one client ends the connections of all."""

from __future__ import annotations

from typing import Any

import trio
from plain import Server
from plain_wire import GONE, Wire, answer
from wsproto import ConnectionType

from chaos import subject


class Broken(Server):
    """One nursery for all clients; a supervisor starts it again when it falls over."""

    async def run(self, host: str, port: int, task_status: trio.TaskStatus[int]) -> None:
        """Serve until cancelled, with a new nursery after each failure."""
        listeners = await trio.open_tcp_listeners(port, host=host)
        task_status.started(listeners[0].socket.getsockname()[1])
        async with listeners[0] as listener:
            while True:
                try:
                    async with trio.open_nursery() as nursery:
                        while True:
                            nursery.start_soon(self.handle, await listener.accept())
                except* GONE:
                    pass

    async def handle(self, stream: trio.SocketStream) -> None:
        """Serve one client; its end is everybody's error."""
        wire = Wire(stream, ConnectionType.SERVER)
        try:
            await answer(wire)
            await self.make_peer_of(wire).live(wire)
            raise trio.BrokenResourceError("the client is gone")
        finally:
            await self.leave(wire)

    def make_peer_of(self, wire: Wire) -> Any:
        """Return the peer of the client that this connection is of."""
        return self.peer(int(wire.path.rpartition("=")[2]))


@subject(sends=True)
async def serve(host: str, port: int, *, task_status: trio.TaskStatus[int], **options: Any) -> None:
    """Serve until cancelled."""
    await Broken(options).run(host, port, task_status)
