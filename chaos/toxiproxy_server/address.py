"""TCP addresses as Go reads, resolves, binds and prints them (net.SplitHostPort, net.ResolveTCPAddr, net.Listen)."""

from __future__ import annotations

import errno
import ipaddress
import os
import socket
import sys
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import trio

from chaos.link.ends import detached

# a name server that does not answer must not keep an API call waiting for ever
LOOKUP_S = 10.0
BACKLOG = 4096
_WILDCARDS = ("", "0.0.0.0", "::")  # noqa: S104 - compared, not bound


class AddressError(Exception):
    """An address that cannot be used; the message is Go's."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Address:
    """A resolved address; `host` is empty for all interfaces."""

    host: str
    port: int

    def __str__(self) -> str:
        return join(self.host, self.port)


def join(host: str, port: int | str) -> str:
    """Return host:port, with brackets where the host needs them."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def split(text: str) -> tuple[str, str]:
    """Return host and port of `host:port` or `[host]:port`. Raises AddressError."""
    colon = text.rfind(":")
    if colon < 0:
        raise _wrong(text, "missing port in address")
    host, rest = text[:colon], text
    if text.startswith("["):
        end = text.find("]")
        if end < 0:
            raise _wrong(text, "missing ']' in address")
        if end + 1 != colon:
            what = "too many colons" if text[end + 1 : end + 2] == ":" else "missing port"
            raise _wrong(text, f"{what} in address")
        host, rest = text[1:end], text[1:end] + text[end + 1 :]
    elif ":" in host:
        raise _wrong(text, "too many colons in address")
    for bracket in "[]":
        if bracket in rest:
            raise _wrong(text, f"unexpected '{bracket}' in address")
    return host, text[colon + 1 :]


def _wrong(text: str, what: str) -> AddressError:
    return AddressError(f"address {text}: {what}")


def port_of(service: str) -> int:
    """Return the port that a number or a service name means. Raises AddressError."""
    digits = service[1:] if service[:1] in ("+", "-") else service
    if not digits:
        return 0
    if digits.isascii() and digits.isdigit():
        number = int(digits) * (-1 if service[0] == "-" else 1)
        if not 0 <= number <= 65535:
            raise AddressError(f"address {service}: invalid port")
        return number
    try:
        return socket.getservbyname(service.lower(), "tcp")
    except (OSError, ValueError):
        raise AddressError(f"lookup tcp/{service}: unknown port") from None


async def resolve(text: str) -> Address:
    """Resolve an address to listen on; empty is a free port of all interfaces. Raises AddressError."""
    if not text:
        return Address(host="", port=0)
    host, service = split(text)
    port = port_of(service)
    if not host:
        return Address(host="", port=port)
    try:
        found = ipaddress.ip_address(host)
    except ValueError:
        _refuse_odd(host)
        return Address(host=await _look_up(host, wants_6="[" in text), port=port)
    return Address(host=_as_go(found), port=port)


def _as_go(found: ipaddress.IPv4Address | ipaddress.IPv6Address) -> str:
    """Return an address in Go's form: IPv4 where it is mapped, and with a zone only where there is one."""
    if isinstance(found, ipaddress.IPv4Address):
        return str(found)
    if found.ipv4_mapped is not None:
        return str(found.ipv4_mapped)
    return str(found) if found.is_link_local else str(found).partition("%")[0]


def _refuse_odd(host: str) -> None:
    """Refuse what only C's resolver takes for an address: `0` would be all interfaces, `127.0.0.010` 127.0.0.8.

    Raises AddressError.
    """
    try:
        socket.inet_aton(host)
    except (OSError, ValueError):
        odd = not host.isascii() or "\0" in host
    else:
        odd = _family_of(host) is None
    if odd:
        raise AddressError(f"lookup {host}: no such host")


async def _look_up(host: str, *, wants_6: bool) -> str:
    """Return one address of a name: IPv4 if it has one, as Go prefers."""
    try:
        with trio.fail_after(LOOKUP_S):
            rows = await trio.socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        raise AddressError(f"lookup {host}: no such host") from None
    except trio.TooSlowError:
        raise AddressError(f"lookup {host}: i/o timeout") from None
    family = socket.AF_INET6 if wants_6 else socket.AF_INET
    return str(min(rows, key=lambda row: row[0] != family)[4][0])


