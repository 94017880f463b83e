"""What TCP does, on two arms: the simulated sockets and the machine's own. One set of bodies, one set of answers."""

from __future__ import annotations

import errno
import socket
import struct
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
import trio
from trio.testing import check_half_closeable_stream

Arm = Callable[[Callable[[], Awaitable[Any]]], Any]
LATE_S = 0.5  # what a busy machine may add to any wait


def on_the_machine(body: Callable[[], Awaitable[Any]]) -> Any:
    async def main() -> Any:
        with trio.fail_after(30):
            return await body()

    return trio.run(main)


@pytest.fixture(params=["simulated", pytest.param("machine", marks=pytest.mark.slow)])
def arm(request: pytest.FixtureRequest, simulate: Any) -> Arm:
    """Return a function that runs a body with trio's sockets, simulated or real."""
    if request.param == "machine":
        return on_the_machine
    return lambda body: simulate(lambda _world, _nursery: body())


async def pair() -> tuple[trio.SocketStream, trio.SocketStream]:
    [listener] = await trio.open_tcp_listeners(0, host="127.0.0.1")
    client = await trio.open_tcp_stream("127.0.0.1", listener.socket.getsockname()[1])
    server = await listener.accept()
    await listener.aclose()
    return client, server


async def outcome(action: Callable[[], Any]) -> Any:
    """Return what a call gave: its value, or the name of its errno."""
    try:
        result = action()
        return await result if hasattr(result, "__await__") else result
    except OSError as error:
        assert error.errno is not None
        return errno.errorcode[error.errno]


async def settle() -> None:
    """Let what was sent arrive."""
    await trio.sleep(0.05)


def test_it_keeps_trios_contract_of_half_closeable_streams(arm: Arm) -> None:
    async def clogged() -> tuple[trio.SocketStream, trio.SocketStream]:
        client, server = await pair()
        for stream in (client, server):
            with trio.move_on_after(0.2):
                while True:
                    await stream.socket.send(b"x" * 65536)
        return client, server

    async def body() -> None:
        await check_half_closeable_stream(pair, clogged)

    arm(body)


async def close(stream: trio.SocketStream) -> None:
    stream.socket.close()


async def reset(stream: trio.SocketStream) -> None:
    stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    stream.socket.close()


async def shut(stream: trio.SocketStream) -> None:
    await stream.send_eof()


# how the peer dies, whether it has data of ours that it never read, the calls, and what each gives
DEATHS: dict[str, tuple[Any, bool, str, list[Any]]] = {
    "closes, we read first": (close, False, "rwwrr", [b"", 1, "EPIPE", b"", b""]),
    "closes, we write first": (close, False, "wwwr", [1, "EPIPE", "EPIPE", b""]),
    "closes with data unread": (close, True, "rrw", ["ECONNRESET", b"", "EPIPE"]),
    "resets, we read first": (reset, False, "rrw", ["ECONNRESET", b"", "EPIPE"]),
    "resets, we write first": (reset, False, "wwr", ["ECONNRESET", "EPIPE", b""]),
    "resets with data unread": (reset, True, "rrw", ["ECONNRESET", b"", "EPIPE"]),
    "half-closes": (shut, False, "rwwr", [b"", 1, 1, b""]),
}


@pytest.mark.parametrize("name", DEATHS)
def test_each_call_after_a_peers_death_gives_what_linux_gives(arm: Arm, name: str) -> None:
    die, unread, calls, expected = DEATHS[name]

    async def body() -> list[Any]:
        client, server = await pair()
        if unread:
            await client.send_all(b"never read")
            await settle()
        await die(server)
        await settle()
        seen = []
        for call in calls:
            if call == "r":
                seen.append(await outcome(lambda: client.socket.recv(100)))
            else:
                seen.append(await outcome(lambda: client.socket.send(b"x")))
            await settle()
        client.socket.close()
        server.socket.close()
        return seen

    assert arm(body) == expected


def test_bytes_before_a_fin_are_read_and_those_before_an_rst_too(arm: Arm) -> None:
    async def body() -> list[Any]:
        seen = []
        for die in (close, reset):
            client, server = await pair()
            await server.send_all(b"last words")
            await settle()
            await die(server)
            await settle()
            seen.append([await outcome(lambda c=client: c.socket.recv(100)) for _ in range(2)])
            client.socket.close()
        return seen

    fin, rst = arm(body)
    assert fin == [b"last words", b""]
    assert rst == [b"last words", "ECONNRESET"]


