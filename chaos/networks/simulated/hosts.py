"""Hosts: their names and addresses, what is true of each now, and on which of them each program of a run lives."""

from __future__ import annotations

import socket
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

from chaos.networks.simulated.addresses import LOOPBACK, LOOPBACK_6, canonical, is_wildcard
from chaos.trace import Side

LINK = "link"
SERVER = "server"
# private addresses (RFC 1918); a run has at most some thousand clients
LINK_ADDRESS = "10.0.0.1"
SERVER_ADDRESS = "10.0.0.2"
CLIENTS_NETWORK = "10.1"

DnsMode = Literal["nxdomain", "servfail", "slow"]
# what getaddrinfo gives (netdb.h): no such name; the name server failed
_DNS_ERRORS = {
    "nxdomain": (socket.EAI_NONAME, "Name or service not known"),
    "servfail": (socket.EAI_AGAIN, "Temporary failure in name resolution"),
}


@dataclass(eq=False, slots=True, kw_only=True)
class DnsFault:
    """A fault of name resolution that is in force on one host. `felt` is called for each question that meets it."""

    mode: DnsMode
    delay_s: float
    felt: Callable[[str], None]

    def error(self) -> socket.gaierror | None:
        """Return what a program gets instead of an answer, or None."""
        return socket.gaierror(*_DNS_ERRORS[self.mode]) if self.mode in _DNS_ERRORS else None


@dataclass(eq=False, slots=True)
class Host:
    """What all sockets of one host share. `down` and `frozen` count the faults in force: 0 means that it is well."""

    address: str  # its first one, by which the host is known
    down: int = 0  # without power: no packet leaves it or arrives
    frozen: int = 0  # its programs stand still; its kernel goes on
    dns_faults: list[DnsFault] = field(default_factory=list)
    # called when a frozen program would have been told something
    on_held_back: Callable[[], None] = lambda: None
    # what a frozen program has done all the same, since its timers cannot be stopped here; it is done after the thaw
    deferred: list[Callable[[], None]] = field(default_factory=list)


@dataclass(slots=True)
class Hosts:
    """The names and addresses of all hosts. Before `settle` there is one host, the machine itself.

    A host is given by its first address.
    """

    names: dict[str, list[str]] = field(
        default_factory=lambda: {"localhost": [LOOPBACK_6, LOOPBACK]}
    )
    _owners: dict[str, str] = field(default_factory=dict)  # each address → the host that has it

    def add(self, name: str, *addresses: str) -> None:
        """Add a host, which is known by the first of its addresses."""
        self.names[name] = list(addresses)
        self._owners |= dict.fromkeys(addresses, addresses[0])

    def settle(self, clients: int) -> None:
        """Give the link, the server and each client a host of its own."""
        self.add(LINK, LINK_ADDRESS)
        self.add(SERVER, SERVER_ADDRESS)
        for client in range(1, clients + 1):
            self.add(f"client-{client}", client_address(client))

    def host_of(self, side: Side | None, client: int | None = None) -> str:
        """Return the host on which a subject runs; the link's for what belongs to no subject."""
        if LINK not in self.names:
            return LOOPBACK
        if side == "server":
            return SERVER_ADDRESS
        return LINK_ADDRESS if side is None or client is None else client_address(client)

    def host_at(self, address: str, asker: str) -> str | None:
        """Return the host that has an address, as seen from the host `asker`; None: there is no route to it."""
        if address.startswith("127.") or address == LOOPBACK_6 or is_wildcard(address):
            return asker  # Linux takes a wildcard for itself
        return self._owners.get(address)

    def addresses(self, name: str) -> list[str]:
        """Return the addresses of a host's name, in the order of preference.

        Raises:
            socket.gaierror: no host has this name.
        """
        if name in self.names:
            return list(self.names[name])
        try:
            return [canonical(name)]
        except ValueError:
            raise socket.gaierror(
                socket.EAI_NONAME, f"no host {name!r} in the simulation"
            ) from None


def client_address(client: int) -> str:
    """Return the address of a client's host."""
    return f"{CLIENTS_NETWORK}.{client >> 8}.{client & 0xFF}"
