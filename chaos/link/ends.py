"""One end of a connection: a stream to a peer, on which FIN, RST and death are told apart."""

from __future__ import annotations

import errno
import os
import struct
from collections.abc import Callable
from socket import SO_LINGER, SOL_SOCKET

import trio

from chaos.faults.units import Data, Fin, Rst
from chaos.link.poller import Poller

# Large enough for most, and allocated only while bytes are being read: an idle connection holds none.
READ_BYTES = 64 * 1024
# for bulk that nobody looks at: a fourth of the turns
BULK_READ_BYTES = 256 * 1024


class End:
    """A stream to one peer. Close it with `close` or `reset`; both are idempotent and never wait."""

    def __init__(
        self, stream: trio.SocketStream, tls: trio.SSLStream[trio.SocketStream] | None = None
    ) -> None:
        self._socket = stream
        self._stream: trio.SocketStream | trio.SSLStream[trio.SocketStream] = tls or stream
        self._tls = tls is not None
        self._write_now = None if tls else _write_now(stream.socket)
        self._plain = self.plain_fileno is not None
        self._peer_reset = False
        self._watched: tuple[Poller, int, Callable[[], None]] | None = None
        self.finished = False  # reading is over: the peer sent FIN or RST
        self.closed = False

    @property
    def port(self) -> int | None:
        """The peer's port, or None when the socket no longer knows it."""
        try:
            name = self._socket.socket.getpeername()
        except OSError:
            return None
        return int(name[1])

    @property
    def plain_fileno(self) -> int | None:
        """The kernel's number of this socket, if what passes through it is what the peer sends: not with TLS."""
        sock = self._socket.socket
        number = sock.fileno()
        return None if self._tls or number < 0 or _own_send_now(sock) else number

    async def receive(self, at_most: int = READ_BYTES) -> Data | Fin | Rst | None:
        """Wait for the next bytes or the end of the stream; None when we closed it. Cancelling loses nothing."""
        try:
            if self._plain:
                payload = await self._read(at_most)
            else:
                payload = bytes(await self._stream.receive_some(at_most))
        except trio.ClosedResourceError:
            return None
        except trio.BrokenResourceError as error:
            if self.closed:
                return None
            self.finished = True
            # TLS without close_notify is how most peers just close; only a socket error is a reset
            return Rst() if self._peer_reset or _is_reset(error) or not self._tls else Fin()
        if payload:
            return Data(payload)
        return self._end()

    def watch(self, poller: Poller, ready: Callable[[], None]) -> None:
        """Have `ready` called when `receive_now` has something to say, the close of this end included.

        For sockets of the kernel without TLS: those that have a `plain_fileno`.
        """
        number = self._socket.socket.fileno()
        if number < 0:
            poller.soon(ready)
            return
        poller.watch(number, ready)
        self._watched = poller, number, ready

    def unwatch(self) -> None:
        """Have it called no more; idempotent."""
        if self._watched is not None:
            poller, number, _ = self._watched
            self._watched = None
            poller.forget(number)

    def receive_now(self, at_most: int = READ_BYTES) -> Data | Fin | Rst | None:
        """Return what there is to read or the end of the stream; None when we closed it. Never waits.

        Raises BlockingIOError when there is nothing. For sockets of the kernel without TLS.
        """
        if self.closed:
            return None
        try:
            payload = os.read(self._socket.socket.fileno(), at_most)
        except BlockingIOError:
            raise
        except OSError:
            self.finished = True
            return Rst()
        if payload:
            return Data(payload)
        return self._end()

    def _end(self) -> Fin | Rst:
        self.finished = True
        # a pending socket error is reported once: if a send got it, this read sees a bare end of stream
        return Rst() if self._peer_reset else Fin()

    async def _read(self, at_most: int) -> bytes:
        """Read from a socket of the kernel, with a third of the work of `receive_some`."""
        sock = self._socket.socket
        # a number is asked for each time: once closed, it may soon be another socket's
        while (number := sock.fileno()) >= 0:
            await trio.lowlevel.wait_readable(number)
            try:
                return os.read(sock.fileno(), at_most)
            except BlockingIOError:
                continue
            except OSError as error:
                raise trio.BrokenResourceError from error
        raise trio.ClosedResourceError

    def send_now(self, payload: bytes | memoryview) -> int | None:
        """Send what the socket takes at once and return how much that was; None when the peer is gone.

        Never waits, and is no checkpoint. Nobody may be in `send` meanwhile. TLS takes nothing this way.
        """
        if self._write_now is None:
            return 0
        try:
            return self._write_now(payload)
        except BlockingIOError:
            return 0
        except OSError:
            self._peer_reset = True
            return None

    async def send(self, payload: bytes | memoryview) -> bool:
        """Send all of it; return False when the peer is gone. A cancelled send leaves the stream unusable."""
        try:
            await self._stream.send_all(payload)
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            self._peer_reset = True
            return False
        return True

    def note_reset(self) -> None:
        """Note that the peer is gone, as somebody found out who used the socket beside this."""
        self._peer_reset = True

    def note_spliced(self, *, received: int = 0, sent: int = 0) -> None:
        """Note bytes that went beside this. Does nothing; for those who count."""

    async def send_fin(self) -> None:
        """Half-close. A TLS stream cannot: its close_notify ends both ways, so the socket's FIN is sent alone."""
        try:
            await self._socket.send_eof()
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            self._peer_reset = True

    def close(self) -> None:
        """Close the socket: FIN, or RST if unread bytes are left in it (the kernel's rule)."""
        if self.closed:
            return
        self.closed = True
        if self._watched is not None:
            poller, _, ready = self._watched
            self.unwatch()
            poller.soon(ready)
        self._socket.socket.close()

    def reset(self) -> None:
        """Close the socket with an RST (SO_LINGER 0)."""
        if not self.closed:
            self._socket.socket.setsockopt(SOL_SOCKET, SO_LINGER, struct.pack("ii", 1, 0))
            self.close()


def _write_now(sock: trio.socket.SocketType) -> Callable[[bytes | memoryview], int]:
    """Return what writes to a socket without waiting."""
    return _own_send_now(sock) or (lambda payload: os.write(sock.fileno(), payload))


def _own_send_now(sock: trio.socket.SocketType) -> Callable[[bytes | memoryview], int] | None:
    """Return what a socket brings for that which no kernel knows: a simulated one. None for the kernel's."""
    return getattr(sock, "send_now", None)


def _is_reset(error: BaseException) -> bool:
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, OSError):
            return cause.errno in (errno.ECONNRESET, errno.EPIPE, errno.ETIMEDOUT)
        cause = cause.__cause__ or cause.__context__
    return False
