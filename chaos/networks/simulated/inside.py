"""What makes a trio program run inside a world: its names are resolved there, and its sockets are simulated ones.

`inside` is the way in. It may be used once at a time in a process, since it replaces functions of trio meanwhile.
"""

from __future__ import annotations

import socket as stdlib_socket
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import trio

from chaos.networks.simulated.doors import doors_closed
from chaos.networks.simulated.sockets import SimulatedSocket
from chaos.networks.simulated.world import World, is_address
from chaos.recorder import current_reporter

_INET = stdlib_socket.AF_INET
_STREAM = stdlib_socket.SOCK_STREAM
# what getaddrinfo gives for a host that does not exist (netdb.h)
_NO_SUCH_NAME = stdlib_socket.EAI_NONAME


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
        """Return IPv4 TCP addresses. Raises socket.gaierror for a name that no host has."""
        await trio.lowlevel.checkpoint()
        if family not in (0, _INET):
            raise stdlib_socket.gaierror(_NO_SUCH_NAME, "the simulation has IPv4 only")
        name = (host or b"0.0.0.0").decode()
        if not is_address(name):
            await self._apply_faults()
        return [
            (_INET, _STREAM, stdlib_socket.IPPROTO_TCP, "", (address, int(port or 0)))
            for address in self._world.hosts.addresses(name)
        ]

    async def _apply_faults(self) -> None:
        """Fail or wait, as the faults on the asking host demand; a question that fails is a failed attempt."""
        reporter = current_reporter.get()
        side, client = (reporter.subject, reporter.client) if reporter else (None, None)
        host = self._world.fabric.host(self._world.hosts.host_of(side, client))
        for fault in list(host.dns_faults):
            fault.felt(fault.mode)
            error = fault.error()
            if error is not None and reporter is not None and client is not None:
                # no socket was made, so that nothing else records the attempt
                reporter.recorder.record("attempt", client=client, port=None)
                reporter.recorder.record("refused", client=client, how=str(error))
            await trio.sleep(fault.delay_s)
            if error is not None:
                raise error

    async def getnameinfo(self, sockaddr: Any, flags: int) -> tuple[str, str]:
        """Return the address and port as text, since there are no reverse names. Raises gaierror for a name."""
        await trio.lowlevel.checkpoint()
        if not is_address(str(sockaddr[0])):
            raise stdlib_socket.gaierror(_NO_SUCH_NAME, "expected an address")
        return str(sockaddr[0]), str(sockaddr[1])


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


def _stand_ins(world: World) -> dict[str, Any]:
    """Return what stands in for the functions of trio that are given sockets or their numbers, by their names."""
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
        if (
            find_simulated(sock) is None
        ):  # the `close` of a simulated one wakes all that wait for it
            closing(sock)

    return {
        "socketpair": _make_pair,
        "wait_readable": wait_readable,
        "wait_writable": wait_writable,
        "notify_closing": notify_closing,
    }
