"""Hosts: which names and addresses there are, where each program of a run is at home, and how names resolve."""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

from chaos.trace import Side

LOOPBACK = "127.0.0.1"
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
    """A fault of name resolution in force at one host. `felt` is told of each question it meets."""

    mode: DnsMode
    delay_s: float
    felt: Callable[[str], None]

    def error(self) -> socket.gaierror | None:
        """Return what a question gets instead of an answer, or None."""
        found = _DNS_ERRORS.get(self.mode)
        return socket.gaierror(*found) if found else None


@dataclass(slots=True)
class Hosts:
    """Names, addresses, and who is at home where. Without `settle` there is one host, the machine itself."""

    names: dict[str, list[str]] = field(default_factory=lambda: {"localhost": [LOOPBACK]})
    dns_faults: dict[str, list[DnsFault]] = field(default_factory=dict)
    _homes: dict[str, str] = field(default_factory=dict)  # address → the host's first address
    _settled: bool = False

    def add(self, name: str, *addresses: str) -> str:
        """Add a host and return its first address, by which the fabric knows it."""
        self.names[name] = list(addresses)
        for address in addresses:
            self._homes[address] = addresses[0]
        return addresses[0]

    def settle(self, clients: int) -> None:
        """Give the link, the server and each client a host of its own."""
        self._settled = True
        self.add(LINK, LINK_ADDRESS)
        self.add(SERVER, SERVER_ADDRESS)
        for client in range(1, clients + 1):
            self.add(f"client-{client}", client_address(client))

    def home_of(self, side: Side | None, client: int | None = None) -> str:
        """Return the host on which a subject runs; for nobody in particular, the link's."""
        if not self._settled:
            return LOOPBACK
        if side == "server":
            return SERVER_ADDRESS
        return LINK_ADDRESS if side is None or client is None else client_address(client)

    def home_at(self, address: str, asker: str) -> str | None:
        """Return the host with an address as seen from the host `asker`; None: there is no route to it."""
        if address.startswith("127.") or address == "0.0.0.0":  # noqa: S104 - Linux takes it for itself
            return asker
        return self._homes.get(address)

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


def client_address(client: int) -> str:
    """Return the address of a client's host."""
    return f"{CLIENTS_NETWORK}.{client >> 8}.{client & 0xFF}"
