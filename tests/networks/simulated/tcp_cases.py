"""What TCP does, as bodies that run on any arm. Each returns what it saw: seconds (`…_s`), bytes, outcomes of calls.

What is expected was measured between network namespaces on Linux 6.18.
"""

from __future__ import annotations

import errno
import socket
import struct
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import trio
import trio.testing
from tcp_arms import SYN_RETRIES, Net, Sock

Seen = dict[str, Any]
Body = Callable[[Net], Awaitable[Seen]]
KEEPALIVE = ((socket.TCP_KEEPIDLE, 2), (socket.TCP_KEEPINTVL, 1), (socket.TCP_KEEPCNT, 3))


@dataclass(frozen=True, kw_only=True)
class Case:
    """One row of the contract: what it is called, what runs, and what is to be seen."""

    name: str
    of: object  # what was written; `body` runs it with this case's arguments
    body: Body
    expected: Seen


@dataclass
class Book:
    """All cases."""

    rows: dict[str, Case] = field(default_factory=dict)

    def case(self, name: str, *arguments: Any, **expected: Any) -> Callable[[Any], Any]:
        """Take a body as a case; it gets the arguments after the net."""

        def take(body: Any) -> Any:
            async def run(net: Net) -> Seen:
                seen: Seen = await body(net, *arguments)
                return seen

            # decorators apply from below: the upper ones of a body come before
            same = {key: row for key, row in self.rows.items() if row.of is body}
            for key in same:
                del self.rows[key]
            self.rows[name] = Case(name=name, of=body, body=run, expected=expected)
            self.rows.update(same)
            return body

        return take


# Beside 5 %: what a busy machine adds. A retransmission more or less is at least 0.2 s.
BUSY_S = 0.1
# `…_tick_s`: the loopback was 0.26 s above the simulation each time; probably a window probe that found a little room
TICK_S = 0.25
# what takes no time may take this long on a machine that starts everything at once
AT_ONCE_S = 0.5
# Linux sizes its buffers as it goes, by measured rates: what they take differs that much between two runs
BUFFERS_FACTOR = 6


def disagreements(seen: Seen, other: Seen) -> list[str]:
    """Return in what two arms differ by more than the machine's noise explains."""
    if seen.keys() != other.keys():
        return [f"expected {sorted(other)}, got {seen}"]
    wrong = []
    for key, value in seen.items():
        wanted = other[key]
        if key.endswith("_s"):
            longer = max(value, wanted)
            noise_s = TICK_S if key.endswith("_tick_s") else BUSY_S
            agree = longer <= AT_ONCE_S or abs(value - wanted) <= 0.05 * longer + noise_s
        elif key.endswith("_bytes"):
            agree = 1 / BUFFERS_FACTOR <= value / wanted <= BUFFERS_FACTOR
        else:
            agree = value == wanted
        if not agree:
            wrong.append(f"{key}: expected {wanted!r}, got {value!r}")
    return wrong


BOOK = Book()
case = BOOK.case


async def outcome(action: Callable[[], Any]) -> Any:
    """Return what a call gave: its value, text for bytes, or the name of its errno."""
    try:
        result = action()
        result = await result if hasattr(result, "__await__") else result
    except OSError as error:
        assert error.errno is not None
        return errno.errorcode[error.errno]
    return result.decode() if isinstance(result, bytes) else result


async def timed(action: Callable[[], Any]) -> tuple[Any, float]:
    """Return what a call gave, and the seconds that it took."""
    start = trio.current_time()
    gave = await outcome(action)
    return gave, trio.current_time() - start


async def settle() -> None:
    """Let what was sent arrive."""
    await trio.sleep(0.05)


# a path that is cut


@case("data sent in a blackout of 0.5 s", 0.5, delivered_s=0.83)
@case("data sent in a blackout of 1 s", 1.0, delivered_s=1.67)
@case("data sent in a blackout of 2 s", 2.0, delivered_s=3.33)
@case("data sent in a blackout of 5 s", 5.0, delivered_s=6.73)
async def blackout(net: Net, seconds: float) -> Seen:
    client, server = await net.pair()
    await net.cut()
    start = trio.current_time()
    await client.send(b"x")
    await trio.sleep_until(start + seconds)
    await net.heal()
    await server.recv(1)
    return {"delivered_s": trio.current_time() - start}


