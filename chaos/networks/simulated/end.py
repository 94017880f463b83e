"""An end of a link's connection on a simulated socket: the fabric calls it, so that no task waits."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Protocol

import trio

from chaos.faults.units import Data, Fin, Rst
from chaos.link.ends import READ_BYTES, WatchableEnd
from chaos.link.poller import Caller


class WatchedSocket(Protocol):
    """What an end needs of a simulated socket; `SimulatedSocket` says what each call does."""

    def watch(self, watcher: Callable[[], None] | None) -> None: ...
    def receive_now(self, buflen: int) -> bytes: ...
    def send_now(self, data: bytes | memoryview) -> int: ...
    async def wait_readable(self) -> None: ...
    async def wait_writable(self) -> None: ...
    def close(self) -> None: ...


class SimulatedEnd(WatchableEnd):
    """An end of a link's connection that owns a simulated socket."""

    def __init__(self, sock: WatchedSocket) -> None:
        super().__init__()
        self._socket: WatchedSocket = sock
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

    def send_now(self, payload: bytes | memoryview) -> int | None:
        try:
            return self._socket.send_now(payload)
        except OSError:
            self._peer_reset = True
            return None

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

    def close(self) -> None:
        if self.closed:
            return
        self.closed = True
        if self._watched is not None:
            caller, ready = self._watched
            self.unwatch()
            caller.call_soon(ready)
        self._socket.close()
