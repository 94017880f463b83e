"""What trio programs hold in a simulated run: sockets that behave as the machine's."""

from __future__ import annotations

import errno
import operator
import socket as stdlib_socket
import struct
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Any

import trio

from chaos.networks.simulated.endpoint import SYN_WAITS_S, Endpoint, Options
from chaos.networks.simulated.fabric import Timer
from chaos.networks.simulated.world import ANY, LOOPBACK, Address, World, os_error, resolve

BACKLOG_MAX = 4096


class SimulatedSocket(trio.socket.SocketType):
    """A TCP socket of a simulated run; made by a socket factory, used like any trio socket."""

    def __init__(self, world: World, family: int, type_: int, proto: int) -> None:
        """Make an unconnected socket. Raises OSError for what is not TCP over IPv4."""
        super().__init__()
        if family != stdlib_socket.AF_INET or type_ & 0xF != stdlib_socket.SOCK_STREAM:
            raise os_error(errno.EAFNOSUPPORT)
        self._world = world
        self._proto = proto
        self._fileno = world.fileno()
        self._options = Options()
        self._raw_options: dict[tuple[int, int], int | bytes] = {}
        self._local: Address | None = None
        self._bound = False
        self._remote: Address | None = None
        self._end: Endpoint | None = None
        self._queue: deque[SimulatedSocket] | None = (
            None  # accepted by the kernel, not yet by the program
        )
        self._backlog = 0
        self._shut_write = False
        self._lot = trio.lowlevel.ParkingLot()
        self._waiting: set[str] = set()

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

    def __enter__(self) -> SimulatedSocket:
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
        return self._raw_options.get((level, optname), 0)

    def setsockopt(self, level: int, optname: int, value: Any, optlen: int | None = None) -> None:
        self._check_open()
        self._raw_options[level, optname] = value
        options = self._options
        if level == stdlib_socket.SOL_SOCKET and optname == stdlib_socket.SO_LINGER:
            on, seconds = struct.unpack("ii", value)
            options.linger_0 = bool(on) and seconds == 0
        elif level == stdlib_socket.SOL_SOCKET and optname == stdlib_socket.SO_KEEPALIVE:
            options.keepalive = bool(value)
        elif level == stdlib_socket.IPPROTO_TCP:
            self._set_tcp_option(optname, value)
        if self._end is not None:
            self._end.start_keepalive()

    def _set_tcp_option(self, optname: int, value: Any) -> None:
        options = self._options
        if optname == getattr(stdlib_socket, "TCP_KEEPIDLE", None):
            options.keepalive_idle_s = float(value)
        elif optname == getattr(stdlib_socket, "TCP_KEEPINTVL", None):
            options.keepalive_interval_s = float(value)
        elif optname == getattr(stdlib_socket, "TCP_KEEPCNT", None):
            options.keepalive_count = int(value)
        elif optname == getattr(stdlib_socket, "TCP_USER_TIMEOUT", None):
            options.user_timeout_s = float(value) / 1000

    # listening

    async def bind(self, address: Any) -> None:
        self.bind_now(address)
        await trio.lowlevel.checkpoint_if_cancelled()

    def bind_now(self, address: Any) -> None:
        """Bind without a checkpoint: for sockets that were bound before they came to trio."""
        self._check_open()
        self._local = self._world.take((resolve(address[0]), int(address[1])))
        self._bound = True

    def listen(self, backlog: int = 128) -> None:
        self._check_open()
        if self._local is None:
            self._local = self._world.take((ANY, 0))
            self._bound = True
        self._queue = deque() if self._queue is None else self._queue
        self._backlog = min(backlog, BACKLOG_MAX)
        self._world.listeners[self._local] = self

    async def accept(self) -> tuple[SimulatedSocket, Address]:
        await self._wait("reading from", lambda: bool(self._queue))
        assert self._queue is not None
        sock = self._queue.popleft()
        assert sock._remote is not None
        return sock, sock._remote

    # connecting

    async def connect(self, address: Any) -> None:
        self._check_open()
        target = (resolve(address[0]), int(address[1]))
        source_host = LOOPBACK if self._local is None else self._local[0]
        if self._local is None:
            self._local = self._world.take((source_host, 0))
            self._bound = True
        self._world.tick()
        attempt = _Attempt(self, target)
        attempt.send_syn()
        try:
            await self._wait("writing to", lambda: attempt.outcome is not None)
        except BaseException:
            attempt.give_up()
            raise
        if attempt.outcome:
            raise os_error(attempt.outcome)
        self._remote = target

    def attach(self, end: Endpoint, local: Address, remote: Address | None) -> None:
        """Become one end of a connection."""
        self._end = end
        self._local = local
        self._remote = remote
        end.on_change = self._wake

    def spawn(self) -> SimulatedSocket:
        """Return the socket for a connection that this one listened for."""
        return SimulatedSocket(self._world, self.family, self.type, self._proto)

    @property
    def full(self) -> bool:
        """Whether a listener takes no more connections; the kernel's queue holds one more than its backlog."""
        return self._queue is None or len(self._queue) > self._backlog

    def enqueue(self, sock: SimulatedSocket) -> None:
        """Take a connection that the kernel has completed."""
        assert self._queue is not None
        self._queue.append(sock)
        self._lot.unpark_all()

    # data

    async def send(self, data: Any, flags: int = 0) -> int:
        end = self._connected()
        await self._wait("writing to", lambda: end.writable)
        self._world.tick()
        return end.send(bytes(memoryview(data)))

    def recv(self, buflen: int, flags: int = 0) -> Awaitable[bytes]:
        return self._receive(buflen, flags)

    async def _receive(self, buflen: int, flags: int) -> bytes:
        end = self._connected()
        if operator.index(buflen) < 0:
            raise ValueError("negative buffersize in recv")
        await self._wait("reading from", lambda: end.readable)
        if flags & stdlib_socket.MSG_PEEK:
            return bytes(end.received[:buflen])
        self._world.tick()
        return end.receive(buflen)

    async def recv_into(self, buffer: Any, nbytes: int = 0, flags: int = 0) -> int:
        view = memoryview(buffer)
        payload = await self._receive(nbytes or len(view), flags)
        view[: len(payload)] = payload
        return len(payload)

    async def wait_writable(self) -> None:
        end = self._connected()
        await self._wait("writing to", lambda: end.writable)

    async def wait_readable(self) -> None:
        end = self._connected()
        await self._wait("reading from", lambda: end.readable)

    def is_readable(self) -> bool:
        return bool(self._queue) or (self._end is not None and self._end.readable)

    def shutdown(self, flag: int) -> None:
        end = self._connected()
        if end.broken:
            raise os_error(errno.ENOTCONN)
        if flag in (stdlib_socket.SHUT_WR, stdlib_socket.SHUT_RDWR):
            self._shut_write = True
            self._world.tick()
            end.shutdown()

    def close(self) -> None:
        if self._fileno == -1:
            return
        self._fileno = -1
        self._world.tick()
        if self._queue is not None and self._local is not None:
            if self._world.listeners.get(self._local) is self:
                del self._world.listeners[self._local]
            for sock in self._queue:
                if sock._end is not None:
                    sock._end.reset()
                sock.close()
        if self._end is not None:
            self._end.close()
        if self._bound and self._local is not None:
            self._world.give_back(self._local)
        self._lot.unpark_all()

    # waiting

    def _wake(self) -> None:
        self._lot.unpark_all()

    async def _wait(self, doing: str, ready: Callable[[], bool]) -> None:
        """Wait until something is so, as trio's sockets do: a checkpoint in any case.

        Raises:
            trio.BusyResourceError: another task waits for the same.
            trio.ClosedResourceError: the socket was closed meanwhile.
        """
        self._check_open()
        await trio.lowlevel.checkpoint()
        if ready() or doing in self._waiting:
            self._check_alive()
            if ready():
                return
            raise trio.BusyResourceError(f"another task is already {doing} this socket")
        self._waiting.add(doing)
        try:
            while not ready():
                self._check_alive()
                await self._lot.park()
        finally:
            self._waiting.discard(doing)
        self._check_alive()

    def _check_alive(self) -> None:
        if self._fileno == -1:
            raise trio.ClosedResourceError("another task closed this socket")

    def _check_open(self) -> None:
        if self._fileno == -1:
            raise os_error(errno.EBADF)

    def _connected(self) -> Endpoint:
        self._check_open()
        if self._end is None:
            raise os_error(errno.ENOTCONN)
        return self._end