@case("a FIN in a blackout of 1 s", end="", delivered_s=1.67)
async def lost_fin(net: Net) -> Seen:
    client, server = await net.pair()
    await net.cut()
    start = trio.current_time()
    client.close()
    await trio.sleep_until(start + 1)
    await net.heal()
    return {
        "end": await outcome(lambda: server.recv(1)),
        "delivered_s": trio.current_time() - start,
    }


@case("a request passes, its answer is cut off for 1 s", request_s=0.0, answer_s=1.67)
async def one_way(net: Net) -> Seen:
    client, server = await net.pair()
    await net.cut(to_server=False)
    _, request_s = await timed(lambda: client.send(b"request"))
    request_s += (await timed(lambda: server.recv(10)))[1]
    start = trio.current_time()
    await server.send(b"answer")
    await trio.sleep_until(start + 1)
    await net.heal()
    await client.recv(10)
    return {"request_s": request_s, "answer_s": trio.current_time() - start}


@case("SYNs lost for 0.5 s", 0.5, gave="connected", connected_s=1.02)
@case("SYNs lost for 1.5 s", 1.5, gave="connected", connected_s=2.04)
@case("SYNs lost for 4.5 s", 4.5, gave="connected", connected_s=5.12)
@case("SYNs lost for 6 s, tcp_syn_retries 3", 6.0, 3, gave="connected", connected_s=7.14)
async def lost_syn(net: Net, seconds: float, retries: int = SYN_RETRIES) -> Seen:
    listener, client = await net.listen(), net.socket("client")
    client.setsockopt(socket.IPPROTO_TCP, socket.TCP_SYNCNT, retries)
    await client.bind((net.source, 0))
    await net.cut()
    async with trio.open_nursery() as nursery:

        async def heal() -> None:
            await trio.sleep(seconds)
            await net.heal()

        nursery.start_soon(heal)
        gave, took_s = await timed(lambda: client.connect(listener.getsockname()))
    return {"gave": gave or "connected", "connected_s": took_s}


@case("connecting with tcp_syn_retries 2 gives up", gave="ETIMEDOUT", gave_up_s=7.14)
async def no_answer(net: Net) -> Seen:
    listener = await net.listen()
    await net.cut()
    gave, took_s = await timed(partial(net.connect, listener.getsockname()[1]))
    return {"gave": gave, "gave_up_s": took_s}


@case("sending with tcp_retries2 5 gives up", gave=["ETIMEDOUT", "", "EPIPE"], gave_up_s=13.4)
async def never_back(net: Net) -> Seen:
    client, _ = await net.pair()
    await net.cut()
    await client.send(b"x")
    gave, took_s = await timed(lambda: client.recv(1))
    after = [await outcome(lambda: client.recv(1)), await outcome(lambda: client.send(b"x"))]
    return {"gave": [gave, *after], "gave_up_s": took_s}


@case("TCP_USER_TIMEOUT 5 s, data unacknowledged", 5000, gave="ETIMEDOUT", gave_up_s=5.5)
@case("TCP_USER_TIMEOUT 1 s, data unacknowledged", 1000, gave="ETIMEDOUT", gave_up_s=1.43)
@case("TCP_USER_TIMEOUT 10 s, data unacknowledged", 10_000, gave="ETIMEDOUT", gave_up_s=10.5)
async def user_timeout(net: Net, milliseconds: int) -> Seen:
    client, _ = await net.pair()
    client.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, milliseconds)
    await net.cut()
    await client.send(b"x")
    gave, took_s = await timed(lambda: client.recv(1))
    return {"gave": gave, "gave_up_s": took_s}


