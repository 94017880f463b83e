"""Sockets of the standard library in a simulated run: each has a simulated one behind it, and no real one.

A program may bind it and hand it to trio (Hypercorn and anyio do), or use it without blocking, beside
`trio.lowlevel.wait_readable`. After the hand-over both names stand for one socket, as with real ones: what closes one
closes the other. A call that would block is refused by name: it would stop the event loop, in reality too.
"""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Callable, Iterable
from typing import Any, ClassVar, TypeVar

import trio

from chaos.errors import ChaosError
from chaos.networks.simulated.addresses import host_in, is_address, is_ipv6
from chaos.networks.simulated.linux import os_error
from chaos.networks.simulated.sockets import SimulatedSocket

Result = TypeVar("Result")
# the name of a call, whether it can go on, and for how many seconds it may wait → whether it can go on now
Block = Callable[[str, Callable[[], bool], float | None], bool]


class EscapeError(ChaosError):
    """A program in a simulated run reached for something real."""


def refuse_to_block(call: str, _is_ready: Callable[[], bool], _timeout_s: float | None) -> bool:
    """Refuse a call of a socket that would block."""
    raise EscapeError(
        f"socket.{call} would block the event loop of a simulated run; expected trio's sockets, or "
        "a socket that does not block and trio.lowlevel.wait_readable"
    )


class _Detached:
    """What is behind a socket that has given up its number: nothing, and every call fails with EBADF."""

    def __init__(self, sock: Any) -> None:
        self.family, self.type, self.proto = sock.family, sock.type, sock.proto

    def fileno(self) -> int:
        return -1

    def close(self) -> None:
        """Do nothing: whoever makes a socket of the number closes it."""

    def __getattr__(self, _: str) -> Any:
        raise os_error(errno.EBADF)


