"""Sockets of both families and of the standard library do in the simulation what the machine's do, and the page says
what is refused.

python tests/networks/simulated/test_doors.py writes the table of the page anew.
"""

from __future__ import annotations

import errno
import socket
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
import trio

import chaos
from chaos.networks.simulated.doors import REFUSED

PAGE = Path(__file__).parents[3] / "docs/explanation/simulation.md"
BEGIN, END = "<!-- refused: begin -->\n", "<!-- refused: end -->"
MAPPED = "::ffff:127.0.0.1"


def table() -> str:
    rows = "".join(f"| `{row.name}` | {row.instead} |\n" for row in REFUSED)
    return f"\n| refused | instead |\n|---|---|\n{rows}\n"


async def listening(*address: Any, only: bool = False) -> Any:
    sock = trio.socket.socket(socket.AF_INET6)
    sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, only)
    await sock.bind(address)
    sock.listen()
    return sock


async def connected(host: str, port: int) -> Any:
    sock = trio.socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
    try:
        await sock.connect((host, port))
    except OSError:
        sock.close()
        raise
    return sock


async def error_of(call: Awaitable[Any]) -> int:
    try:
        await call
    except OSError as error:
        return error.errno or 0
    return 0


async def dual_stack() -> Any:
    with await listening("::", 0) as listener:
        port, seen = listener.getsockname()[1], []
        for host in ("127.0.0.1", "::1", MAPPED):
            with await connected(host, port) as client:
                server, address = await listener.accept()
                with server:
                    same = address[:2] == server.getpeername()[:2]
                    seen += [server.getsockname()[0], address[0], client.getpeername()[0], same]
        with trio.socket.socket() as other:
            seen.append(await error_of(other.bind(("0.0.0.0", port))))
        return seen


async def ipv6_only() -> Any:
    with await listening("::", 0, only=True) as listener, trio.socket.socket() as other:
        port = listener.getsockname()[1]
        refused = await error_of(connected("127.0.0.1", port))
        await other.bind(("0.0.0.0", port))
        return refused, listener.getsockname()[2:]


async def one_per_family() -> Any:
    listeners = await trio.open_tcp_listeners(0)
    seen = [listener.socket.getsockname()[0] for listener in listeners]
    for listener in listeners:
        await listener.aclose()
    return seen


async def other_family() -> Any:
    with trio.socket.socket() as plain:
        return await error_of(plain.connect(("::1", 9))), plain.getsockname()


async def handed_over() -> Any:
    sock = socket.socket()
    sock.bind(("127.0.0.1", 0))
    handed = trio.socket.from_stdlib_socket(sock)
    same = sock.getsockname() == handed.getsockname(), sock.fileno() == handed.fileno()
    handed.close()
    return *same, handed.fileno(), sock.getblocking()


async def not_blocking() -> Any:
    seen: list[Any] = []
    with socket.socket() as listener, socket.socket() as client:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        listener.setblocking(False)
        client.setblocking(False)
        with pytest.raises(BlockingIOError):
            listener.accept()
        seen.append(client.connect_ex(listener.getsockname()))
        await trio.lowlevel.wait_writable(client)
        seen.append(client.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR))
        await trio.lowlevel.wait_readable(listener)
        server, address = listener.accept()
        with server:
            seen.append(address == client.getsockname())
            server.setblocking(False)
            with pytest.raises(BlockingIOError):
                server.recv(1)
            client.sendall(b"hello")
            await trio.lowlevel.wait_readable(server)
            seen += [server.recv(2, socket.MSG_PEEK), server.recv(9)]
    return seen


async def inside_pair_and_number() -> Any:
    ours, theirs = socket.socketpair()
    again = socket.socket(fileno=ours.detach())
    again.send(b"x")
    one, other = trio.socket.from_stdlib_socket(again), trio.socket.from_stdlib_socket(theirs)
    got = await other.recv(9)
    within: Any = one
    seen = got, ours.fileno(), within._sock.gettimeout(), isinstance(within._sock, socket.socket)
    one.close()
    other.close()
    return seen


async def names() -> Any:
    rows = socket.getaddrinfo(None, 80, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    mapped = socket.getaddrinfo("127.0.0.1", 80, socket.AF_INET6, 1, 0, socket.AI_V4MAPPED)
    with pytest.raises(socket.gaierror) as caught:
        socket.getaddrinfo("127.0.0.1", 80, socket.AF_INET6)
    return (
        [row[4] for row in rows], mapped[0][4], caught.value.errno,
        len(socket.getaddrinfo("127.0.0.1", 80)), socket.gethostbyname("localhost"),
    )  # fmt: skip


CASES: dict[Callable[[], Awaitable[Any]], Any] = {
    dual_stack: [
        MAPPED, MAPPED, "127.0.0.1", True, "::1", "::1", "::1", True, MAPPED, MAPPED, MAPPED, True,
        errno.EADDRINUSE,
    ],
    ipv6_only: (errno.ECONNREFUSED, (0, 0)),
    one_per_family: ["0.0.0.0", "::"],
    other_family: (socket.EAI_ADDRFAMILY, ("0.0.0.0", 0)),
    handed_over: (True, True, -1, False),
    not_blocking: [errno.EINPROGRESS, 0, True, b"he", b"hello"],
    inside_pair_and_number: (b"x", -1, 0.0, True),
    names: ([("0.0.0.0", 80), ("::", 80, 0, 0)], (MAPPED, 80, 0, 0), socket.EAI_ADDRFAMILY, 3, "127.0.0.1"),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.__name__)
@pytest.mark.parametrize("run", [chaos.simulate, trio.run], ids=["simulated", "real"])
def test_both_do_the_same(run: Any, case: Any) -> None:
    if run is trio.run and not socket.has_dualstack_ipv6():
        pytest.skip("this machine has no IPv6")
    assert run(case) == CASES[case]


def test_localhost_is_both_loopbacks() -> None:
    async def main() -> Any:
        rows = await trio.socket.getaddrinfo("localhost", 80, type=socket.SOCK_STREAM)
        return [row[4][0] for row in rows]

    assert chaos.simulate(main) == ["::1", "127.0.0.1"]


def test_the_page_has_the_table_of_what_is_refused() -> None:
    assert PAGE.read_text().split(BEGIN)[1].split(END)[0] == table()


if __name__ == "__main__":
    before, rest = PAGE.read_text().split(BEGIN)
    PAGE.write_text(before + BEGIN + table() + END + rest.split(END)[1])
