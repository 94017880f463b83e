"""What trio programs hold in a simulated run: sockets that behave as the machine's.

A socket owns an `Endpoint` once it is connected, or a queue of connections while it listens. Each call that waits
goes through `_do_when`, which makes the same checkpoints as trio's own sockets. What a program on a frozen host does
reaches its kernel after the thaw.
"""

from __future__ import annotations

import errno
import operator
import socket as stdlib_socket
import weakref
from collections import deque
from collections.abc import Awaitable, Callable, Iterable
from functools import partial
from typing import Any, Self, TypeVar

import trio

from chaos.networks.simulated.addresses import (
    ANY_6,
    LOOPBACK,
    Address,
    as_seen,
    host_in,
    is_address,
    is_ipv6,
    is_wildcard,
    loopback_of,
    wildcard_of,
)
from chaos.networks.simulated.end import SimulatedEnd
from chaos.networks.simulated.endpoint import Endpoint, do_nothing, establish
from chaos.networks.simulated.handshake import Handshake
from chaos.networks.simulated.linux import SocketOptions, os_error
from chaos.networks.simulated.states import TcpState
from chaos.networks.simulated.waiter import Waiter
from chaos.networks.simulated.world import World

BACKLOG_MAX = 4096
FAMILIES = (stdlib_socket.AF_INET, stdlib_socket.AF_INET6)
_MSG_PEEK = int(stdlib_socket.MSG_PEEK)  # arithmetic with a member of an enumeration is slow

Result = TypeVar("Result")


def _waker_of(sock: SimulatedSocket) -> Callable[[], None]:
    """Return what wakes a socket if it is still there: its connection, which the kernel owns, keeps it not alive."""
    find = weakref.ref(sock)

    def wake() -> None:
        found = find()
        if found is not None:
            found.wake()

    return wake