class _Attempt:
    """One connection attempt: SYNs until there is an answer (tcp_syn_retries and linear timeouts as measured)."""

    def __init__(self, sock: SimulatedSocket, target: Address) -> None:
        self._sock = sock
        self._target = target
        self._number = 0
        self._timer: Timer | None = None
        self.outcome: int | None = None  # 0 connected, else an errno

    def send_syn(self) -> None:
        """Send a SYN, and set the time for the next."""
        fabric = self._sock._world.fabric
        assert self._sock._local is not None
        arrival_s = fabric.path(self._sock._local[0], self._target[0]).transit(fabric.now)
        if arrival_s is not None:
            fabric.at(arrival_s, self._arrive)
        if self._number >= len(SYN_WAITS_S):
            self._finish(errno.ETIMEDOUT)
            return
        self._timer = fabric.at(fabric.now + SYN_WAITS_S[self._number], self.send_syn)
        self._number += 1

    def _arrive(self) -> None:
        """The SYN has reached the other host: answer it, unless its queue is full."""
        if self.outcome is not None:
            return
        world, local = self._sock._world, self._sock._local
        assert local is not None
        back = world.fabric.path(self._target[0], local[0])
        listener = world.find_listener(self._target)
        assert listener is None or isinstance(listener, SimulatedSocket)
        if listener is not None and listener.full:
            return
        arrival_s = back.transit(world.fabric.now)
        if arrival_s is None:
            return
        if listener is None:
            world.fabric.at(arrival_s, lambda: self._finish(errno.ECONNREFUSED))
        else:
            world.fabric.at(arrival_s, lambda: self._complete(listener))

    def _complete(self, listener: SimulatedSocket) -> None:
        """The SYN-ACK has come: both ends exist from now on."""
        if self.outcome is not None:
            return
        world, local = self._sock._world, self._sock._local
        assert local is not None
        if listener.fileno() == -1:
            self._finish(errno.ECONNREFUSED)
            return
        ours = Endpoint(
            world.fabric, world.fabric.path(local[0], self._target[0]), self._sock._options
        )
        accepted = listener.spawn()
        theirs = Endpoint(
            world.fabric, world.fabric.path(self._target[0], local[0]), accepted._options
        )
        accepted.attach(theirs, self._target, local)
        self._sock.attach(ours, local, self._target)
        ours.establish(theirs)
        theirs.establish(ours)
        listener.enqueue(accepted)
        self._finish(0)

    def _finish(self, outcome: int) -> None:
        if self.outcome is None:
            self.outcome = outcome
            self.give_up()
            self._sock._lot.unpark_all()

    def give_up(self) -> None:
        """Send no more SYNs."""
        if self._timer is not None:
            self._timer.cancel()
        if self.outcome is None:
            self.outcome = errno.ECANCELED
