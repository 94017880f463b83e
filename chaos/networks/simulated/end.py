"""An end of a link's connection on a simulated socket, and what calls it: the fabric."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

import trio

from chaos.faults.units import Data, Fin, Rst
from chaos.link.ends import READ_BYTES, WatchableEnd
from chaos.link.poller import Caller

if TYPE_CHECKING:
    from chaos.networks.simulated.fabric import Fabric, Timer
    from chaos.networks.simulated.sockets import SimulatedSocket


class FabricCaller:
    """Makes a link's calls on virtual time: at no cost in turns of the event loop."""

    def __init__(self, fabric: Fabric) -> None:
        self._fabric = fabric

    def call_soon(self, call: Callable[[], None]) -> None:
        """Call it now, once whoever runs has ended its turn."""
        self._fabric.soon(call)

    def call_at(self, at_s: float, call: Callable[[], None]) -> Timer:
        """Call it at a time of the run."""
        return self._fabric.at(at_s, call)

    def let_tasks_run(self) -> None:
        """Need nothing: tasks run before anything else happens."""


class SimulatedEnd(WatchableEnd):
    """Owns a simulated socket."""

    def __init__(self, sock: SimulatedSocket) -> None:
        super().__init__()
        self._socket: SimulatedSocket = sock
        self._watched: tuple[Caller, Callable[[], None]] | None = None

    def watch(self, caller: Caller, ready: Callable[[], None]) -> None:
        if self.closed:
            caller.call_soon(ready)
            return
        self._watched = caller, ready
        self._socket.watch(ready)

    def unwatch(self) -> None:
        if self._watched is not None:
            self._watched = None
            self._socket.watch(None)

    def receive_now(self, at_most: int = READ_BYTES) -> Data | Fin | Rst | None:
        if self.closed:
            return None
        try:
            payload = self._socket.receive_now(at_most)
        except BlockingIOError:
            raise
        except OSError:
            return Rst()
        return Data(payload) if payload else self._end()

    async def wait_readable(self) -> bool:
        return await self._wait(self._socket.wait_readable)

    async def wait_writable(self) -> bool:
        return await self._wait(self._socket.wait_writable)

    async def _wait(self, wait: Callable[[], Awaitable[None]]) -> bool:
        if self.closed:
            return False
        try:
            await wait()
        except trio.ClosedResourceError:
            return False
        return True

    def send_now(self, payload: bytes | memoryview) -> int | None:
        try:
            return self._socket.send_now(payload)
        except OSError:
            self._peer_reset = True
            return None

    def close(self) -> None:
        if self.closed:
            return
        self.closed = True
        if self._watched is not None:
            caller, ready = self._watched
            self.unwatch()
            caller.call_soon(ready)
        self._socket.close()
