"""The world of a simulated run: who listens where and which ports are taken."""

from __future__ import annotations

import errno
import weakref
from collections.abc import Callable
from typing import Any, Protocol

from chaos.networks.simulated.fabric import Fabric
from chaos.networks.simulated.hosts import LOOPBACK, Hosts
from chaos.networks.simulated.linux import os_error

# trio takes a file number of -1 as "closed"; real descriptors are far below this
FIRST_FILENO = 1 << 30
# Linux's default ip_local_port_range
FIRST_PORT = 32768
LAST_PORT = 60999
ANY = "0.0.0.0"  # noqa: S104 - the wildcard of bind()

Address = tuple[str, int]
Place = tuple[str, str, int]  # a host's first address, then what was bound there


class Listener(Protocol):
    """What the world knows of a socket that listens."""

    @property
    def full(self) -> bool:
        """Whether it takes no more connections for now."""
        ...

    def fileno(self) -> int:
        """Return -1 once it is closed."""
        ...


class Sleeper(Protocol):
    """What the world knows of any socket."""

    def thaw(self, home: str) -> None:
        """Wake who waits, if this host is the socket's."""


class Perishable(Protocol):
    """What the world knows of one end of a connection."""

    broken: bool

    def forget(self) -> None:
        """Be gone without a word: its host has lost power."""


class World:
    """Every simulated socket of a run: who listens where, which ports are taken, and the fabric between hosts."""

    def __init__(self) -> None:
        self.fabric = Fabric()
        self.hosts = Hosts()
        # by file number, so that their order is certain
        self.sockets: weakref.WeakValueDictionary[int, Sleeper] = weakref.WeakValueDictionary()
        # what a frozen host is told that it holds back, and what its programs do once they go on
        self.on_hold: dict[str, Callable[[], None]] = {}
        self._put_off: dict[str, list[Callable[[], None]]] = {}
        self._ends: dict[str, weakref.WeakValueDictionary[int, Perishable]] = {}
        self._ends_made = 0
        self._listeners: dict[Place, Listener] = {}
        self._taken: set[Place] = set()
        self._next_port = FIRST_PORT
        self._next_fileno = FIRST_FILENO

    def fileno(self) -> int:
        """Return a number that no other socket has had."""
        self._next_fileno += 1
        return self._next_fileno

    def take(self, home: str, address: Address) -> Address:
        """Bind an address of a host; port 0 takes the next free one.

        Raises:
            OSError: EADDRINUSE.
        """
        host, port = address
        if port == 0:
            port = self._free_port(home, host)
        elif (home, host, port) in self._taken:
            raise os_error(errno.EADDRINUSE)
        self._taken.add((home, host, port))
        return host, port

    def give_back(self, home: str, address: Address) -> None:
        """Unbind an address."""
        self._taken.discard((home, *address))

    def listen(self, home: str, address: Address, listener: Listener) -> None:
        """Let a socket answer at an address of its host."""
        self._listeners[home, *address] = listener

    def listen_no_more(self, home: str, address: Address, listener: Listener) -> None:
        """Let nobody answer there, unless it is somebody else by now."""
        if self._listeners.get((home, *address)) is listener:
            del self._listeners[home, *address]

    def find_listener(self, home: str, address: Address) -> Listener | None:
        """Return who listens at an address of a host, also through the wildcard.

        A program that binds 127.0.0.1 answers at its host's other addresses too: in a run all hosts stand for the
        one machine on which such a program is usually tried.
        """
        host, port = address
        for bound in (host, ANY, LOOPBACK):
            found = self._listeners.get((home, bound, port))
            if found is not None:
                return found
        return None

    # what becomes of hosts

    def add_end(self, home: str, end: Perishable) -> None:
        """Remember one end of a connection for as long as it lives."""
        self._ends_made += 1
        self._ends.setdefault(home, weakref.WeakValueDictionary())[self._ends_made] = end

    def crash(self, home: str) -> int:
        """Cut a host's power: not a packet leaves it or is taken any more, and its connections are forgotten.

        Returns how many live connections that were.
        """
        self.fabric.home(home).down += 1
        known = self._ends.pop(home, None)
        ends = [end for end in known.values() if not end.broken] if known else []
        for end in ends:
            end.forget()
        return len(ends)

    def boot(self, home: str) -> None:
        """Give a host its power back: it answers what it does not know with an RST."""
        self.fabric.home(home).down -= 1

    def freeze(self, home: str) -> None:
        """Stop a host's programs; its kernel goes on."""
        self.fabric.home(home).frozen += 1

    def thaw(self, home: str) -> None:
        """Let a host's programs go on."""
        self.fabric.home(home).frozen -= 1
        if self.fabric.home(home).frozen:
            return
        for action in self._put_off.pop(home, ()):
            action()
        for sock in list(self.sockets.values()):
            sock.thaw(home)

    def put_off(self, home: str, action: Callable[[], None]) -> None:
        """Let a frozen program do something once it goes on: its timers cannot be stopped here."""
        self._put_off.setdefault(home, []).append(action)

    def hold(self, home: str) -> None:
        """Say that a frozen host's program is not told of something."""
        self.on_hold.get(home, lambda: None)()

    def _free_port(self, home: str, host: str) -> int:
        for _ in range(LAST_PORT - FIRST_PORT + 1):
            port = self._next_port
            self._next_port = FIRST_PORT if port == LAST_PORT else port + 1
            if (home, host, port) not in self._taken:
                return port
        raise os_error(errno.EADDRNOTAVAIL)


def is_address(host: str) -> bool:
    """Whether this is an IPv4 address rather than a name."""
    return host.replace(".", "").isdigit()


def resolve(host: Any) -> str:
    """Return the address for a host's name as the simulation knows it."""
    text = host.decode() if isinstance(host, bytes) else str(host)
    return {"localhost": LOOPBACK, "": ANY}.get(text, text)
