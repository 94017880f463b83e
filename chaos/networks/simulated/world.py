"""The world of a simulated run: its hosts, who listens where, which ports are taken, and what becomes of a host.

There is one world per run. It keeps no connection alive, and a socket only while that listens: programs own them.
"""

from __future__ import annotations

import errno
import itertools
import weakref
from collections import Counter
from collections.abc import Callable
from typing import Protocol

from chaos.networks.simulated.addresses import ANY, ANY_6, LOOPBACK_6, Address, is_ipv6, loopback_of
from chaos.networks.simulated.endpoint import Endpoint, do_nothing
from chaos.networks.simulated.fabric import Fabric
from chaos.networks.simulated.hosts import Hosts
from chaos.networks.simulated.linux import os_error
from chaos.networks.simulated.states import TcpState

# trio takes a file number of -1 as "closed"; real descriptors are far below this
FIRST_FILENO = 1 << 30
# Linux's default ip_local_port_range
FIRST_PORT = 32768
LAST_PORT = 60999

Place = tuple[str, str, int]  # a host's first address, then what was bound there


class Socket(Protocol):
    """What the world and handshakes need of a socket."""

    @property
    def is_closed(self) -> bool:
        """Whether the program has closed it."""
        ...

    @property
    def is_full(self) -> bool:
        """Whether it takes no more connections for now, if it listens."""
        ...

    def take_connection(self, local: Address, remote: Address, source: str) -> Endpoint:
        """Return an end for a new connection from the host `source`, whose socket waits to be accepted."""
        ...

    def wake(self) -> None:
        """Wake the tasks for which what they wait for is now true."""

    def wake_after_thaw(self, host: str) -> None:
        """Wake the tasks that wait, if the socket is on this host."""


class World:
    """Everything that the sockets of a run share."""

    def __init__(self) -> None:
        self.fabric = Fabric()
        self.hosts = Hosts()
        # both by numbers, so that they have the same order in each process
        self.sockets: weakref.WeakValueDictionary[int, Socket] = weakref.WeakValueDictionary()
        self._ends: weakref.WeakValueDictionary[int, Endpoint] = weakref.WeakValueDictionary()
        self._end_numbers = itertools.count()
        self._listeners: dict[Place, list[Socket]] = {}
        self._taken: Counter[Place] = Counter()
        self._shared: set[Place] = set()  # those of sockets with SO_REUSEPORT
        self._ports = itertools.cycle(range(FIRST_PORT, LAST_PORT + 1))
        self._filenos = itertools.count(FIRST_FILENO + 1)

    def fileno(self) -> int:
        """Return a number that no other socket has had."""
        return next(self._filenos)

    # ports

    def bind(
        self, host: str, address: Address, *, is_dual: bool = False, is_shared: bool = False
    ) -> Address:
        """Bind an address of a host; port 0 takes the next free one.

        `is_dual`: the wildcard of IPv6 is that of IPv4 too. `is_shared`: other sockets may share the address, if all
        of them are shared (SO_REUSEPORT).

        Raises:
            OSError: EADDRINUSE.
        """
        ip, port = address
        if port == 0:
            port = self._free_port(host, ip, is_dual)
        places = _places(host, (ip, port), is_dual)
        if any(
            place in self._taken and not (is_shared and place in self._shared) for place in places
        ):
            raise os_error(errno.EADDRINUSE)
        self._taken.update(places)
        if is_shared:
            self._shared.update(places)
        return ip, port

    def unbind(self, host: str, address: Address, *, is_dual: bool = False) -> None:
        """Unbind an address, once for each time at which it was bound."""
        for place in _places(host, address, is_dual):
            self._taken[place] -= 1
            if self._taken[place] <= 0:
                del self._taken[place]
                self._shared.discard(place)

    def _free_port(self, host: str, ip: str, is_dual: bool) -> int:
        for _ in range(LAST_PORT - FIRST_PORT + 1):
            port = next(self._ports)
            if not any(place in self._taken for place in _places(host, (ip, port), is_dual)):
                return port
        raise os_error(errno.EADDRNOTAVAIL)

    def start_listening(
        self, host: str, address: Address, listener: Socket, *, is_dual: bool = False
    ) -> None:
        """Let a socket take the connections to an address of its host from now on. Idempotent."""
        for place in _places(host, address, is_dual):
            listeners = self._listeners.setdefault(place, [])
            if listener not in listeners:
                listeners.append(listener)

    def stop_listening(
        self, host: str, address: Address, listener: Socket, *, is_dual: bool = False
    ) -> None:
        """Undo `start_listening`; other sockets that listen at the address are left alone."""
        for place in _places(host, address, is_dual):
            left = [other for other in self._listeners.pop(place, []) if other is not listener]
            if left:
                self._listeners[place] = left

    def find_listener(self, host: str, address: Address) -> Socket | None:
        """Return the socket that listens at an address of a host, also through the wildcard.

        A program that binds a loopback address is reached at its host's other addresses too: in a run all hosts stand
        for the one machine on which such a program is usually tried. Of several sockets that share an address, the
        one that has listened longest takes all connections.
        """
        ip, port = address
        wildcard, loopback = ANY_6 if is_ipv6(ip) else ANY, loopback_of(ip)
        for bound in (ip, wildcard, loopback, *([] if ip == loopback else [LOOPBACK_6])):
            found = self._listeners.get((host, bound, port))
            if found:
                return found[0]
        return None

    # what becomes of hosts

    def add_end(self, end: Endpoint) -> None:
        """Remember one end of a connection for as long as it lives."""
        self._ends[next(self._end_numbers)] = end

    def crash(self, host: str) -> int:
        """Cut a host's power: no packet leaves it or arrives any more, and its connections are forgotten.

        Returns how many live connections that were.
        """
        state = self.fabric.host(host)
        state.down += 1
        known = [end for end in list(self._ends.values()) if end.path_out.source is state]
        live = [end for end in known if end.state is not TcpState.CLOSED]
        for end in live:
            end.lose_power()
        return len(live)

    def boot(self, host: str) -> None:
        """Give a host its power back: it answers packets of connections that it does not know with an RST."""
        self.fabric.host(host).down -= 1

    def freeze(self, host: str, on_held_back: Callable[[], None] = do_nothing) -> None:
        """Stop a host's programs; its kernel goes on. `on_held_back` is called for what they are not told."""
        state = self.fabric.host(host)
        state.frozen += 1
        state.on_held_back = on_held_back

    def thaw(self, host: str) -> None:
        """Let a host's programs go on, unless another fault still stops them."""
        state = self.fabric.host(host)
        state.frozen -= 1
        state.on_held_back = do_nothing
        if state.frozen:
            return
        deferred, state.deferred = state.deferred, []
        for action in deferred:
            action()
        for sock in list(self.sockets.values()):
            sock.wake_after_thaw(host)


def _places(host: str, address: Address, is_dual: bool) -> list[Place]:
    """Return the places that an address of a host stands for."""
    ip, port = address
    return [(host, ip, port), (host, ANY, port)] if is_dual else [(host, ip, port)]
