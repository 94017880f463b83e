"""The world of a simulated run: who listens where, which ports are taken, and how time passes in the fabric."""

from __future__ import annotations

import errno
import ipaddress
import os
import socket
from typing import Any, Protocol

import trio

from chaos.networks.simulated.fabric import Fabric

# trio takes a file number of -1 as "closed"; real descriptors are far below this
FIRST_FILENO = 1 << 30
# Linux's default ip_local_port_range
FIRST_PORT = 32768
LAST_PORT = 60999
LOOPBACK = "127.0.0.1"
ANY = "0.0.0.0"  # noqa: S104 - the wildcard of bind()

Address = tuple[str, int]


class Listener(Protocol):
    """What the world knows of a socket that listens."""

    @property
    def full(self) -> bool:
        """Whether it takes no more connections for now."""

    def fileno(self) -> int:
        """Return -1 once it is closed."""


class World:
    """Every simulated socket of a run: who listens where, which ports are taken, and the fabric between hosts."""

    def __init__(self) -> None:
        self.fabric = Fabric()
        self.listeners: dict[Address, Listener] = {}
        self.names: dict[str, list[str]] = {"localhost": [LOOPBACK]}
        self._taken: set[Address] = set()
        self._next_port = FIRST_PORT
        self._next_fileno = FIRST_FILENO

    def fileno(self) -> int:
        """Return a number that no other socket has had."""
        self._next_fileno += 1
        return self._next_fileno

    def addresses(self, name: str) -> list[str]:
        """Return the addresses of a host's name, in the order of preference.

        Raises:
            socket.gaierror: nobody is called that.
        """
        if name in self.names:
            return list(self.names[name])
        try:
            ipaddress.IPv4Address(name)
        except ValueError:
            raise socket.gaierror(
                socket.EAI_NONAME, f"no host {name!r} in the simulation"
            ) from None
        return [name]

    def tick(self) -> None:
        """Tell the fabric the time, before a program does something: it is asleep while nothing is due."""
        self.fabric.now = max(self.fabric.now, trio.current_time())

    def take(self, address: Address) -> Address:
        """Bind an address; port 0 takes the next free one.

        Raises:
            OSError: EADDRINUSE.
        """
        host, port = address
        if port == 0:
            port = self._free_port(host)
        elif (host, port) in self._taken:
            raise os_error(errno.EADDRINUSE)
        self._taken.add((host, port))
        return host, port

    def give_back(self, address: Address) -> None:
        """Unbind an address."""
        self._taken.discard(address)

    def find_listener(self, address: Address) -> Listener | None:
        """Return who listens at an address, also through the wildcard."""
        return self.listeners.get(address) or self.listeners.get((ANY, address[1]))

    def _free_port(self, host: str) -> int:
        for _ in range(LAST_PORT - FIRST_PORT + 1):
            port = self._next_port
            self._next_port = FIRST_PORT if port == LAST_PORT else port + 1
            if (host, port) not in self._taken:
                return port
        raise os_error(errno.EADDRNOTAVAIL)

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Let time pass in the fabric until cancelled."""
        changed = trio.Event()

        def wake() -> None:
            changed.set()

        self.fabric.now = trio.current_time()
        self.fabric.changed = wake
        task_status.started()
        while True:
            self.fabric.advance(trio.current_time())
            wake_at = self.fabric.wake_at()
            changed = trio.Event()
            with trio.move_on_at(float("inf") if wake_at is None else wake_at):
                await changed.wait()


def resolve(host: Any) -> str:
    """Return the address for a host's name as the simulation knows it."""
    text = host.decode() if isinstance(host, bytes) else str(host)
    return {"localhost": LOOPBACK, "": ANY}.get(text, text)


def os_error(number: int) -> OSError:
    """Return the OSError of a number, as the machine's own would be."""
    return OSError(number, os.strerror(number))
