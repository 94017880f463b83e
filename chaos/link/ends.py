"""An end of a connection: the socket between the link and one peer, on which FIN, RST and death are told apart.

There is a kind of end for the kernel's sockets, one for TLS, and one without a peer; the simulation has its own. An
end that is closed stays closed: reading it gives None, sending on it fails. Only a direction of a relay reads and
writes an end.
"""

from __future__ import annotations

import errno
import os
import socket
import struct
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable
from typing import Any

import trio

from chaos.faults.units import Data, Fin, Rst
from chaos.link.poller import Caller, Poller

# Large enough for most, and allocated only while bytes are being read: an idle connection holds none.
READ_BYTES = 64 * 1024
# for bulk that nobody looks at: an eighth of the turns
BULK_READ_BYTES = 512 * 1024
# of socket(7); negative where there is none
SO_INCOMING_CPU: int = getattr(socket, "SO_INCOMING_CPU", -1)
_RST_ON_CLOSE = struct.pack("ii", 1, 0)


class End(ABC):
    """An end towards one peer. Close it with `close` or `reset`; both are idempotent and never wait."""

    def __init__(self) -> None:
        self.closed = False

    @property
    def port(self) -> int | None:
        """The peer's port, or None when nobody knows it."""
        return None

    @abstractmethod
    async def receive(self, at_most: int = READ_BYTES) -> Data | Fin | Rst | None:
        """Wait for the next bytes or the end of the stream; None when we closed it. Cancelling loses nothing."""

    @abstractmethod
    def send_now(self, payload: bytes | memoryview) -> int | None:
        """Send as many of the bytes as are taken at once, and return how many that was; None when the peer is gone.

        This never waits, and is no checkpoint. No task may be in `send` meanwhile. TLS takes nothing this way.
        """

    @abstractmethod
    async def send(self, payload: bytes | memoryview) -> bool:
        """Send all of it; return False when the peer is gone. A cancelled send leaves the stream unusable."""

    def send_fin(self) -> None:  # noqa: B027 - an end without a socket has nobody to tell
        """Half-close. A TLS stream cannot: its close_notify ends both ways, so the socket's FIN is sent alone."""

    @abstractmethod
    def close(self) -> None:
        """Close it: FIN, or RST if unread bytes are left in the socket (the kernel's rule)."""

    def reset(self) -> None:
        """Close it with an RST (SO_LINGER 0)."""
        self.close()


class SocketEnd(End):
    """An end that owns a socket."""

    _socket: Any  # of the kernel, of trio or simulated: each kind of end declares its own
    _peer_reset = False

    @property
    def port(self) -> int | None:
        try:
            return int(self._socket.getpeername()[1])
        except OSError:
            return None

    def note_reset(self) -> None:
        """Note that the peer is gone: something that used the socket beside this end has found out."""
        self._peer_reset = True

    def _end(self) -> Fin | Rst:
        # a pending socket error is reported once: if a send got it, a read sees a bare end of stream
        return Rst() if self._peer_reset else Fin()

    def send_fin(self) -> None:
        try:
            self._socket.shutdown(socket.SHUT_WR)
        except OSError:
            self._peer_reset = True

    def reset(self) -> None:
        if not self.closed:
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RST_ON_CLOSE)
            self.close()


class WatchableEnd(SocketEnd):
    """An end whose socket carries the bytes as they are. It can be watched, so that no task need wait for it."""

    @abstractmethod
    def watch(self, caller: Caller, ready: Callable[[], None]) -> None:
        """Have `ready` called whenever `receive_now` would not raise; closing this end counts, too."""

    @abstractmethod
    def unwatch(self) -> None:
        """Have `ready` called no more; idempotent."""

    @abstractmethod
    def receive_now(self, at_most: int = READ_BYTES) -> Data | Fin | Rst | None:
        """Return the bytes that have come, or the end of the stream; None when we closed it. Never waits.

        Raises BlockingIOError when nothing has come.
        """

    @abstractmethod
    async def wait_readable(self) -> bool:
        """Wait until `receive_now` would not raise; False if the socket was closed meanwhile."""

    @abstractmethod
    async def wait_writable(self) -> bool:
        """Wait until the socket takes bytes; False if it was closed meanwhile."""

    async def receive(self, at_most: int = READ_BYTES) -> Data | Fin | Rst | None:
        while not self.closed:
            await self.wait_readable()
            try:
                return self.receive_now(at_most)
            except BlockingIOError:
                continue
        return None

    async def send(self, payload: bytes | memoryview) -> bool:
        left = memoryview(payload)
        while left:
            taken = self.send_now(left)
            if taken is None:
                return False
            left = left[taken:]
            if left and not await self.wait_writable():
                return False
        return True


