"""What trio programs hold in a simulated run: sockets that behave as the machine's."""

from __future__ import annotations

import errno
import operator
import socket as stdlib_socket
import struct
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import trio

from chaos.networks.simulated.attempt import Attempt
from chaos.networks.simulated.end import SimulatedEnd
from chaos.networks.simulated.endpoint import Endpoint
from chaos.networks.simulated.hosts import LOOPBACK
from chaos.networks.simulated.linux import Options, os_error
from chaos.networks.simulated.waiter import Waiter
from chaos.networks.simulated.world import ANY, Address, World, resolve

BACKLOG_MAX = 4096
_MSG_PEEK = int(stdlib_socket.MSG_PEEK)  # arithmetic with a member of an enum is slow

Result = TypeVar("Result")


def _nothing() -> None:
    return


class SimulatedSocket(trio.socket.SocketType):
    """A TCP socket of a simulated run; made by a socket factory, used like any trio socket."""

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
        world.sockets[self._fileno] = self
        self.options = Options()
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
        self._reader = Waiter("reading from")
        self._writer = Waiter("writing to")
        self._waiters = (self._reader, self._writer)
        self._ready: Callable[[], None] | None = None  # called instead of waking a task that reads
        self._called = True  # or about to be

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
        options = self.options
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
        options = self.options
        if optname == getattr(stdlib_socket, "TCP_KEEPIDLE", None):
            options.keepalive_idle_s = float(value)
        elif optname == getattr(stdlib_socket, "TCP_KEEPINTVL", None):
            options.keepalive_interval_s = float(value)
        elif optname == getattr(stdlib_socket, "TCP_KEEPCNT", None):
            options.keepalive_count = int(value)
        elif optname == getattr(stdlib_socket, "TCP_SYNCNT", None):
            options.syn_retries = int(value)
        elif optname == getattr(stdlib_socket, "TCP_USER_TIMEOUT", None):
            options.user_timeout_s = float(value) / 1000

    # listening

    async def bind(self, address: Any) -> None:
        self.bind_now(address)
        await trio.lowlevel.checkpoint_if_cancelled()

    def bind_now(self, address: Any) -> None:
        """Bind without a checkpoint: for sockets that were bound before they came to trio."""
        self._check_open()
        self._local = self.world.take(self.home.address, (resolve(address[0]), int(address[1])))
        self._bound = True

    def listen(self, backlog: int = 128) -> None:
        self._check_open()
        if self._local is None:
            self._local = self.world.take(self.home.address, (ANY, 0))
            self._bound = True
        self._queue = deque() if self._queue is None else self._queue
        self._backlog = min(backlog, BACKLOG_MAX)
        self.world.listen(self.home.address, self._local, self)

    async def accept(self) -> tuple[SimulatedSocket, Address]:
        self._check_open()
        return await self._when(self._reader, lambda: bool(self._queue), self._take_accepted)

    def _take_accepted(self) -> tuple[SimulatedSocket, Address]:
        assert self._queue is not None
        sock = self._queue.popleft()
        assert sock._remote is not None
        return sock, sock._remote

    # connecting

    async def connect(self, address: Any) -> None:
        self._check_open()
        target = (resolve(address[0]), int(address[1]))
        there = self.world.hosts.home_at(target[0], self.home.address)
        if there is None:
            await trio.lowlevel.checkpoint()
            raise os_error(errno.ENETUNREACH)
        if self._local is None:
            source = LOOPBACK if there == self.home.address else self.home.address
            self._local = self.world.take(self.home.address, (source, 0))
            self._bound = True
        attempt = Attempt(self, target, there)
        await self._when(self._writer, lambda: True, attempt.send_syn)
        try:
            await self._when(self._writer, lambda: attempt.outcome is not None, _nothing)
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
        end.on_change = self.wake
        self.world.add_end(self.home.address, end)

    def spawn(self) -> SimulatedSocket:
        """Return the socket for a connection that this one listened for."""
        return SimulatedSocket(self.world, self.family, self.type, self._proto, self.home.address)

    def end(self) -> SimulatedEnd:
        """Return an end of a link's connection that owns this socket."""
        return SimulatedEnd(self)

    @property
    def full(self) -> bool:
        """Whether a listener takes no more connections; the kernel's queue holds one more than its backlog."""
        return self._queue is None or len(self._queue) > self._backlog

    def enqueue(self, sock: SimulatedSocket) -> None:
        """Take a connection that the kernel has completed."""
        assert self._queue is not None
        self._queue.append(sock)
        self.wake()

    # data

    def send(self, data: Any, flags: int = 0) -> Awaitable[int]:
        end = self._connected()
        return self._when(self._writer, end.writable, lambda: end.send(memoryview(data)))

    def send_now(self, data: bytes | memoryview) -> int:
        """Send what is taken without waiting, perhaps nothing. No checkpoint. Raises OSError as `send` does."""
        end = self._connected()
        return end.send(data) if end.writable() and not self.home.frozen else 0

    def receive_now(self, buflen: int) -> bytes:
        """Return what there is, b"" at the end of the stream. No checkpoint. Raises OSError as `recv` does."""
        end = self._connected()
        if self.home.frozen or not end.readable():
            raise BlockingIOError(errno.EAGAIN, "nothing to read")
        return end.receive(buflen)

    def recv(self, buflen: int, flags: int = 0) -> Awaitable[bytes]:
        return self._receive(buflen, flags)

    def _receive(self, buflen: int, flags: int) -> Awaitable[bytes]:
        end = self._connected()
        if operator.index(buflen) < 0:
            raise ValueError("negative buffersize in recv")

        def peek() -> bytes:
            return bytes(end.received[:buflen])

        def receive() -> bytes:
            return end.receive(buflen)

        return self._when(self._reader, end.readable, peek if flags & _MSG_PEEK else receive)

    async def recv_into(self, buffer: Any, nbytes: int = 0, flags: int = 0) -> int:
        view = memoryview(buffer)
        payload = await self._receive(nbytes or len(view), flags)
        view[: len(payload)] = payload
        return len(payload)

    async def wait_writable(self) -> None:
        end = self._connected()
        await self._when(self._writer, end.roomy, _nothing)

    async def wait_readable(self) -> None:
        end = self._connected()
        await self._when(self._reader, end.readable, _nothing)

    def is_readable(self) -> bool:
        return bool(self._queue) or (self._end is not None and self._end.readable())

    def shutdown(self, flag: int) -> None:
        end = self._connected()
        if end.broken:
            raise os_error(errno.ENOTCONN)
        if flag in (stdlib_socket.SHUT_WR, stdlib_socket.SHUT_RDWR):
            self._shut_write = True
            self._do(end.shutdown)

    def close(self) -> None:
        if self._fileno == -1:
            return
        self._fileno = -1
        self._ready = None
        self._do(self._let_go)
        self._reader.wake()
        self._writer.wake()

    def _let_go(self) -> None:
        if self._queue is not None and self._local is not None:
            self.world.listen_no_more(self.home.address, self._local, self)
            for sock in self._queue:
                if sock._end is not None:
                    sock._end.reset()
                sock.close()
        if self._end is not None:
            self._end.close()
        if self._bound and self._local is not None:
            self.world.give_back(self.home.address, self._local)

    # a frozen host

    def _do(self, action: Callable[[], None]) -> None:
        """Do something now, or once the program goes on: timers of a frozen program cannot be stopped here."""
        if self.home.frozen:
            self.world.put_off(self.home.address, action)
        else:
            action()

    def thaw(self, home: str) -> None:
        """Wake who waits, if this host is the socket's."""
        if self.home.address == home:
            self._reader.wake()
            self._writer.wake()

    # waiting

    def watch(self, ready: Callable[[], None] | None) -> None:
        """Call `ready` whenever there is something to read, again and again until all is read; None ends that.

        The calls are made by the fabric, in nobody's task. None is made for a frozen host, nor for a closed socket.
        """
        self._ready, self._called = ready, False
        self._call_if_readable()

    def _call_if_readable(self) -> None:
        end = self._end
        if self._ready is None or self._called or end is None or not end.readable():
            return
        if self.home.frozen:
            self.world.hold(self.home.address)
        else:
            self._called = True
            self.world.fabric.soon(self._call)

    def _call(self) -> None:
        self._called = False
        if self._ready is not None:
            self._ready()
            self._call_if_readable()

    def wake(self) -> None:
        """Wake the tasks that wait for what is now so; those of a frozen host wait on."""
        if self._ready is not None:
            self._call_if_readable()
        for waiter in self._waiters:
            if waiter.task is None:
                continue
            if self.home.frozen:
                self.world.hold(self.home.address)
            elif self._fileno == -1 or waiter.ready():
                waiter.wake()

    async def _when(
        self, waiter: Waiter, ready: Callable[[], bool], action: Callable[[], Result]
    ) -> Result:
        """Do something once it would not block, as trio's sockets do: a checkpoint in any case.

        Raises:
            trio.BusyResourceError: another task waits for the same.
            trio.ClosedResourceError: the socket was closed meanwhile.
        """
        home = self.home
        await trio.lowlevel.checkpoint_if_cancelled()
        if ready() and not home.frozen:
            result = action()
            await trio.lowlevel.cancel_shielded_checkpoint()
            return result
        if home.frozen:
            self.world.hold(home.address)
        while home.frozen or not ready():
            await waiter.wait(ready)
            if self._fileno == -1:
                raise trio.ClosedResourceError("another task closed this socket")
        return action()

    def _check_open(self) -> None:
        if self._fileno == -1:
            raise os_error(errno.EBADF)

    def _connected(self) -> Endpoint:
        self._check_open()
        if self._end is None:
            raise os_error(errno.ENOTCONN)
        return self._end
