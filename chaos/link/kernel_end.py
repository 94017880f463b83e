"""An end on a socket of the kernel, without TLS: bytes are read and written with nothing in between."""

from __future__ import annotations

import os
import socket
from collections.abc import Awaitable, Callable
from contextlib import AbstractContextManager
from typing import Any

import trio

from chaos.faults.units import Data, Fin, Rst
from chaos.link.aside import aside
from chaos.link.caller import Caller
from chaos.link.ends import READ_BYTES, BareEnd
from chaos.link.poller import Poller


class KernelEnd(BareEnd):
    """Owns a socket that does not block. Waits by trio, or is watched by a poller."""

    def __init__(self, sock: socket.socket) -> None:
        super().__init__()
        self._socket: socket.socket = sock
        self._waits = 0  # how many tasks wait for the socket
        self._watched: tuple[Poller, Callable[[], None]] | None = None

    @property
    def fileno(self) -> int:
        """The number of the socket; negative once it is closed."""
        return self._socket.fileno()

    @property
    def peer(self) -> tuple[Any, ...] | None:
        """The peer's address, or None when the socket no longer knows it."""
        try:
            return tuple(self._socket.getpeername())
        except OSError:
            return None

    def watch(self, caller: Caller, ready: Callable[[], None]) -> None:
        if self.closed:
            caller.soon(ready)
            return
        assert isinstance(caller, Poller), "what the kernel knows only a poller can watch"
        caller.watch(self.fileno, ready)
        self._watched = caller, ready

    def unwatch(self) -> None:
        if self._watched is not None:
            poller, _ = self._watched
            self._watched = None
            poller.forget(self.fileno)

    async def wait_readable(self) -> bool:
        return await self._wait(trio.lowlevel.wait_readable)

    async def wait_writable(self) -> bool:
        return await self._wait(trio.lowlevel.wait_writable)

    def receive_now(self, at_most: int = READ_BYTES) -> Data | Fin | Rst | None:
        if self.closed:
            return None
        try:
            payload = os.read(self.fileno, at_most)
        except BlockingIOError:
            raise
        except OSError:
            self.finished = True
            return Rst()
        return Data(payload) if payload else self._end()

    async def _wait(self, what: Callable[[int], Awaitable[None]]) -> bool:
        if self.closed:
            return False
        self._waits += 1
        try:
            await what(self.fileno)
        except trio.ClosedResourceError:
            return False
        finally:
            self._waits -= 1
        return True

    def send_now(self, payload: bytes | memoryview) -> int | None:
        try:
            return os.write(self.fileno, payload)
        except BlockingIOError:
            return 0
        except OSError:
            self._peer_reset = True
            return None

    def aside(self) -> AbstractContextManager[Callable[[], None]]:
        """Return what keeps this thread out of the way of who sends; see `chaos.link.aside`."""
        return aside(self._socket)

    def note_moved(self, *, received: int = 0, sent: int = 0) -> None:
        """Note bytes that went beside this. Does nothing; for those who count."""

    def close(self) -> None:
        if self.closed:
            return
        self.closed = True
        if self._watched is not None:
            poller, ready = self._watched
            self.unwatch()
            poller.soon(ready)
        if self._waits:
            trio.lowlevel.notify_closing(self._socket)
        self._socket.close()


def end_of(stream: trio.SocketStream) -> BareEnd:
    """Return an end that owns what a stream has owned. A socket that no kernel knows brings its own (`end`)."""
    own: Callable[[], BareEnd] | None = getattr(stream.socket, "end", None)
    return KernelEnd(detached(stream)) if own is None else own()


def detached(stream: trio.SocketStream) -> socket.socket:
    """Return the kernel's socket of a stream, which has it no more."""
    return socket.socket(fileno=stream.socket.detach())