@case("TCP_USER_TIMEOUT 1 s on an idle connection", silent=True)
async def idle_user_timeout(net: Net) -> Seen:
    client, _ = await net.pair()
    client.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, 1000)
    await net.cut()
    with trio.move_on_after(4) as silent:
        await client.recv(1)
    return {"silent": silent.cancelled_caught}


def keep_alive(sock: Sock) -> None:
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for option, value in KEEPALIVE:
        sock.setsockopt(socket.IPPROTO_TCP, option, value)


@case("keepalive 2 s, 1 s, 3 probes", 0, gave="ETIMEDOUT", gave_up_s=5.1)
@case("keepalive 2 s, 1 s and TCP_USER_TIMEOUT 3.5 s", 3500, gave="ETIMEDOUT", gave_up_s=4.05)
async def keepalive(net: Net, milliseconds: int) -> Seen:
    client, _ = await net.pair()
    client.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, milliseconds)
    keep_alive(client)
    start = trio.current_time()
    await net.cut()
    gave = await outcome(lambda: client.recv(1))
    return {"gave": gave, "gave_up_s": trio.current_time() - start}


@case("keepalive while data is unacknowledged", silent=True)
async def busy_keepalive(net: Net) -> Seen:
    client, _ = await net.pair()
    keep_alive(client)
    await net.cut()
    await client.send(b"x")
    with trio.move_on_after(8) as silent:
        await client.recv(1)
    return {"silent": silent.cancelled_caught}


@case("keepalive, and the peer answers", silent=True)
async def answered_keepalive(net: Net) -> Seen:
    client, _ = await net.pair()
    keep_alive(client)
    with trio.move_on_after(8) as silent:
        await client.recv(1)
    return {"silent": silent.cancelled_caught}


@case("a fifth of the packets lost", whole=True)
async def loss(net: Net) -> Seen:
    client, server = await net.pair()
    await net.lose(0.2)
    for number in range(8):
        with trio.fail_after(20):
            await client.send(bytes([number]))
            if await server.recv(1) != bytes([number]):
                return {"whole": False}
    return {"whole": True}


# hosts


@case("the peer's host was rebooted", seen=[1, "ECONNRESET", "", "EPIPE"])
async def rebooted(net: Net) -> Seen:
    client, server = await net.pair()
    await net.reboot(server)
    await settle()
    seen = [await outcome(lambda: client.send(b"x"))]
    seen += [await outcome(lambda: client.recv(1)) for _ in range(2)]
    return {"seen": [*seen, await outcome(lambda: client.send(b"x"))]}


async def fill(sock: Sock, *, quiet_s: float) -> int:
    """Send until nothing has been taken for some time; return how much was."""
    taken = 0
    while True:
        with trio.move_on_after(quiet_s) as quiet:
            taken += await sock.send(b"x" * 65536)
        if quiet.cancelled_caught:
            return taken


@case("a frozen peer: taken, then silence, then a thaw",
      taken_bytes=841_344, silent=True, again=1, again_s=0.0)  # fmt: skip
async def frozen(net: Net) -> Seen:
    port = await net.drain()
    client = await net.connect(port)
    await settle()
    net.freeze()
    taken = await fill(client, quiet_s=1)
    with trio.move_on_after(3) as silent:
        await client.recv(1)
    net.thaw()
    gave, again_s = await timed(lambda: client.send(b"x"))
    return {
        "taken_bytes": taken,
        "silent": silent.cancelled_caught,
        "again": gave,
        "again_s": again_s,
    }


@case(
    "a frozen peer whose window is full, TCP_USER_TIMEOUT 2 s",
    gave="ETIMEDOUT",
    gave_up_tick_s=2.27,
)
async def frozen_timeout(net: Net) -> Seen:
    port = await net.drain()
    client = await net.connect(port)
    client.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, 2000)
    await settle()
    net.freeze()
    full_s = trio.current_time()
    gave: Any = "nothing"
    with trio.move_on_after(10):
        while isinstance(gave := await outcome(lambda: client.send(b"x" * 65536)), int):
            full_s = trio.current_time()
    return {"gave": gave, "gave_up_tick_s": trio.current_time() - full_s}