class KernelEnd(WatchableEnd):
    """An end on a socket of the kernel that does not block. A task waits for it by trio, or a poller watches it."""

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
            caller.call_soon(ready)
            return
        assert isinstance(caller, Poller), "only a poller can watch a socket of the kernel"
        caller.watch(self.fileno, ready)
        self._watched = caller, ready

    def unwatch(self) -> None:
        if self._watched is not None:
            poller, _ = self._watched
            self._watched = None
            poller.unwatch(self.fileno)

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

    def last_processor(self) -> int | None:
        """Return the processor on which the kernel has handled the last packet: over loopback, the sender's.

        None once the socket is closed.
        """
        if self.closed:
            return None
        return self._socket.getsockopt(socket.SOL_SOCKET, SO_INCOMING_CPU)

    def note_moved(self, *, received: int = 0, sent: int = 0) -> None:
        """Note bytes that the kernel has moved past Python. Does nothing here; an end that counts overrides it."""

    def close(self) -> None:
        if self.closed:
            return
        self.closed = True
        if self._watched is not None:
            poller, ready = self._watched
            self.unwatch()
            poller.call_soon(ready)
        if self._waits:
            trio.lowlevel.notify_closing(self._socket)
        self._socket.close()


class TlsEnd(SocketEnd):
    """An end on a TLS stream."""

    def __init__(self, tls: trio.SSLStream[trio.SocketStream]) -> None:
        """Make an end that owns a stream. The TLS handshake may still be to come."""
        super().__init__()
        self._stream = tls
        self._socket = tls.transport_stream.socket

    async def receive(self, at_most: int = READ_BYTES) -> Data | Fin | Rst | None:
        try:
            payload = bytes(await self._stream.receive_some(at_most))
        except trio.ClosedResourceError:
            return None
        except trio.BrokenResourceError as error:
            if self.closed:
                return None
            # TLS without close_notify is how most peers just close; only a socket error is a reset
            return Rst() if self._peer_reset or _is_reset(error) else Fin()
        return Data(payload) if payload else self._end()

    def send_now(self, payload: bytes | memoryview) -> int:
        return 0

    async def send(self, payload: bytes | memoryview) -> bool:
        try:
            await self._stream.send_all(payload)
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            self._peer_reset = True
            return False
        return True

    def close(self) -> None:
        if not self.closed:
            self.closed = True
            self._socket.close()


class SilentEnd(End):
    """An end without a peer, for a connection that never reached the server: it takes all bytes and sends none."""

    async def receive(self, at_most: int = READ_BYTES) -> None:
        await trio.sleep_forever()

    def send_now(self, payload: bytes | memoryview) -> int:
        return len(payload)

    async def send(self, payload: bytes | memoryview) -> bool:
        return True

    def close(self) -> None:
        self.closed = True


def end_of(stream: trio.SocketStream) -> WatchableEnd:
    """Return an end that owns the socket of a stream. A simulated socket makes its own kind of end (`end`)."""
    own: Callable[[], WatchableEnd] | None = getattr(stream.socket, "end", None)
    return KernelEnd(detached(stream)) if own is None else own()


def detached(stream: trio.SocketStream) -> socket.socket:
    """Take the kernel's socket out of a stream, and return it."""
    return socket.socket(fileno=stream.socket.detach())


def _is_reset(error: BaseException) -> bool:
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, OSError):
            return cause.errno in (errno.ECONNRESET, errno.EPIPE, errno.ETIMEDOUT)
        cause = cause.__cause__ or cause.__context__
    return False
