"""Paths: delays, bandwidth, queues and loss; programs see delay and never a gap."""

from __future__ import annotations

import socket
from collections.abc import Callable
from random import Random
from statistics import fmean, median
from typing import Any

import pytest
import trio

from chaos.networks.simulated.hosts import SERVER_ADDRESS, Host, client_address
from chaos.networks.simulated.paths import (
    HEADER_BYTES,
    Delay,
    Path,
    PathFault,
    constant,
    lognormal,
    lossy,
    normal,
    pareto,
    traced,
    uniform,
)
from chaos.networks.simulated.sockets import SimulatedSocket
from chaos.scenario.paths import parse_trace

LOCAL = ("127.0.0.1", "127.0.0.1")
THERE, HERE = client_address(1), SERVER_ADDRESS
DRAWS = 20_000


def path(**settings: Any) -> Path:
    return Path(Host("a"), Host("b"), **settings)


def drawn(make: Callable[[Random], Delay]) -> list[float]:
    delay = make(Random(1))
    return [delay(0.0) for _ in range(DRAWS)]


def test_distributions_have_their_moments() -> None:
    assert set(drawn(lambda _: constant(0.2))) == {0.2}
    rows = drawn(lambda rng: uniform(rng, 0.1, 0.3))
    assert min(rows) >= 0.1
    assert max(rows) <= 0.3
    assert fmean(rows) == pytest.approx(0.2, rel=0.02)
    assert fmean(drawn(lambda rng: normal(rng, 0.5, 0.1))) == pytest.approx(0.5, rel=0.02)
    assert min(drawn(lambda rng: normal(rng, 0.0, 0.1))) == 0
    assert median(drawn(lambda rng: lognormal(rng, 0.05, 1.0))) == pytest.approx(0.05, rel=0.05)
    rows = drawn(lambda rng: pareto(rng, 0.01, 3.0))
    assert min(rows) >= 0.01
    assert fmean(rows) == pytest.approx(0.015, rel=0.05)


def test_a_trace_holds_each_delay_until_the_next() -> None:
    delay = traced(parse_trace("# seconds\n0 0.1\n10, 0.5  # worse\n\n20 0.2\n"))
    assert [delay(now) for now in (0, 9.9, 10, 19, 20, 1e6)] == [0.1, 0.1, 0.5, 0.5, 0.2, 0.2]


@pytest.mark.parametrize("text", ["1 2 3", "soon 0.1", "5"])
def test_a_bad_line_of_a_trace_is_named(text: str) -> None:
    with pytest.raises(ValueError, match=r"line 2.*`time delay`"):
        parse_trace(f"0 0.1\n{text}")


@pytest.mark.parametrize("rows", [[], [(1.0, 0.1), (0.0, 0.1)]])
def test_a_trace_needs_rising_times(rows: list[tuple[float, float]]) -> None:
    with pytest.raises(ValueError, match="rising times"):
        traced(rows)


def test_order_is_kept_whatever_the_delays() -> None:
    one = path(delay=uniform(Random(2), 0, 1))
    arrivals = [one.transit(number / 100) for number in range(1000)]
    assert arrivals == sorted(arrivals, key=lambda at_s: at_s or 0.0)


def test_bandwidth_takes_time_for_each_byte_and_the_queue_drops_its_tail() -> None:
    one = path(bandwidth=1000.0, delay=constant(0.0), queue_bytes=2000)
    size = 1000 - HEADER_BYTES
    assert [one.transit(0.0, size) for _ in range(3)] == [1.0, 2.0, None]
    assert one.transit(1.0, size) == 3.0


def test_loss_is_the_share_that_it_says() -> None:
    one = path(loss=lossy(Random(1), 0.3))
    lost = sum(one.transit(0.0) is None for _ in range(DRAWS))
    assert lost / DRAWS == pytest.approx(0.3, rel=0.05)


def test_only_a_syn_meets_a_syn_drop_and_each_fault_says_what_it_dropped() -> None:
    said: list[str] = []
    one = path(faults=[PathFault(kind="syn_drop", felt=said.append)])
    assert one.transit(0.0) is not None
    assert one.transit(0.0, syn=True) is None
    one.faults[0] = PathFault(kind="partition", felt=said.append)
    assert one.transit(0.0) is None
    assert said == ["dropped a SYN", "dropped a packet"]


async def transfer(world: Any, size: int) -> tuple[bytes, float]:
    """Send bytes from one host to another, and return what came and how long it took."""
    world.hosts.settle(1)
    listener = SimulatedSocket(world, socket.AF_INET, socket.SOCK_STREAM, 0, HERE)
    await listener.bind(("0.0.0.0", 80))
    listener.listen()
    dialed = SimulatedSocket(world, socket.AF_INET, socket.SOCK_STREAM, 0, THERE)
    start = trio.current_time()
    await dialed.connect((HERE, 80))
    client, server = trio.SocketStream(dialed), trio.SocketStream((await listener.accept())[0])
    got = bytearray()

    async def send() -> None:
        await client.send_all(bytes(number & 0xFF for number in range(size)))
        await client.send_eof()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(send)
        async for chunk in server:
            got += chunk
    return bytes(got), trio.current_time() - start


@pytest.mark.parametrize(
    "settings",
    [
        {"loss": 0.2},
        {"bandwidth": 100_000.0},
        {"bandwidth": 100_000.0, "queue_bytes": 20_000},
        {"bandwidth": 200_000.0, "loss": 0.05, "queue_bytes": 40_000},
    ],
)
def test_whatever_the_path_loses_every_byte_arrives_once_and_in_order(
    simulate: Any, settings: dict[str, Any]
) -> None:
    size = 1_200_000

    async def body(world: Any, _: trio.Nursery) -> Any:
        for name, value in settings.items():
            given = lossy(Random(1), value) if name == "loss" else value
            setattr(world.fabric.path(THERE, HERE), name, given)
        with trio.fail_after(3600):
            return await transfer(world, size)

    got, took_s = simulate(body)
    assert got == bytes(number & 0xFF for number in range(size))
    if "bandwidth" in settings:
        assert took_s >= size / settings["bandwidth"]
    if settings == {"bandwidth": 100_000.0}:
        # 40 bytes of headers for each 1,448 of payload
        assert took_s == pytest.approx(size / 100_000 * 1488 / 1448, rel=0.01)
    if settings == {"loss": 0.2}:
        assert took_s > 0.2, "what was lost waited for a retransmission"


def test_a_window_update_that_is_lost_is_asked_for(simulate: Any) -> None:
    async def body(world: Any, nursery: trio.Nursery) -> int:
        [listener] = await trio.open_tcp_listeners(0, host="127.0.0.1")
        client = await trio.open_tcp_stream("127.0.0.1", listener.socket.getsockname()[1])
        server = await listener.accept()
        nursery.start_soon(client.send_all, b"x" * 2_000_000)
        await trio.sleep(60)
        world.fabric.path(*LOCAL).up = False
        await server.receive_some(400_000)  # the update that this sends is lost
        world.fabric.path(*LOCAL).up = True
        got = 400_000
        with trio.fail_after(300):
            while got < 2_000_000:
                got += len(await server.receive_some(65536))
        return got

    assert simulate(body) >= 2_000_000