class StandIn(socket.socket):
    """A socket of the standard library that is a simulated one, in the clothes of the machine's."""

    # what is done for a call that would block
    block = staticmethod(refuse_to_block)
    # by their numbers, those that programs have taken out with `detach` and may make sockets of again
    detached: ClassVar[dict[int, SimulatedSocket]] = {}

    def __init__(
        self,
        family: int = -1,
        type: int = -1,  # noqa: A002
        proto: int = -1,
        fileno: int | None = None,
        *,
        behind: SimulatedSocket | None = None,
    ) -> None:
        """Make a socket, or take over the one that has the number `fileno`. Raises OSError for what is not TCP."""
        # the constructor of the standard library would ask the machine for a socket
        self._io_refs, self._closed = 0, False
        self._timeout: float | None = None
        if behind is None and fileno is not None:
            behind = self.detached.pop(fileno, None)
            if behind is None:
                os.fstat(fileno)  # raises EBADF
                raise os_error(errno.ENOTSOCK)
        self._behind: Any = behind or trio.socket.socket(
            socket.AF_INET if family == -1 else family,
            socket.SOCK_STREAM if type == -1 else type,
            max(proto, 0),
        )

    @classmethod
    def within(cls, behind: SimulatedSocket) -> StandIn:
        """Return what stands for the socket inside one of trio, which does not block."""
        made = cls(behind=behind)
        made.setblocking(False)
        return made

    def hand_over(self) -> trio.socket.SocketType:
        """Return the simulated socket, for trio. From now on this one does not block, as after the real hand-over."""
        self.setblocking(False)
        behind: trio.socket.SocketType = self._behind
        return behind

    # identity

    @property
    def family(self) -> socket.AddressFamily:
        return socket.AddressFamily(self._behind.family)

    @property
    def type(self) -> socket.SocketKind:
        return socket.SocketKind(self._behind.type)

    @property
    def proto(self) -> int:
        return int(self._behind.proto)

    @property
    def timeout(self) -> float | None:
        return self._timeout

    def __repr__(self) -> str:
        return f"<stand-in of {self._behind!r}>"

    def fileno(self) -> int:
        return int(self._behind.fileno())

    def getsockname(self) -> Any:
        return self._behind.getsockname()

    def getpeername(self) -> Any:
        return self._behind.getpeername()

    def getsockopt(self, *option: Any) -> Any:
        return self._behind.getsockopt(*option)

    def setsockopt(self, *option: Any) -> None:
        self._behind.setsockopt(*option)

    def get_inheritable(self) -> bool:
        return bool(self._behind.get_inheritable())

    def set_inheritable(self, inheritable: bool) -> None:
        self._behind.set_inheritable(inheritable)

    # blocking

    def setblocking(self, flag: bool) -> None:
        self._timeout = None if flag else 0.0

    def getblocking(self) -> bool:
        return self._timeout != 0.0

    def settimeout(self, value: float | None) -> None:
        self._timeout = None if value is None else float(value)

    def gettimeout(self) -> float | None:
        return self._timeout

    def _when(
        self, call: str, is_ready: Callable[[], bool], action: Callable[[], Result]
    ) -> Result:
        """Do something that may raise BlockingIOError, once it does not, as the timeout has it."""
        try:
            return action()
        except BlockingIOError:
            if self._timeout == 0.0:
                raise
        if not self.block(call, is_ready, self._timeout):
            raise TimeoutError("timed out")
        return action()

    # connections

    def bind(self, address: Any) -> None:
        self._behind.bind_now(_resolved(address, self.family))

    def listen(self, backlog: int = 128) -> None:
        self._behind.listen(backlog)

    def accept(self) -> tuple[socket.socket, Any]:
        sock, address = self._when("accept", self._behind.is_readable, self._behind.accept_now)
        return StandIn(behind=sock), address

    def connect(self, address: Any) -> None:
        number = self.connect_ex(address)
        if number:
            raise os_error(number)

    def connect_ex(self, address: Any) -> int:
        behind = self._behind
        if behind.is_connecting:
            return errno.EALREADY
        try:
            behind.connect_now(_resolved(address, self.family))
        except OSError as error:
            if isinstance(error, socket.gaierror):
                raise
            return error.errno or 0
        if self._timeout == 0.0:
            return errno.EINPROGRESS
        try:
            is_over = self.block("connect", lambda: not behind.is_connecting, self._timeout)
        except EscapeError:
            self.close()
            raise
        if not is_over:
            raise TimeoutError("timed out")
        return int(behind.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR))

    def shutdown(self, how: int) -> None:
        self._behind.shutdown(how)

    def close(self) -> None:
        self._closed = True
        if self._io_refs <= 0:
            self._behind.close()

    def _real_close(self, *_: Any) -> None:
        self._behind.close()  # the last file that was made of it has been closed

    def detach(self) -> int:
        """Give up the number, of which a program may make a socket again."""
        number, self._closed = self.fileno(), True
        self.detached[number] = self._behind
        self._behind = _Detached(self._behind)
        return number

    # data

    def recv(self, bufsize: int, flags: int = 0) -> bytes:
        behind = self._behind

        def receive() -> bytes:
            payload: bytes = behind.receive_now(bufsize, flags)
            return payload

        return self._when("recv", behind.is_readable, receive)

    def recv_into(self, buffer: Any, nbytes: int = 0, flags: int = 0) -> int:
        view = memoryview(buffer).cast("B")
        payload = self.recv(nbytes or len(view), flags)
        view[: len(payload)] = payload
        return len(payload)

    def recvfrom(self, bufsize: int, flags: int = 0) -> tuple[bytes, None]:
        return self.recv(bufsize, flags), None

    def send(self, data: Any, flags: int = 0) -> int:
        behind, view = self._behind, memoryview(data).cast("B")

        def send_some() -> int:
            sent = int(behind.send_now(view))
            if not sent and view:
                raise BlockingIOError(errno.EAGAIN, "the buffer is full")
            return sent

        return self._when("send", behind.is_polled_writable, send_some)

    def sendall(self, data: Any, flags: int = 0) -> None:
        view = memoryview(data).cast("B")
        while view:
            view = view[self.send(view, flags) :]

    def sendmsg(self, buffers: Iterable[Any], *_: Any) -> int:
        return self.send(b"".join(bytes(buffer) for buffer in buffers))

    # what TCP does with the calls of datagrams: an address to send to is ignored, one to receive from is none

    def sendto(self, data: Any, *_: Any) -> int:
        return self.send(data)

    def recvfrom_into(self, buffer: Any, nbytes: int = 0, flags: int = 0) -> tuple[int, None]:
        return self.recv_into(buffer, nbytes, flags), None

    def recvmsg(
        self, bufsize: int, _ancbufsize: int = 0, flags: int = 0
    ) -> tuple[bytes, list[Any], int, None]:
        return self.recv(bufsize, flags), [], 0, None


def _resolved(address: Any, family: int) -> Any:
    """Return an address with the address of its host, if that is a name. Raises gaierror."""
    host = host_in(address, family)
    if is_address(host) and (family == socket.AF_INET6 or not is_ipv6(host)):
        return host, address[1]
    return socket.getaddrinfo(host, address[1], family, socket.SOCK_STREAM)[0][4]