def test_a_port_where_nobody_listens_refuses_at_once(arm: Arm) -> None:
    async def body() -> tuple[Any, float]:
        holder, sock = trio.socket.socket(), trio.socket.socket()
        await holder.bind(("127.0.0.1", 0))
        start = trio.current_time()
        gave = await outcome(lambda: sock.connect(holder.getsockname()))
        holder.close()
        sock.close()
        return gave, trio.current_time() - start

    gave, took_s = arm(body)
    assert gave == "ECONNREFUSED"
    assert took_s < LATE_S


def test_a_full_backlog_leaves_a_connection_waiting_for_the_next_syn(arm: Arm) -> None:
    async def body() -> float:
        [listener] = await trio.open_tcp_listeners(0, host="127.0.0.1", backlog=1)
        port = listener.socket.getsockname()[1]
        streams = [await trio.open_tcp_stream("127.0.0.1", port) for _ in range(2)]
        async with trio.open_nursery() as nursery:

            async def accept_later() -> None:
                await trio.sleep(0.5)
                streams.extend([await listener.accept() for _ in range(3)])

            nursery.start_soon(accept_later)
            start = trio.current_time()
            streams.append(await trio.open_tcp_stream("127.0.0.1", port))
            took_s = trio.current_time() - start
        for stream in streams:
            stream.socket.close()
        await listener.aclose()
        return took_s

    assert 1.0 <= arm(body) <= 1.03 * 1.05 + LATE_S


def test_both_ends_know_both_addresses(arm: Arm) -> None:
    async def body() -> Any:
        client, server = await pair()
        one, two = client.socket, server.socket
        names = one.getsockname(), one.getpeername(), two.getsockname(), two.getpeername()
        await client.aclose()
        gave = await outcome(client.socket.getsockname)
        await server.aclose()
        return names, gave

    (own, peer, its_own, its_peer), closed = arm(body)
    assert (own, peer) == (its_peer, its_own)
    assert own[0] == peer[0] == "127.0.0.1"
    assert own[1] != peer[1]
    assert closed == "EBADF"


def test_an_unconnected_socket_says_so(arm: Arm) -> None:
    async def body() -> list[Any]:
        sock = trio.socket.socket()
        seen = [
            await outcome(sock.getpeername),
            await outcome(lambda: sock.shutdown(socket.SHUT_WR)),
            sock.getsockname(),
        ]
        sock.close()
        return seen

    assert arm(body) == ["ENOTCONN", "ENOTCONN", ("0.0.0.0", 0)]


def test_an_address_in_use_is_refused_and_free_again_after_closing(arm: Arm) -> None:
    async def body() -> list[Any]:
        first, second = trio.socket.socket(), trio.socket.socket()
        await first.bind(("127.0.0.1", 0))
        address = first.getsockname()
        seen = [await outcome(lambda: second.bind(address))]
        first.close()
        seen.append(await outcome(lambda: second.bind(address)))
        second.close()
        return seen

    assert arm(body) == ["EADDRINUSE", None]


def test_a_send_takes_what_there_is_room_for_and_nothing_is_lost(arm: Arm) -> None:
    async def body() -> tuple[int, int, int]:
        client, server = await pair()
        payload = b"x" * 20_000_000
        first = await client.socket.send(payload)
        sent, got = first, 0

        async def read() -> None:
            nonlocal got
            async for chunk in server:
                got += len(chunk)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(read)
            await client.send_all(payload[first : first + 1_000_000])
            sent += 1_000_000
            await client.send_eof()
        await client.aclose()
        await server.aclose()
        return first, sent, got

    first, sent, got = arm(body)
    assert 0 < first < 20_000_000, "a send may take a part"
    assert got == sent


def test_peeking_leaves_the_bytes(arm: Arm) -> None:
    async def body() -> list[bytes]:
        client, server = await pair()
        await client.send_all(b"twice")
        await settle()
        seen = [
            await server.socket.recv(10, socket.MSG_PEEK),
            await server.socket.recv(2),
            await server.socket.recv(10),
        ]
        await client.aclose()
        await server.aclose()
        return seen

    assert arm(body) == [b"twice", b"tw", b"ice"]


def test_a_listener_that_closes_resets_who_was_not_accepted(arm: Arm) -> None:
    async def body() -> Any:
        [listener] = await trio.open_tcp_listeners(0, host="127.0.0.1")
        client = await trio.open_tcp_stream("127.0.0.1", listener.socket.getsockname()[1])
        await listener.aclose()
        await settle()
        gave = await outcome(lambda: client.socket.recv(1))
        client.socket.close()
        return gave

    assert arm(body) == "ECONNRESET"
