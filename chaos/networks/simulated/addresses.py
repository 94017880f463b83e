"""Addresses of IPv4 and IPv6: how programs write them, and how the simulation does. Pure.

Within the simulation an address is a text and a port. An IPv4 address that a program writes for a socket of IPv6
(`::ffff:127.0.0.1`, RFC 4291 section 2.5.5.2) is the IPv4 address: the packets are those of IPv4, as in reality.
"""

from __future__ import annotations

import ipaddress
import socket
from typing import Any

Address = tuple[str, int]

LOOPBACK = "127.0.0.1"
LOOPBACK_6 = "::1"
ANY = "0.0.0.0"  # noqa: S104 - the wildcard of bind()
ANY_6 = "::"
_MAPPED = "::ffff:"


def is_ipv6(ip: str) -> bool:
    """Return whether an address is one of IPv6."""
    return ":" in ip


def is_address(host: str) -> bool:
    """Return whether this is an address rather than a name."""
    if not is_ipv6(host):
        return host.replace(".", "").isdigit()
    try:
        canonical(host)
    except ValueError:
        return False
    return True


def loopback_of(ip: str) -> str:
    """Return the loopback address of the family of an address."""
    return LOOPBACK_6 if is_ipv6(ip) else LOOPBACK


def wildcard_of(family: int) -> str:
    """Return the address that stands for all addresses of a family."""
    return ANY_6 if family == socket.AF_INET6 else ANY


def is_wildcard(ip: str) -> bool:
    """Return whether an address stands for all addresses of its family."""
    return ip in (ANY, ANY_6)


def canonical(ip: str) -> str:
    """Return an address as the simulation writes it: the shortest form, no zone, a mapped one as IPv4.

    Raises:
        ValueError: it is no address.
    """
    if not is_ipv6(ip):
        return str(ipaddress.IPv4Address(ip))
    parsed = ipaddress.IPv6Address(ip.partition("%")[0])
    return str(parsed.ipv4_mapped or parsed)


def host_in(address: Any, family: int) -> str:
    """Return the host in an address that a program has given, with what stands for an address replaced."""
    text = address[0].decode() if isinstance(address[0], bytes) else str(address[0])
    if text == "localhost":
        return LOOPBACK_6 if family == socket.AF_INET6 else LOOPBACK
    if not text:
        return wildcard_of(family)
    return canonical(text) if is_ipv6(text) and is_address(text) else text


def as_seen(address: Address, family: int) -> Any:
    """Return an address as a socket of a family shows it to a program."""
    ip, port = address
    if family != socket.AF_INET6:
        return ip, port
    return (ip if is_ipv6(ip) else _MAPPED + ip), port, 0, 0