@case("a frozen program's kernel accepts", connected_s=0.0)
async def frozen_accept(net: Net) -> Seen:
    port = await net.drain()
    net.freeze()
    _, took_s = await timed(partial(net.connect, port))
    net.thaw()
    return {"connected_s": took_s}


# refusing


@case("nobody listens", gave="ECONNREFUSED", refused_s=0.0)
async def refused(net: Net) -> Seen:
    holder = net.socket("server")
    await holder.bind((net.address, 0))
    gave, took_s = await timed(partial(net.connect, holder.getsockname()[1]))
    return {"gave": gave, "refused_s": took_s}


@case("a full backlog that is emptied after 0.5 s", connected_s=1.02)
async def full_backlog(net: Net) -> Seen:
    listener = await net.listen(backlog=1)
    port = listener.getsockname()[1]
    for _ in range(2):
        await net.connect(port)
    async with trio.open_nursery() as nursery:

        async def accept_later() -> None:
            await trio.sleep(0.5)
            for _ in range(3):
                await net.accept(listener)

        nursery.start_soon(accept_later)
        _, took_s = await timed(partial(net.connect, port))
    return {"connected_s": took_s}


@case("a listener that closes, to who was not accepted", gave="ECONNRESET")
async def unaccepted(net: Net) -> Seen:
    listener = await net.listen()
    client = await net.connect(listener.getsockname()[1])
    await settle()
    listener.close()
    await settle()
    return {"gave": await outcome(lambda: client.recv(1))}


# death and its errors


def close(sock: Sock) -> None:
    sock.close()


def reset(sock: Sock) -> None:
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    sock.close()


def shut(sock: Sock) -> None:
    sock.shutdown(socket.SHUT_WR)


@case("closes, we read first", close, False, "rwwrr", seen=["", 1, "EPIPE", "", ""])
@case("closes, we write first", close, False, "wwwr", seen=[1, "EPIPE", "EPIPE", ""])
@case("closes with data unread", close, True, "rrw", seen=["ECONNRESET", "", "EPIPE"])
@case("SO_LINGER 0, we read first", reset, False, "rrw", seen=["ECONNRESET", "", "EPIPE"])
@case("SO_LINGER 0, we write first", reset, False, "wwr", seen=["ECONNRESET", "EPIPE", ""])
@case("SO_LINGER 0 with data unread", reset, True, "rrw", seen=["ECONNRESET", "", "EPIPE"])
@case("half-closes", shut, False, "rwwr", seen=["", 1, 1, ""])
async def death(net: Net, die: Callable[[Sock], None], unread: bool, calls: str) -> Seen:
    client, server = await net.pair()
    if unread:
        await client.send(b"never read")
        await settle()
    die(server)
    await settle()
    seen = []
    for call in calls:
        if call == "r":
            seen.append(await outcome(lambda: client.recv(100)))
        else:
            seen.append(await outcome(lambda: client.send(b"x")))
        await settle()
    return {"seen": seen}


@case("bytes before a FIN", close, seen=["last words", ""])
@case("bytes before an RST", reset, seen=["last words", "ECONNRESET"])
async def last_words(net: Net, die: Callable[[Sock], None]) -> Seen:
    client, server = await net.pair()
    await server.send(b"last words")
    await settle()
    die(server)
    await settle()
    return {"seen": [await outcome(lambda: client.recv(100)) for _ in range(2)]}


# sockets


@case("both ends know both addresses", agree=True, closed="EBADF")
async def addresses(net: Net) -> Seen:
    one, two = await net.pair()
    agree = (
        one.getsockname() == two.getpeername()
        and two.getsockname() == one.getpeername()
        and (one.getsockname()[0], two.getsockname()[0]) == (net.source, net.address)
        and one.getsockname() != two.getsockname()
    )
    one.close()
    return {"agree": agree, "closed": await outcome(one.getsockname)}


