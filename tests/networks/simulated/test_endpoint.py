"""What a program sees of TCP when the path or the peer fails, as measured on Linux."""

from __future__ import annotations

import errno
import socket
from typing import Any

import pytest
import trio

PATH = ("127.0.0.1", "127.0.0.1")


async def pair() -> tuple[trio.SocketStream, trio.SocketStream]:
    listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
    port = listeners[0].socket.getsockname()[1]
    client = await trio.open_tcp_stream("127.0.0.1", port)
    server = await listeners[0].accept()
    await listeners[0].aclose()
    return client, server


def errno_of(error: BaseException) -> int | None:
    cause = error.__cause__
    return cause.errno if isinstance(cause, OSError) else None


async def outcome(action: Any) -> Any:
    """Return what a call gave: its value, or the name of its errno."""
    try:
        return await action
    except OSError as error:
        assert error.errno is not None
        return errno.errorcode[error.errno]


@pytest.mark.parametrize(
    ("blackout_s", "delivered_s"),
    [(0.5, 0.83), (1, 1.67), (2, 3.33), (5, 6.73), (10, 13.3), (20, 26.6)],
)
def test_data_sent_in_a_blackout_arrives_at_the_next_retransmission(
    simulate: Any, blackout_s: float, delivered_s: float
) -> None:
    async def body(world: Any, nursery: trio.Nursery) -> float:
        client, server = await pair()
        world.fabric.path(*PATH).up = False
        await client.send_all(b"x")
        start = trio.current_time()

        async def heal() -> None:
            await trio.sleep(blackout_s)
            world.fabric.path(*PATH).up = True

        nursery.start_soon(heal)
        assert await server.receive_some() == b"x"
        return trio.current_time() - start

    assert simulate(body) == pytest.approx(delivered_s, rel=0.05)


@pytest.mark.parametrize(
    ("dropped_s", "connected_s"), [(0.5, 1.02), (1.5, 2.04), (4.5, 5.12), (6, 7.13)]
)
def test_lost_syns_are_sent_again_on_linuxs_schedule(
    simulate: Any, dropped_s: float, connected_s: float
) -> None:
    async def body(world: Any, nursery: trio.Nursery) -> float:
        listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
        world.fabric.path(*PATH).up = False

        async def heal() -> None:
            await trio.sleep(dropped_s)
            world.fabric.path(*PATH).up = True

        nursery.start_soon(heal)
        start = trio.current_time()
        await trio.open_tcp_stream("127.0.0.1", listeners[0].socket.getsockname()[1])
        return trio.current_time() - start

    assert simulate(body) == pytest.approx(connected_s, rel=0.05)


def test_a_path_that_never_comes_back_gives_up_after_about_924_seconds(simulate: Any) -> None:
    async def body(world: Any, _: trio.Nursery) -> float:
        client, server = await pair()
        world.fabric.path(*PATH).up = False
        await client.send_all(b"x")
        start = trio.current_time()
        with pytest.raises(trio.BrokenResourceError) as caught:
            await client.receive_some()
        assert errno_of(caught.value) == errno.ETIMEDOUT
        return trio.current_time() - start

    assert simulate(body) == pytest.approx(924, rel=0.05)


def test_a_half_close_leaves_the_other_direction_open(simulate: Any) -> None:
    async def body(_: Any, __: trio.Nursery) -> Any:
        client, server = await pair()
        await server.send_eof()
        seen = [await client.receive_some()]
        for _ in range(2):
            await client.send_all(b"x" * 100)
        await client.send_eof()
        return seen, sum([len(chunk) async for chunk in server])

    assert simulate(body) == ([b""], 200)


def test_a_peer_that_does_not_read_takes_two_buffers_and_then_blocks(simulate: Any) -> None:
    async def body(_: Any, __: trio.Nursery) -> tuple[int, int]:
        client, server = await pair()
        sent = 0
        with trio.move_on_after(60):
            while True:
                sent += await client.socket.send(b"x" * 4096)
        got = 0
        with trio.move_on_after(60):
            while got < sent:
                got += len(await server.receive_some(65536))
        return sent, got

    sent, got = simulate(body)
    assert sent == pytest.approx(841_344, rel=0.05)
    assert got == sent


def test_user_timeout_ends_unacknowledged_data_and_ignores_an_idle_connection(
    simulate: Any,
) -> None:
    async def body(world: Any, _: trio.Nursery) -> tuple[bool, float]:
        client, server = await pair()
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, 5000)
        world.fabric.path(*PATH).up = False
        with trio.move_on_after(600) as idle:
            await client.receive_some()
        await client.send_all(b"x")
        start = trio.current_time()
        with pytest.raises(trio.BrokenResourceError):
            await client.receive_some()
        return idle.cancelled_caught, trio.current_time() - start

    idle, took_s = simulate(body)
    assert idle
    assert took_s == pytest.approx(5.5, rel=0.05)


def test_keepalive_ends_an_idle_connection_after_idle_and_its_probes(simulate: Any) -> None:
    async def body(world: Any, _: trio.Nursery) -> float:
        client, server = await pair()
        client.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for option, value in (
            (socket.TCP_KEEPIDLE, 2),
            (socket.TCP_KEEPINTVL, 1),
            (socket.TCP_KEEPCNT, 3),
        ):
            client.setsockopt(socket.IPPROTO_TCP, option, value)
        await trio.sleep(60)  # a live peer answers its probes
        world.fabric.path(*PATH).up = False
        start = trio.current_time()
        with pytest.raises(trio.BrokenResourceError) as caught:
            await client.receive_some()
        assert errno_of(caught.value) == errno.ETIMEDOUT
        return trio.current_time() - start

    assert 3 <= simulate(body) <= 5.2


def test_addresses_and_ports_do_not_clash(simulate: Any) -> None:
    async def body(_: Any, __: trio.Nursery) -> Any:
        first = await trio.open_tcp_listeners(8080, host="127.0.0.1")
        with pytest.raises(OSError, match="in use"):
            await trio.open_tcp_listeners(8080, host="127.0.0.1")
        await first[0].aclose()
        again = await trio.open_tcp_listeners(8080, host="127.0.0.1")
        client = await trio.open_tcp_stream("localhost", 8080)
        server = await again[0].accept()
        return (
            client.socket.getpeername(),
            server.socket.getsockname(),
            client.socket.getsockname() == server.socket.getpeername(),
        )

    assert simulate(body) == (("127.0.0.1", 8080), ("127.0.0.1", 8080), True)
