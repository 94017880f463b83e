"""What trio programs hold in a simulated run: sockets that behave as the machine's."""

from __future__ import annotations

import errno
import operator
import socket as stdlib_socket
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import trio

from chaos.networks.simulated.attempt import Attempt
from chaos.networks.simulated.end import SimulatedEnd
from chaos.networks.simulated.endpoint import Endpoint
from chaos.networks.simulated.hosts import LOOPBACK
from chaos.networks.simulated.linux import os_error
from chaos.networks.simulated.sending import nothing
from chaos.networks.simulated.socket_base import SocketBase
from chaos.networks.simulated.waiter import Waiter
from chaos.networks.simulated.world import ANY, Address, World

BACKLOG_MAX = 4096
_MSG_PEEK = int(stdlib_socket.MSG_PEEK)  # arithmetic with a member of an enum is slow

Result = TypeVar("Result")


class SimulatedSocket(SocketBase):
    """A TCP socket of a simulated run; made by a socket factory, used like any trio socket."""

    def __init__(
        self, world: World, family: int, type_: int, proto: int, home: str = LOOPBACK
    ) -> None:
        """Make an unconnected socket on the host `home`. Raises OSError for what is not TCP over IPv4."""
        super().__init__(world, family, type_, proto, home)
        world.sockets[self._fileno] = self
        self._backlog = 0
        self._reader = Waiter("reading from")
        self._writer = Waiter("writing to")
        self._waiters = (self._reader, self._writer)
        self._ready: Callable[[], None] | None = None  # called instead of waking a task that reads
        self._called = True  # or about to be

    # listening

    def listen(self, backlog: int = 128) -> None:
        self._check_open()
        if self._local is None:
            self._take((ANY, 0))
        self._queue = deque() if self._queue is None else self._queue
        self._backlog = min(backlog, BACKLOG_MAX)
        assert self._local is not None
        self.world.listen(self.home.address, self._local, self)

    async def accept(self) -> tuple[SimulatedSocket, Address]:
        return await self._when(self._reader, self._acceptable, self._take_accepted)

    def _acceptable(self) -> bool:
        """Whether `accept` would not block; one that cannot succeed fails at once."""
        return bool(self._queue) or self._queue is None or self._fileno == -1

    def _take_accepted(self) -> tuple[SimulatedSocket, Address]:
        self._check_open()
        if self._queue is None:
            raise os_error(errno.EINVAL)
        sock: SimulatedSocket = self._queue.popleft()
        assert sock._remote is not None
        return sock, sock._remote

    # connecting

    async def connect(self, address: Any) -> None:
        try:
            await self._connect(await self._resolved(address))
        except trio.Cancelled:
            self.close()  # as trio does: nobody could tell how far it is
            raise

    async def _connect(self, target: Address) -> None:
        self._check_open()
        there = self.world.hosts.home_at(target[0], self.home.address)
        if there is None:
            await trio.lowlevel.checkpoint()
            raise os_error(errno.ENETUNREACH)
        if self._local is None or self._local[0] == ANY:
            source = LOOPBACK if there == self.home.address else self.home.address
            if self._local is None:
                self._take((source, 0))
            else:
                self._local = source, self._local[1]
        if self.home.frozen:
            await self._when(self._writer, lambda: True, nothing)
        else:
            await trio.lowlevel.checkpoint_if_cancelled()
        attempt = Attempt(self, target, there)
        attempt.send_syn()
        try:
            await self._when(self._writer, lambda: attempt.outcome is not None, nothing)
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

    def pair_with(self, other: SimulatedSocket) -> None:
        """Be connected to another new socket of this host, as by `socketpair`."""
        fabric, address = self.world.fabric, self.home.address
        ends = []
        for sock in (self, other):
            sock._take((LOOPBACK, 0))
            ends.append(Endpoint(fabric, fabric.path(address, address), sock.options))
        assert self._local is not None
        assert other._local is not None
        self.attach(ends[0], self._local, other._local)
        other.attach(ends[1], other._local, self._local)
        for end, peer in (ends, ends[::-1]):
            end.establish(peer)

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
        end = self._end
        if end is None or self._fileno == -1:
            return self._refuse(errno.EPIPE)  # so says Linux, of a socket that was never connected
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

    async def _refuse(self, number: int) -> Any:
        """Fail, for want of a connection, as all calls do: once it is awaited."""
        await trio.lowlevel.checkpoint()
        self._check_open()
        raise os_error(number)

    def _receive(self, buflen: int, flags: int) -> Awaitable[bytes]:
        end = self._end
        if end is None or self._fileno == -1:
            return self._refuse(errno.ENOTCONN)
        if operator.index(buflen) < 0:
            raise ValueError("negative buffersize in recv")

        def peek() -> bytes:
            return bytes(end.received[:buflen])

        def receive() -> bytes:
            return end.receive(buflen)

        return self._when(self._reader, end.readable, peek if flags & _MSG_PEEK else receive)

    def detach(self) -> int:
        """Give up the number, which stands for nothing outside the simulation; the connection is closed."""
        number = self._fileno
        self.close()
        return number

    async def recv_into(self, buffer: Any, nbytes: int = 0, flags: int = 0) -> int:
        view = memoryview(buffer)
        payload = await self._receive(nbytes or len(view), flags)
        view[: len(payload)] = payload
        return len(payload)

    async def wait_writable(self) -> None:
        end = self._connected()
        await self._when(self._writer, end.roomy, nothing)

    async def wait_readable(self) -> None:
        ready = self._acceptable if self._queue is not None else self._connected().readable
        await self._when(self._reader, ready, nothing)

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
            self._end.on_change = nothing  # nobody waits any more
        if self._bound is not None:
            self.world.give_back(self.home.address, self._bound)

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
            try:
                return action()
            finally:
                await trio.lowlevel.cancel_shielded_checkpoint()
        if home.frozen:
            self.world.hold(home.address)
        while home.frozen or not ready():
            await waiter.wait(ready)
            if self._fileno == -1:
                raise trio.ClosedResourceError("another task closed this socket")
        return action()