class SimulatedSocket(trio.socket.SocketType):
    """A TCP socket of a simulated run; made by a socket factory, used like any trio socket."""

    def __init__(
        self, world: World, family: int, type_: int, proto: int, host: str = LOOPBACK
    ) -> None:
        """Make an unconnected socket on a host. Raises OSError for what is not TCP."""
        super().__init__()
        if family not in FAMILIES or type_ & 0xF != stdlib_socket.SOCK_STREAM:
            raise os_error(errno.EAFNOSUPPORT)
        self.world = world
        self._family = stdlib_socket.AddressFamily(family)
        self._proto = proto
        self.host = world.fabric.host(host)
        self._fileno = world.fileno()
        world.sockets[self._fileno] = self
        self.options = SocketOptions()
        self._inheritable = False
        self._did_shut_write = False
        self._local: Address | None = None
        self._bound: Address | None = None
        self._is_dual = False  # bound to every address of both families
        self._remote: Address | None = None
        self._end: Endpoint | None = None
        self._handshake: Handshake | None = None
        # connections that the kernel has completed and the program not yet accepted; None: it does not listen
        self._queue: deque[tuple[SimulatedSocket, Address]] | None = None
        self._backlog = 0
        self._reader = Waiter("reading from")
        self._writer = Waiter("writing to")
        self._waiters = (self._reader, self._writer)
        self._watcher: Callable[[], None] | None = None  # is called instead of waking a task
        self._call_is_queued = False  # of the watcher

    # identity

    @property
    def family(self) -> stdlib_socket.AddressFamily:
        return self._family

    @property
    def type(self) -> stdlib_socket.SocketKind:
        return stdlib_socket.SOCK_STREAM

    @property
    def proto(self) -> int:
        return self._proto

    @property
    def did_shutdown_SHUT_WR(self) -> bool:  # noqa: N802 - trio's name
        return self._did_shut_write

    @property
    def is_closed(self) -> bool:
        """Whether the program has closed it."""
        return self._fileno == -1

    def fileno(self) -> int:
        return self._fileno

    def getsockname(self) -> Any:
        self._check_open()
        return as_seen(self._local or (wildcard_of(self._family), 0), self._family)

    def getpeername(self) -> Any:
        self._check_open()
        if self._remote is None or (self._end and self._end.state is TcpState.CLOSED):
            raise os_error(errno.ENOTCONN)
        return as_seen(self._remote, self._family)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<simulated socket {self._fileno} {self._local} {self._remote}>"

    def _check_open(self) -> None:
        if self._fileno == -1:
            raise os_error(errno.EBADF)

    def _connected(self, otherwise: int = errno.ENOTCONN) -> Endpoint:
        self._check_open()
        if self._end is None:
            raise os_error(otherwise)
        return self._end

    # options

    def getsockopt(self, level: int, optname: int, buflen: int | None = None) -> Any:
        self._check_open()
        if (level, optname) == (stdlib_socket.SOL_SOCKET, stdlib_socket.SO_ACCEPTCONN):
            return int(self._queue is not None)
        if (level, optname) == (stdlib_socket.SOL_SOCKET, stdlib_socket.SO_ERROR):
            if self._handshake is not None and self._handshake.is_over:
                return self._handshake.take_error()
            return self._end.take_pending_error() if self._end else 0
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
        target = await self._resolve(address)
        await trio.lowlevel.checkpoint()
        self.bind_now(target)

    def bind_now(self, address: Any) -> None:
        """Bind without a checkpoint: for sockets that were bound before they came to trio."""
        self._check_open()
        if self._bound is not None:
            raise os_error(errno.EINVAL)
        ip, port = host_in(address, self._family), int(address[1])
        if self.world.hosts.host_at(ip, self.host.address) != self.host.address:
            raise os_error(errno.EADDRNOTAVAIL)
        self._bind((ip, port))

    def _bind(self, address: Address) -> Address:
        self._is_dual = address[0] == ANY_6 and not self._is_ipv6_only
        is_shared = bool(self.options.get(stdlib_socket.SOL_SOCKET, stdlib_socket.SO_REUSEPORT))
        self._local = self._bound = self.world.bind(
            self.host.address, address, is_dual=self._is_dual, is_shared=is_shared
        )
        return self._local

    @property
    def _is_ipv6_only(self) -> bool:
        level, name = stdlib_socket.IPPROTO_IPV6, stdlib_socket.IPV6_V6ONLY
        return bool(self.options.get(level, name))

    async def _resolve(self, address: Any) -> Address:
        """Return the address that a program means. Raises OSError, gaierror among them."""
        host, port = host_in(address, self._family), int(address[1])
        if not is_address(host) or (is_ipv6(host) and self._family == stdlib_socket.AF_INET):
            rows: Any = await trio.socket.getaddrinfo(host, port, self._family, self.type)
            host = host_in(rows[0][4], self._family)
        return host, port

    # listening

    def listen(self, backlog: int = 128) -> None:
        self._check_open()
        local = self._local or self._bind((wildcard_of(self._family), 0))
        self._queue = deque() if self._queue is None else self._queue
        self._backlog = min(backlog, BACKLOG_MAX)
        self.world.start_listening(self.host.address, local, self, is_dual=self._is_dual)

    async def accept(self) -> tuple[SimulatedSocket, Any]:
        return await self._do_when(self._reader, self._is_acceptable, self._accept)

    def accept_now(self) -> tuple[SimulatedSocket, Any]:
        """Accept a connection that has come. No checkpoint. Raises OSError as `accept` does."""
        if not self._is_acceptable():
            raise BlockingIOError(errno.EAGAIN, "no connection to accept")
        return self._accept()

    def _is_acceptable(self) -> bool:
        """Return whether `accept` would not block; one that cannot succeed fails at once."""
        return bool(self._queue) or self._queue is None or self._fileno == -1

    def _accept(self) -> tuple[SimulatedSocket, Any]:
        self._check_open()
        if self._queue is None:
            raise os_error(errno.EINVAL)
        sock, remote = self._queue.popleft()
        return sock, as_seen(remote, self._family)

    @property
    def is_full(self) -> bool:
        """Whether a listener takes no more connections; the kernel's queue holds one more than its backlog."""
        return self._queue is None or len(self._queue) > self._backlog

    def take_connection(self, local: Address, remote: Address, source: str) -> Endpoint:
        """Return an end for a new connection from the host `source`, whose socket waits to be accepted."""
        assert self._queue is not None
        sock = self.spawn()
        sock.options.inherit(self.options)
        self._queue.append((sock, remote))
        return sock._attach(sock._make_end(source), local, remote)

    def spawn(self) -> SimulatedSocket:
        """Return a new socket for a connection that this one has listened for."""
        return SimulatedSocket(self.world, self.family, self.type, self.proto, self.host.address)

    # connecting

    async def connect(self, address: Any) -> None:
        try:
            await self._connect(await self._resolve(address))
        except trio.Cancelled:
            self.close()  # as trio does: nobody could tell how far it is
            raise

    async def _connect(self, target: Address) -> None:
        self._check_open()
        try:
            target_host, local, target = self._route(target)
        except OSError:
            await trio.lowlevel.checkpoint()
            raise
        if self.host.frozen:
            await self._do_when(self._writer, lambda: True, do_nothing)
        else:
            await trio.lowlevel.checkpoint_if_cancelled()
        handshake = self._start_handshake(target_host, local, target)
        try:
            await self._do_when(self._writer, lambda: handshake.is_over, do_nothing)
        finally:
            handshake.abandon()
            self._handshake = None
        handshake.raise_error()

    def _route(self, target: Address) -> tuple[str, Address, Address]:
        """Return the host of a target, our address and that of the target, as packets will have them.

        Raises:
            OSError: ENETUNREACH: no host has the address, or this socket is of the other family.
        """
        ip, port = target
        target_host = self.world.hosts.host_at(ip, self.host.address)
        if target_host is None or (self._is_ipv6_only and not is_ipv6(ip)):
            raise os_error(errno.ENETUNREACH)
        source = loopback_of(ip) if target_host == self.host.address else self.host.address
        local = self._local or self._bind((source, 0))
        if is_wildcard(local[0]):
            local = self._local = source, local[1]
        return target_host, local, (loopback_of(ip) if is_wildcard(ip) else ip, port)

    def connect_now(self, address: Any) -> None:
        """Begin to connect to an address. No checkpoint; `is_connecting` is true until it has succeeded or failed."""
        self._check_open()
        target = host_in(address, self._family), int(address[1])
        self._start_handshake(*self._route(target))

    @property
    def is_connecting(self) -> bool:
        """Whether what `connect_now` has begun is not over."""
        return self._handshake is not None and not self._handshake.is_over

    def _start_handshake(self, target_host: str, local: Address, target: Address) -> Handshake:
        end = self._make_end(target_host)

        def on_done() -> None:
            if end.state is TcpState.ESTABLISHED:
                self._attach(end, local, target)
            self.wake()

        self._handshake = Handshake(self.world, end, local, target, on_done)
        return self._handshake

    def _make_end(self, target_host: str) -> Endpoint:
        path = self.world.fabric.path(self.host.address, target_host)
        return Endpoint(self.world.fabric, path, self.options)

    def _attach(self, end: Endpoint, local: Address, remote: Address) -> Endpoint:
        """Own one end of a connection from now on, and return it."""
        self._end, self._local, self._remote = end, local, remote
        end.on_change = _waker_of(self)
        self.world.add_end(end)
        return end

    def pair_with(self, other: SimulatedSocket) -> None:
        """Connect two new sockets of one host to each other, as `socketpair` does."""
        host = self.host.address
        ours, theirs = self._bind((LOOPBACK, 0)), other._bind((LOOPBACK, 0))
        active = self._attach(self._make_end(host), ours, theirs)
        passive = other._attach(other._make_end(host), theirs, ours)
        active.open_actively()
        establish(active, passive)

    # data

    def send(self, data: Any, flags: int = 0) -> Awaitable[int]:
        end = self._end
        if end is None or self._fileno == -1:
            return self._fail(errno.EPIPE)  # so says Linux, of a socket that was never connected
        return self._do_when(self._writer, end.is_writable, lambda: end.send(memoryview(data)))

    def send_now(self, data: bytes | memoryview) -> int:
        """Send what is taken without waiting, perhaps nothing. No checkpoint. Raises OSError as `send` does."""
        end = self._connected(errno.EPIPE)
        return end.send(data) if end.is_writable() and not self.host.frozen else 0

    def recv(self, buflen: int, flags: int = 0) -> Awaitable[bytes]:
        end = self._end
        if end is None or self._fileno == -1:
            return self._fail(errno.ENOTCONN)
        if operator.index(buflen) < 0:
            raise ValueError("negative buffersize in recv")
        read = end.peek if flags & _MSG_PEEK else end.receive
        return self._do_when(self._reader, end.is_readable, partial(read, buflen))

    def receive_now(self, buflen: int, flags: int = 0) -> bytes:
        """Return what there is, b"" at the end of the stream. No checkpoint. Raises OSError as `recv` does."""
        end = self._connected()
        if self.host.frozen or not end.is_readable():
            raise BlockingIOError(errno.EAGAIN, "nothing to read")
        return end.peek(buflen) if flags & _MSG_PEEK else end.receive(buflen)

    async def _fail(self, number: int) -> Any:
        """Fail for want of a connection, and as all calls do: once it is awaited."""
        await trio.lowlevel.checkpoint()
        self._check_open()
        raise os_error(number)

    async def wait_writable(self) -> None:
        await self._do_when(self._writer, self.is_polled_writable, do_nothing)

    def is_polled_writable(self) -> bool:
        """Return whether `poll` would call it writable: a send or the attempt to connect would not block."""
        if self._handshake is not None and self._end is None:
            return self._handshake.is_over
        return self._connected().is_polled_writable()

    async def wait_readable(self) -> None:
        is_ready = self._is_acceptable if self._queue is not None else self._connected().is_readable
        await self._do_when(self._reader, is_ready, do_nothing)

    def is_readable(self) -> bool:
        return bool(self._queue) or (self._end is not None and self._end.is_readable())

    # data, by the calls that are meant for datagrams: Linux names no address on a connection, and ignores a given one

    async def recv_into(self, buffer: Any, nbytes: int = 0, flags: int = 0) -> int:
        view = memoryview(buffer)
        payload = await self.recv(nbytes or len(view), flags)
        view[: len(payload)] = payload
        return len(payload)

    async def recvfrom(self, bufsize: int, flags: int = 0) -> tuple[bytes, None]:
        """Receive bytes; the address is None."""
        return await self.recv(bufsize, flags), None

    async def recvfrom_into(self, buffer: Any, nbytes: int = 0, flags: int = 0) -> tuple[int, None]:
        """Receive bytes into a buffer; the address is None."""
        return await self.recv_into(buffer, nbytes, flags), None

    async def recvmsg(
        self, bufsize: int, ancbufsize: int = 0, flags: int = 0
    ) -> tuple[bytes, list[Any], int, None]:
        """Receive bytes; there are no ancillary data, and the address is None."""
        return await self.recv(bufsize, flags), [], 0, None

    async def recvmsg_into(
        self, buffers: Iterable[Any], ancbufsize: int = 0, flags: int = 0
    ) -> tuple[int, list[Any], int, None]:
        """Receive bytes into several buffers, one after the other."""
        views = [memoryview(buffer).cast("B") for buffer in buffers]
        left = await self.recv(sum(map(len, views)), flags)
        count = len(left)
        for view in views:
            part, left = left[: len(view)], left[len(view) :]
            view[: len(part)] = part
        return count, [], 0, None

    async def sendto(self, data: Any, *flags_and_address: Any) -> int:
        """Send bytes; the address is ignored."""
        flags = flags_and_address[0] if len(flags_and_address) > 1 else 0
        return await self.send(data, flags)

    async def sendmsg(
        self,
        buffers: Iterable[Any],
        ancdata: Iterable[Any] = (),
        flags: int = 0,
        address: Any = None,
    ) -> int:
        """Send several buffers as one. Raises ValueError for ancillary data: a simulation has none to send."""
        if list(ancdata):
            raise ValueError("expected no ancillary data, which only real sockets can send")
        return await self.send(b"".join(bytes(buffer) for buffer in buffers), flags)

    # ending

    def shutdown(self, flag: int) -> None:
        end = self._connected()
        if end.state is TcpState.CLOSED:
            raise os_error(errno.ENOTCONN)
        if flag in (stdlib_socket.SHUT_WR, stdlib_socket.SHUT_RDWR):
            self._did_shut_write = True
            self._do_after_thaw(end.shutdown)

    def close(self) -> None:
        if self._fileno == -1:
            return
        self._fileno = -1
        self._watcher = None
        if self._handshake is not None:
            self._handshake.abandon()
        self._do_after_thaw(self._release)
        self._reader.wake()
        self._writer.wake()

    def __del__(self) -> None:
        """Close a socket that nothing refers to any more, as Python does with those of the machine."""
        if getattr(self, "_fileno", -1) != -1:
            self.close()

    def _release(self) -> None:
        """Give back to the kernel what it holds for this socket."""
        if self._queue is not None and self._local is not None:
            self.world.stop_listening(self.host.address, self._local, self, is_dual=self._is_dual)
            for sock, _ in self._queue:
                if sock._end is not None:
                    sock._end.reset()
                sock.close()
        if self._end is not None:
            self._end.close()
            self._end.on_change = do_nothing  # no task waits any more
        if self._bound is not None:
            self.world.unbind(self.host.address, self._bound, is_dual=self._is_dual)

    def detach(self) -> int:
        """Give up the number, which stands for nothing outside the simulation; the connection is closed."""
        number = self._fileno
        self.close()
        return number

    # waiting

    async def _do_when(
        self, waiter: Waiter, is_ready: Callable[[], bool], action: Callable[[], Result]
    ) -> Result:
        """Do something once it would not block, as trio's sockets do: a checkpoint in any case.

        Raises:
            trio.BusyResourceError: another task waits for the same.
            trio.ClosedResourceError: the socket was closed meanwhile.
        """
        host = self.host
        await trio.lowlevel.checkpoint_if_cancelled()
        if is_ready() and not host.frozen:
            try:
                return action()
            finally:
                await trio.lowlevel.cancel_shielded_checkpoint()
        if host.frozen:
            host.on_held_back()
        while host.frozen or not is_ready():
            await waiter.wait(is_ready)
            if self._fileno == -1:
                raise trio.ClosedResourceError("another task closed this socket")
        return action()

    def wake(self) -> None:
        """Wake the tasks for which what they wait for is now true; those of a frozen host wait on."""
        if self._watcher is not None:
            self._queue_watcher()
        for waiter in self._waiters:
            if waiter.task is None:
                continue
            if self.host.frozen:
                self.host.on_held_back()
            elif self._fileno == -1 or waiter.is_ready():
                waiter.wake()

    def wake_after_thaw(self, host: str) -> None:
        """Wake the tasks that wait, if the socket is on this host."""
        if self.host.address == host:
            self._reader.wake()
            self._writer.wake()

    def _do_after_thaw(self, action: Callable[[], None]) -> None:
        """Do something now, or after the thaw if the host is frozen."""
        if self.host.frozen:
            self.host.deferred.append(action)
        else:
            action()

    # a link's end, which is called instead

    def end(self) -> SimulatedEnd:
        """Return an end of a link's connection that owns this socket."""
        return SimulatedEnd(self)

    def watch(self, watcher: Callable[[], None] | None) -> None:
        """Call `watcher` whenever there is something to read, again and again until all is read; None ends that.

        The calls are made by the fabric, in no task. None is made on a frozen host, nor for a closed socket.
        """
        self._watcher, self._call_is_queued = watcher, False
        self._queue_watcher()

    def _queue_watcher(self) -> None:
        end = self._end
        if self._watcher is None or self._call_is_queued or end is None or not end.is_readable():
            return
        if self.host.frozen:
            self.host.on_held_back()
        else:
            self._call_is_queued = True
            self.world.fabric.call_soon(self._call_watcher)

    def _call_watcher(self) -> None:
        self._call_is_queued = False
        if self._watcher is not None:
            self._watcher()
            self._queue_watcher()
