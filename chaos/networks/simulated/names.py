"""Names in a world: what `getaddrinfo` and `getnameinfo` answer there, to trio and to the standard library.

No answer comes from the machine. The rows are those of glibc: one for each address and kind of socket.
"""

from __future__ import annotations

import operator
import socket
from collections.abc import Iterator
from typing import Any

from chaos.networks.simulated.addresses import (
    ANY,
    ANY_6,
    LOOPBACK,
    LOOPBACK_6,
    as_seen,
    is_address,
    is_ipv6,
)
from chaos.networks.simulated.world import World
from chaos.recorder import current_reporter

Row = tuple[socket.AddressFamily, socket.SocketKind, int, str, Any]
_KINDS = (
    (socket.SOCK_STREAM, socket.IPPROTO_TCP),
    (socket.SOCK_DGRAM, socket.IPPROTO_UDP),
    (socket.SOCK_RAW, 0),
)
# what getaddrinfo gives for a host that does not exist, and for one without an address of the family (netdb.h)
_NO_SUCH_NAME = socket.EAI_NONAME
_NO_SUCH_FAMILY = getattr(socket, "EAI_ADDRFAMILY", socket.EAI_NONAME)


def look_up(  # noqa: PLR0917 - as getaddrinfo
    world: World,
    host: Any,
    port: Any,
    family: int = 0,
    type: int = 0,  # noqa: A002
    proto: int = 0,
    flags: int = 0,
) -> list[Row]:
    """Return what `getaddrinfo` gives in a world without faults. Raises socket.gaierror as it does."""
    number, flags = _port_number(port), operator.index(flags)
    name = host.decode() if isinstance(host, bytes) else host
    if name is not None and flags & socket.AI_NUMERICHOST and not is_address(name):
        raise socket.gaierror(_NO_SUCH_NAME, "Name or service not known")
    if name is None:
        is_passive = flags & socket.AI_PASSIVE
        addresses = [ANY, ANY_6] if is_passive else [LOOPBACK_6, LOOPBACK]
    else:
        addresses = world.hosts.addresses(name)
    rows = [
        (of, kind, protocol, "", seen)
        for of, seen in _of_family(addresses, number, family, flags)
        for kind, protocol in _KINDS
        if type in (0, kind) and proto in (0, protocol)
    ]
    if not rows:
        raise socket.gaierror(_NO_SUCH_FAMILY, "Address family for hostname not supported")
    return rows


def _of_family(
    addresses: list[str], port: int, family: int, flags: int
) -> Iterator[tuple[socket.AddressFamily, Any]]:
    """Yield those addresses that sockets of a family can use, as they see them."""
    has_ipv6 = any(map(is_ipv6, addresses))
    for ip in addresses:
        own = socket.AF_INET6 if is_ipv6(ip) else socket.AF_INET
        if family in (0, own):
            yield own, as_seen((ip, port), own)
        elif family == socket.AF_INET6 and flags & socket.AI_V4MAPPED and not has_ipv6:
            yield socket.AF_INET6, as_seen((ip, port), socket.AF_INET6)


def _port_number(port: Any) -> int:
    text = port.decode() if isinstance(port, bytes) else port
    if isinstance(text, str) and not text.isdigit():
        try:
            return socket.getservbyname(text)
        except OSError:
            raise socket.gaierror(
                socket.EAI_SERVICE, "Servname not supported for ai_socktype"
            ) from None
    return int(text or 0)


def name_of(sockaddr: Any) -> tuple[str, str]:
    """Return an address and port as text, since there are no reverse names. Raises gaierror for a name."""
    host, port = str(sockaddr[0]), str(sockaddr[1])
    if not is_address(host):
        raise socket.gaierror(_NO_SUCH_NAME, "expected an address")
    return host, port


def _asking_address(world: World) -> str:
    reporter = current_reporter.get()
    side, client = (reporter.subject, reporter.client) if reporter else (None, None)
    return world.hosts.host_of(side, client)


def asking_host(world: World) -> str:
    """Return the name of the host on which the caller runs, as `gethostname` does."""
    address = _asking_address(world)
    return next((name for name, all_ in world.hosts.names.items() if address in all_), address)


def faults_felt(world: World, host: Any) -> Iterator[tuple[float, socket.gaierror | None]]:
    """Yield how long each fault on the asking host delays the look-up of a name, and what it then fails with.

    A look-up that fails is recorded as a connection attempt, since no socket was made that could record it.
    """
    name = host.decode() if isinstance(host, bytes) else host
    if name is None or is_address(name):
        return
    reporter = current_reporter.get()
    client = reporter.client if reporter else None
    asking = world.fabric.host(_asking_address(world))
    for fault in list(asking.dns_faults):
        fault.felt(fault.mode)
        error = fault.error()
        if error is not None and reporter is not None and client is not None:
            reporter.recorder.record("attempt", client=client, port=None)
            reporter.recorder.record("refused", client=client, how=str(error))
        yield fault.delay_s, error
