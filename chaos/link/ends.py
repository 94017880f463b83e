"""One end of a connection: what is between it and a peer, on which FIN, RST and death are told apart."""

from __future__ import annotations

import errno
import socket
import struct
from abc import ABC, abstractmethod
from collections.abc import Callable
from socket import SO_LINGER, SOL_SOCKET

import trio

from chaos.faults.units import Data, Fin, Rst

# Large enough for most, and allocated only while bytes are being read: an idle connection holds none.
READ_BYTES = 64 * 1024
# for bulk that nobody looks at: a fourth of the turns
BULK_READ_BYTES = 256 * 1024
RST_ON_CLOSE = struct.pack("ii", 1, 0)


class End(ABC):
    """Towards one peer. Close it with `close` or `reset`; both are idempotent and never wait."""

    def __init__(self) -> None:
        self.finished = False  # reading is over: the peer sent FIN or RST
        self.closed = False
        self._peer_reset = False

    @property
    @abstractmethod
    def port(self) -> int | None:
        """The peer's port, or None when the socket no longer knows it."""

    @abstractmethod
    async def receive(self, at_most: int = READ_BYTES) -> Data | Fin | Rst | None:
        """Wait for the next bytes or the end of the stream; None when we closed it. Cancelling loses nothing."""

    @abstractmethod
    def send_now(self, payload: bytes | memoryview) -> int | None:
        """Send what is taken at once and return how much that was; None when the peer is gone.

        Never waits, and is no checkpoint. Nobody may be in `send` meanwhile. TLS takes nothing this way.
        """

    @abstractmethod
    async def send(self, payload: bytes | memoryview) -> bool:
        """Send all of it; return False when the peer is gone. A cancelled send leaves the stream unusable."""

    @abstractmethod
    async def send_fin(self) -> None:
        """Half-close. A TLS stream cannot: its close_notify ends both ways, so the socket's FIN is sent alone."""

    @abstractmethod
    def close(self) -> None:
        """Close it: FIN, or RST if unread bytes are left in the socket (the kernel's rule)."""

    @abstractmethod
    def reset(self) -> None:
        """Close it with an RST (SO_LINGER 0)."""

    def note_reset(self) -> None:
        """Note that the peer is gone, as somebody found out who used the socket beside this."""
        self._peer_reset = True

    def _end(self) -> Fin | Rst:
        self.finished = True
        # a pending socket error is reported once: if a send got it, a read sees a bare end of stream
        return Rst() if self._peer_reset else Fin()


class StreamEnd(End):
    """An end on a stream of trio: over TLS, or on a socket that no kernel knows."""

    def __init__(
        self, stream: trio.SocketStream, tls: trio.SSLStream[trio.SocketStream] | None = None
    ) -> None:
        super().__init__()
        self._socket = stream
        self._stream: trio.SocketStream | trio.SSLStream[trio.SocketStream] = tls or stream
        self._tls = tls is not None
        self._send_now = None if tls else own_send_now(stream.socket)

    @property
    def port(self) -> int | None:
        return _port(self._socket.socket)

    async def receive(self, at_most: int = READ_BYTES) -> Data | Fin | Rst | None:
        try:
            payload = bytes(await self._stream.receive_some(at_most))
        except trio.ClosedResourceError:
            return None
        except trio.BrokenResourceError as error:
            if self.closed:
                return None
            self.finished = True
            # TLS without close_notify is how most peers just close; only a socket error is a reset
            return Rst() if self._peer_reset or _is_reset(error) or not self._tls else Fin()
        return Data(payload) if payload else self._end()

    def send_now(self, payload: bytes | memoryview) -> int | None:
        if self._send_now is None:
            return 0
        try:
            return self._send_now(payload)
        except BlockingIOError:
            return 0
        except OSError:
            self._peer_reset = True
            return None

    async def send(self, payload: bytes | memoryview) -> bool:
        try:
            await self._stream.send_all(payload)
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            self._peer_reset = True
            return False
        return True

    async def send_fin(self) -> None:
        try:
            await self._socket.send_eof()
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            self._peer_reset = True

    def close(self) -> None:
        if not self.closed:
            self.closed = True
            self._socket.socket.close()

    def reset(self) -> None:
        if not self.closed:
            self._socket.socket.setsockopt(SOL_SOCKET, SO_LINGER, RST_ON_CLOSE)
            self.close()


class SilentEnd(End):
    """An end without a peer: what a connection that never reached the server has behind it."""

    def __init__(self) -> None:
        super().__init__()
        self.finished = True

    @property
    def port(self) -> None:
        return None

    async def receive(self, at_most: int = READ_BYTES) -> None:
        await trio.sleep_forever()

    def send_now(self, payload: bytes | memoryview) -> int:
        return len(payload)

    async def send(self, payload: bytes | memoryview) -> bool:
        return True

    async def send_fin(self) -> None:
        return

    def close(self) -> None:
        self.closed = True

    def reset(self) -> None:
        self.closed = True


def own_send_now(sock: trio.socket.SocketType) -> Callable[[bytes | memoryview], int] | None:
    """Return what a socket brings for that which no kernel knows: a simulated one. None for the kernel's."""
    return getattr(sock, "send_now", None)


def _port(sock: trio.socket.SocketType | socket.socket) -> int | None:
    try:
        name = sock.getpeername()
    except OSError:
        return None
    return int(name[1])


def _is_reset(error: BaseException) -> bool:
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, OSError):
            return cause.errno in (errno.ECONNRESET, errno.EPIPE, errno.ETIMEDOUT)
        cause = cause.__cause__ or cause.__context__
    return False
