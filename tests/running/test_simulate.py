"""`chaos.simulate` runs any trio program on virtual time, the same way for the same seed."""

from __future__ import annotations

import time

import pytest
import trio

import chaos


async def echo_once(order: list[int]) -> float:
    async def serve(stream: trio.SocketStream) -> None:
        await stream.send_all(await stream.receive_some())

    async def ask(number: int) -> None:
        async with await trio.open_tcp_stream("localhost", port) as stream:
            await stream.send_all(b"%d" % number)
            order.append(int(await stream.receive_some()))

    async with trio.open_nursery() as nursery:
        listeners = await nursery.start(trio.serve_tcp, serve, 0)
        port = listeners[0].socket.getsockname()[1]
        async with trio.open_nursery() as asking:
            for number in range(8):
                asking.start_soon(ask, number)
        await trio.sleep(3600)
        nursery.cancel_scope.cancel()
    return trio.current_time()


def run_with(seed: int) -> tuple[float, list[int]]:
    order: list[int] = []
    return chaos.simulate(echo_once, order, seed=seed), order


def test_an_hour_takes_no_time_and_one_seed_gives_one_run() -> None:
    started_s = time.monotonic()
    ended_s, order = run_with(1)
    assert ended_s == pytest.approx(3600, abs=1)
    assert sorted(order) == list(range(8))
    assert run_with(1) == (ended_s, order)
    assert any(run_with(seed)[1] != order for seed in range(2, 8))
    assert time.monotonic() - started_s < 60


def test_what_the_program_raises_comes_out() -> None:
    async def fail() -> None:
        await trio.sleep(1000)
        raise LookupError("as it is")

    with pytest.raises(LookupError, match="as it is"):
        chaos.simulate(fail)


def test_a_port_that_nobody_listens_on_refuses() -> None:
    async def dial() -> None:
        await trio.open_tcp_stream("127.0.0.1", 9)

    with pytest.raises(OSError, match="9"):
        chaos.simulate(dial)