@case("an unconnected socket", seen=["ENOTCONN", "ENOTCONN", ["0.0.0.0", 0]])
async def unconnected(net: Net) -> Seen:
    sock = net.socket("client")
    seen = [await outcome(sock.getpeername), await outcome(lambda: sock.shutdown(socket.SHUT_WR))]
    return {"seen": [*seen, list(sock.getsockname())]}


@case("calls on a socket that cannot", seen=["EINVAL", "ENOTCONN", "EPIPE", "EBADF", "EBADF"])
async def cannot(net: Net) -> Seen:
    sock = net.socket("server")
    await sock.bind((net.address, 0))
    seen = [await outcome(lambda: sock.accept())]
    other = net.socket("client")
    seen += [await outcome(lambda: other.recv(1)), await outcome(lambda: other.send(b"x"))]
    for closed in (sock, other):
        closed.close()
    return {"seen": [*seen, await outcome(sock.accept), await outcome(lambda: other.recv(1))]}


@case("what an accepted socket has from its listener", seen=[1, 7, 1500])
async def inherited(net: Net) -> Seen:
    options = (
        (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
        (socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 7),
        (socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, 1500),
    )
    listener = await net.listen()
    for level, name, value in options:
        listener.setsockopt(level, name, value)
    await net.connect(listener.getsockname()[1])
    server = await net.accept(listener)
    return {"seen": [server.getsockopt(level, name) for level, name, _ in options]}


@case("bound to every address, then connected", agree=True)
async def from_anywhere(net: Net) -> Seen:
    listener = await net.listen()
    client = net.socket("client")
    await client.bind(("0.0.0.0", 0))
    await client.connect((net.address, listener.getsockname()[1]))
    server = await net.accept(listener)
    return {"agree": client.getsockname() == server.getpeername()}


@case("an address that is another's", seen=["EADDRNOTAVAIL"])
async def of_another(net: Net) -> Seen:
    sock = net.socket("client")
    return {"seen": [await outcome(lambda: sock.bind(("198.51.100.1", 0)))]}


@case("an address in use, and after closing", seen=["EADDRINUSE", None])
async def in_use(net: Net) -> Seen:
    first, second = net.socket("server"), net.socket("server")
    await first.bind((net.address, 0))
    address = first.getsockname()
    seen = [await outcome(lambda: second.bind(address))]
    first.close()
    # a child that another case starts has the socket too, until it runs its own program
    await settle()
    return {"seen": [*seen, await outcome(lambda: second.bind(address))]}


@case("20 MB to a peer that reads: a send takes a part", part=True, whole=True)
async def bulk(net: Net) -> Seen:
    client, server = await net.pair()
    payload = b"x" * 20_000_000
    first = await client.send(payload)
    got = 0

    async def read() -> None:
        nonlocal got
        while chunk := await server.recv(65536):
            got += len(chunk)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(read)
        await trio.SocketStream(client).send_all(payload[first:])
        client.shutdown(socket.SHUT_WR)
    return {"part": 0 < first < len(payload), "whole": got == len(payload)}


@case("peeking leaves the bytes", seen=["twice", "tw", "ice"])
async def peeking(net: Net) -> Seen:
    client, server = await net.pair()
    await client.send(b"twice")
    await settle()
    seen = [await outcome(lambda: server.recv(10, socket.MSG_PEEK))]
    return {"seen": seen + [await outcome(partial(server.recv, count)) for count in (2, 10)]}


@case("trio's contract of half-closeable streams", kept=True)
async def trios_contract(net: Net) -> Seen:
    async def streams() -> tuple[trio.SocketStream, trio.SocketStream]:
        client, server = await net.pair()
        return trio.SocketStream(client), trio.SocketStream(server)

    async def clogged() -> tuple[trio.SocketStream, trio.SocketStream]:
        pair = await streams()
        for stream in pair:
            await fill(stream.socket, quiet_s=0.3)
        for stream in pair:
            # by now window probes have made a little room, too little for the kernel to say so
            while await fill(stream.socket, quiet_s=0.02):
                pass
        return pair

    await trio.testing.check_half_closeable_stream(streams, clogged)
    return {"kept": True}
