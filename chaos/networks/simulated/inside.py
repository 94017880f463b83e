"""What makes a trio program run inside a world: its names are resolved there, and its sockets are simulated ones.

`inside` is the way in. It may be used once at a time in a process, since it replaces functions of trio meanwhile.
"""

from __future__ import annotations

import operator
import socket as stdlib_socket
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import trio

from chaos.networks.simulated.doors import InlineThreads, doors_closed
from chaos.networks.simulated.names import asking_host, faults_felt, look_up, name_of
from chaos.networks.simulated.sockets import SimulatedSocket
from chaos.networks.simulated.world import World

_INET = stdlib_socket.AF_INET
_STREAM = stdlib_socket.SOCK_STREAM


class WorldResolver(trio.abc.HostnameResolver):
    """Resolves the names of a world's hosts, and no others. Without a fault, an answer takes no virtual time."""

    def __init__(self, world: World) -> None:
        self._world = world

    async def getaddrinfo(  # noqa: PLR0917 - the interface
        self,
        host: bytes | None,
        port: bytes | str | int | None,
        family: int = 0,
        type: int = 0,  # noqa: A002 - the interface's name
        proto: int = 0,
        flags: int = 0,
    ) -> list[Any]:
        """Return the addresses of a host. Raises socket.gaierror for a name that no host has."""
        await trio.lowlevel.checkpoint()
        for delay_s, error in faults_felt(self._world, host):
            await trio.sleep(delay_s)
            if error is not None:
                raise error
        return look_up(self._world, host, port, family, type, proto, flags)

    async def getnameinfo(self, sockaddr: Any, flags: int) -> tuple[str, str]:
        """Return the address and port as text, since there are no reverse names. Raises gaierror for a name."""
        await trio.lowlevel.checkpoint()
        return name_of(sockaddr)


@contextmanager
def inside(world: World | None) -> Iterator[None]:
    """Let the trio programs that run inside see this world only; without a world change nothing.

    It must be used inside `trio.run` with a virtual clock, and with a socket factory that makes simulated sockets.
    """
    if world is None:
        yield
        return
    previous = trio.socket.set_custom_hostname_resolver(WorldResolver(world))
    try:
        with doors_closed(_stand_ins(world)):
            yield
    finally:
        trio.socket.set_custom_hostname_resolver(previous)


def _make_pair(_family: int = _INET, type: int = _STREAM, proto: int = 0) -> tuple[Any, Any]:  # noqa: A002
    """Return two simulated sockets that are connected, in place of `trio.socket.socketpair`."""
    ours, theirs = (trio.socket.socket(_INET, type, proto) for _ in range(2))
    assert isinstance(ours, SimulatedSocket)
    assert isinstance(theirs, SimulatedSocket)
    ours.pair_with(theirs)
    return ours, theirs


def _look_up_now(  # noqa: PLR0917 - where it looks, and what getaddrinfo takes
    world: World,
    threads: InlineThreads,
    host: Any,
    port: Any,
    family: int = 0,
    type: int = 0,  # noqa: A002
    proto: int = 0,
    flags: int = 0,
) -> list[Any]:
    """Look a name up as `socket.getaddrinfo` does, without awaiting.

    Where a fault delays the answer, that takes its time in a thread, and is refused in the event loop.
    """
    # trio asks for a number first, and no name server hears of that
    if not operator.index(flags) & stdlib_socket.AI_NUMERICHOST:
        for delay_s, error in faults_felt(world, host):
            threads.wait("socket.getaddrinfo", delay_s, "trio.socket.getaddrinfo")
            if error is not None:
                raise error
    return look_up(world, host, port, family, type, proto, flags)


def _stand_ins(world: World) -> dict[str, Any]:
    """Return what stands in for functions that are given sockets, their numbers or hosts, by their names."""
    readable, writable, closing = (
        trio.lowlevel.wait_readable,
        trio.lowlevel.wait_writable,
        trio.lowlevel.notify_closing,
    )

    def find_simulated(sock: Any) -> SimulatedSocket | None:
        number = sock if isinstance(sock, int) else sock.fileno()
        found = world.sockets.get(number)
        return found if isinstance(found, SimulatedSocket) else None

    async def wait_readable(sock: Any) -> None:
        found = find_simulated(sock)
        await (readable(sock) if found is None else found.wait_readable())

    async def wait_writable(sock: Any) -> None:
        found = find_simulated(sock)
        await (writable(sock) if found is None else found.wait_writable())

    def notify_closing(sock: Any) -> None:
        # the `close` of a simulated one wakes all that wait for it
        if find_simulated(sock) is None:
            closing(sock)

    threads = InlineThreads()
    return {
        "run_sync": threads.run,
        "getaddrinfo": partial(_look_up_now, world, threads),
        "gethostname": partial(asking_host, world),
        "getnameinfo": lambda sockaddr, _flags: name_of(sockaddr),
        "socketpair": _make_pair,
        "wait_readable": wait_readable,
        "wait_writable": wait_writable,
        "notify_closing": notify_closing,
    }
