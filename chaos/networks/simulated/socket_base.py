"""What a simulated socket is, apart from what it does with bytes: its number, its addresses and its options."""

from __future__ import annotations

import errno
import socket as stdlib_socket
from collections import deque
from typing import Any, Self

import trio

from chaos.networks.simulated.endpoint import Endpoint
from chaos.networks.simulated.hosts import LOOPBACK
from chaos.networks.simulated.linux import os_error
from chaos.networks.simulated.message_calls import MessageCalls
from chaos.networks.simulated.options import Options
from chaos.networks.simulated.world import ANY, Address, World, is_address, resolve


class SocketBase(MessageCalls):
    """A socket without its calls that wait."""

    def __init__(
        self, world: World, family: int, type_: int, proto: int, home: str = LOOPBACK
    ) -> None:
        """Make an unconnected socket on the host `home`. Raises OSError for what is not TCP over IPv4."""
        super().__init__()
        if family != stdlib_socket.AF_INET or type_ & 0xF != stdlib_socket.SOCK_STREAM:
            raise os_error(errno.EAFNOSUPPORT)
        self.world = world
        self._proto = proto
        self.home = world.fabric.home(home)
        self._fileno = world.fileno()
        self.options = Options()
        self._inheritable = False
        self._local: Address | None = None
        self._bound: Address | None = None
        self._remote: Address | None = None
        self._end: Endpoint | None = None
        self._queue: deque[Any] | None = None  # accepted by the kernel, not yet by the program
        self._shut_write = False

    # identity

    @property
    def family(self) -> stdlib_socket.AddressFamily:
        return stdlib_socket.AF_INET

    @property
    def type(self) -> stdlib_socket.SocketKind:
        return stdlib_socket.SOCK_STREAM

    @property
    def proto(self) -> int:
        return self._proto

    @property
    def did_shutdown_SHUT_WR(self) -> bool:  # noqa: N802 - trio's name
        return self._shut_write

    def fileno(self) -> int:
        return self._fileno

    def getsockname(self) -> Address:
        self._check_open()
        return self._local or (ANY, 0)

    def getpeername(self) -> Address:
        self._check_open()
        if self._remote is None or (self._end is not None and self._end.broken):
            raise os_error(errno.ENOTCONN)
        return self._remote

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<simulated socket {self._fileno} {self._local} {self._remote}>"

    # options

    def getsockopt(self, level: int, optname: int, buflen: int | None = None) -> Any:
        self._check_open()
        if (level, optname) == (stdlib_socket.SOL_SOCKET, stdlib_socket.SO_ACCEPTCONN):
            return int(self._queue is not None)
        if (level, optname) == (stdlib_socket.SOL_SOCKET, stdlib_socket.SO_ERROR):
            error = self._end.error if self._end else None
            if self._end:
                self._end.error = None
            return error or 0
        return self.options.get(level, optname)

    def setsockopt(self, level: int, optname: int, value: Any, optlen: int | None = None) -> None:
        self._check_open()
        if (value is None) != (optlen is not None):
            raise TypeError("invalid value for argument 'value': expected either it or optlen")
        self.options.set(level, optname, 0 if value is None else value)
        if self._end is not None:
            self._end.start_keepalive()

    def get_inheritable(self) -> bool:
        return self._inheritable

    def set_inheritable(self, inheritable: bool) -> None:
        self._inheritable = inheritable

    # binding

    async def bind(self, address: Any) -> None:
        target = await self._resolved(address)
        await trio.lowlevel.checkpoint()
        self.bind_now(target)

    def bind_now(self, address: Any) -> None:
        """Bind without a checkpoint: for sockets that were bound before they came to trio."""
        self._check_open()
        host, port = resolve(address[0]), int(address[1])
        if self.world.hosts.home_at(host, self.home.address) != self.home.address:
            raise os_error(errno.EADDRNOTAVAIL)
        self._take((host, port))

    def _take(self, address: Address) -> None:
        self._local = self._bound = self.world.take(self.home.address, address)

    async def _resolved(self, address: Any) -> Address:
        """Return the address that a program means; names are asked for. Raises OSError, gaierror among them."""
        host, port = resolve(address[0]), int(address[1])
        if not is_address(host):
            rows: Any = await trio.socket.getaddrinfo(host, port, self.family, self.type)
            host = rows[0][4][0]
        return host, port

    def _check_open(self) -> None:
        if self._fileno == -1:
            raise os_error(errno.EBADF)

    def _connected(self) -> Endpoint:
        self._check_open()
        if self._end is None:
            raise os_error(errno.ENOTCONN)
        return self._end