def listen(address: Address) -> socket.socket:
    """Return a socket that listens there, on IPv4 and IPv6 for all interfaces. Raises AddressError.

    The caller closes it. Linux's words for errors are Go's, but for the first letter.
    """
    both = address.host in _WILDCARDS
    try:
        try:
            return _bind(address, both=both, listens=True)
        except OSError as error:
            if not both or error.errno != errno.EAFNOSUPPORT:
                raise
            four = Address(host="0.0.0.0", port=address.port)  # noqa: S104 - asked for
            return _bind(four, both=False, listens=True)
    except OSError as error:
        words = os.strerror(error.errno or 0)
        raise AddressError(f"listen tcp {address}: bind: {words[:1].lower()}{words[1:]}") from None


def keep(address: Address) -> socket.socket | None:
    """Return a socket that has the port and does not listen: who connects is refused. None if it cannot be had."""
    try:
        return _bind(address, both=address.host in _WILDCARDS, listens=False)
    except OSError:
        return None


def _bind(address: Address, *, both: bool, listens: bool) -> socket.socket:
    """Return a socket that is bound there, to IPv6 and IPv4 where it is for both. Raises OSError."""
    six = both or ":" in address.host
    listener = socket.socket(socket.AF_INET6 if six else socket.AF_INET)
    try:
        listener.setblocking(False)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if six:
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, int(not both))
        listener.bind(_sockaddr("::" if both else address.host, address.port))
        if listens:
            listener.listen(BACKLOG)
    except BaseException:
        listener.close()
        raise
    return listener


def _sockaddr(host: str, port: int) -> Any:
    """Return what to bind: with the number of the interface that an address names (`fe80::1%eth0`)."""
    if "%" not in host:
        return host, port
    try:
        return socket.getaddrinfo(host, port, flags=socket.AI_NUMERICHOST)[0][4]
    except socket.gaierror:
        raise OSError(errno.EINVAL, os.strerror(errno.EINVAL)) from None


def bound(listener: socket.socket) -> str:
    """Return where a socket listens, as Go prints it."""
    return join(*listener.getsockname()[:2])


async def dial(text: str) -> socket.socket:
    """Connect to `host:port`, trying every address of the host; the socket does not block.

    Raises OSError, ValueError or AddressError.
    """
    host, service = split(text)
    port = port_of(service)
    family = _family_of(host)
    if family is None or port == 0:
        _refuse_odd(host)
        connected = detached(await trio.open_tcp_stream(host or "localhost", port))
    else:
        connected = await _connect(family, host, port)
    set_options(connected)
    return connected


@lru_cache(maxsize=1024)
def _family_of(host: str) -> socket.AddressFamily | None:
    """Return the family of an address; None for a name, and for what needs a resolver (`fe80::1%eth0`)."""
    for family in (socket.AF_INET, socket.AF_INET6):
        with suppress(OSError, ValueError):
            socket.inet_pton(family, host)
            return family
    return None


# Linux makes sockets that do not block from the start
_STREAM = socket.SOCK_STREAM | getattr(socket, "SOCK_NONBLOCK", 0)


async def _connect(family: socket.AddressFamily, host: str, port: int) -> socket.socket:
    """Connect to an address, with nothing of what `open_tcp_stream` does for names: a third of its time."""
    connected = socket.socket(family, _STREAM)
    try:
        if connected.getblocking():
            connected.setblocking(False)
        error = connected.connect_ex((host, port))
        # a peer on this machine has accepted by now: asked again, the kernel says so (connect(2), EISCONN)
        if error == errno.EINPROGRESS:
            error = connected.connect_ex((host, port))
        while error in (errno.EINPROGRESS, errno.EALREADY, errno.EINTR):
            await trio.lowlevel.wait_writable(connected)
            error = connected.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
    except BaseException:
        connected.close()
        raise
    if error not in (0, errno.EISCONN):
        connected.close()
        raise OSError(error, os.strerror(error))
    return connected


# whether what is accepted has the options of what listens (Linux: the socket is a clone)
INHERITED = sys.platform == "linux"


def set_options(connected: socket.socket) -> None:
    """Set what Go sets on every connection: no delay, and keep-alive probes after 15 s of silence, each 15 s."""
    connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    connected.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name in ("TCP_KEEPIDLE", "TCP_KEEPINTVL"):
        if hasattr(socket, name):
            connected.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), 15)


def printed(address: Sequence[Any]) -> str:
    """Return an address of the kernel as Go prints it."""
    host, port = address[:2]
    return join(host.removeprefix("::ffff:"), port)
