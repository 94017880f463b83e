"""What passes a connection that nobody observes, whether tasks read its sockets or a poller does."""

from __future__ import annotations

import errno
import socket
import struct
from typing import Any

import pytest
import trio

from chaos.faults.pipe import Stage
from chaos.vocabulary.faults import IdleTimeout
from chaos.vocabulary.toxics import Bandwidth, Latency, Timeout

ENDS = ("faithful", "toxiproxy")


async def reset(stream: trio.SocketStream) -> None:
    stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    await trio.aclose_forcefully(stream)


async def end_of(stream: trio.SocketStream) -> str:
    with trio.fail_after(3):
        try:
            while await stream.receive_some(65536):
                pass
        except trio.BrokenResourceError as error:
            assert isinstance(error.__cause__, OSError)
            assert error.__cause__.errno == errno.ECONNRESET
            return "rst"
    return "fin"


def stages(*words: Any) -> list[Stage]:
    return [Stage(key=f"{number}", settings=word) for number, word in enumerate(words)]


@pytest.mark.parametrize("end_policy", ENDS)
async def test_bytes_pass_both_ways(line: Any, end_policy: Any) -> None:
    async with line(end_policy=end_policy) as here:
        for _ in range(3):
            await here.client.send_all(b"ping")
            assert await here.server.receive_some(10) == b"ping"
            await here.server.send_all(b"pong")
            assert await here.client.receive_some(10) == b"pong"


async def test_a_half_close_passes_and_the_other_way_stays_open(line: Any) -> None:
    async with line() as here:
        await here.client.send_eof()
        assert await end_of(here.server) == "fin"
        await here.server.send_all(b"still here")
        assert await here.client.receive_some(100) == b"still here"
        await here.server.send_eof()
        assert await end_of(here.client) == "fin"


async def test_a_half_close_ends_both_ways_as_toxiproxy_has_it(line: Any) -> None:
    async with line(end_policy="toxiproxy") as here:
        await here.client.send_eof()
        assert await end_of(here.server) == "fin"
        assert await end_of(here.client) == "fin"


@pytest.mark.parametrize(("end_policy", "felt"), [("faithful", "rst"), ("toxiproxy", "fin")])
async def test_an_rst_passes_or_becomes_a_close(line: Any, end_policy: Any, felt: str) -> None:
    async with line(end_policy=end_policy) as here:
        await reset(here.server)
        assert await end_of(here.client) == felt


async def test_what_is_sent_to_a_peer_that_went_away_is_answered_with_its_rst(line: Any) -> None:
    async with line() as here:
        await here.server.aclose()
        assert await end_of(here.client) == "fin"
        with trio.fail_after(3), pytest.raises(trio.BrokenResourceError):
            while True:
                await here.client.send_all(b"x")
                await trio.lowlevel.checkpoint()


@pytest.mark.parametrize("side", ["client", "server"])
async def test_a_reset_of_one_side_leaves_the_other_in_silence(line: Any, side: Any) -> None:
    async with line() as here:
        here.relay.reset(side)
        cut, left = (here.client, here.server) if side == "client" else (here.server, here.client)
        assert await end_of(cut) == "rst"
        await left.send_all(b"anybody?")
        with trio.move_on_after(0.05) as silence:
            await left.receive_some(10)
        assert silence.cancelled_caught


async def test_latency_delivers_in_order_and_never_early(line: Any) -> None:
    async with line() as here:
        here.relay.replace({"upstream": stages(Latency(latency=30)), "downstream": []})
        start = trio.current_time()
        for number in range(3):
            await here.client.send_all(b"%d" % number)
        received = b""
        while len(received) < 3:
            received += await here.server.receive_some(10)
        assert received == b"012"
        assert trio.current_time() - start >= 0.03
        # what is on its way is delivered at once when the toxic goes
        here.relay.replace({"upstream": stages(Latency(latency=60_000)), "downstream": []})
        await here.client.send_all(b"late")
        await trio.testing.wait_all_tasks_blocked(0.01)
        here.relay.replace({"upstream": [], "downstream": []})
        with trio.fail_after(3):
            assert await here.server.receive_some(10) == b"late"


async def test_a_slow_target_holds_the_source_back_and_nothing_is_lost(line: Any) -> None:
    async with line() as here:
        here.relay.replace({"upstream": stages(Bandwidth(rate=20_000)), "downstream": []})
        size = 4_000_000
        async with trio.open_nursery() as nursery:
            nursery.start_soon(here.client.send_all, bytes(size))
            left = size
            while left:
                left -= len(await here.server.receive_some(100_000))


async def test_a_timeout_closes_both_sides_when_its_time_has_come(line: Any) -> None:
    async with line(end_policy="toxiproxy") as here:
        start = trio.current_time()
        here.relay.replace({"upstream": stages(Timeout(timeout=20)), "downstream": []})
        await here.client.send_all(b"lost")
        assert await end_of(here.client) == "fin"
        assert await end_of(here.server) == "fin"
        assert trio.current_time() - start >= 0.02


async def test_a_mistake_of_ours_ends_the_connection_and_is_raised(
    line: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.RaisesGroup(
        pytest.RaisesExc(ZeroDivisionError), allow_unwrapped=True, flatten_subgroups=True
    ):
        async with line() as here:
            monkeypatch.setattr(here.relay._directions["upstream"].pipe, "feed", lambda *_: 1 / 0)
            await here.client.send_all(b"x")
            await end_of(here.client)
            await trio.sleep_forever()


async def test_closing_it_tells_both_sides(line: Any) -> None:
    async with line() as here:
        here.relay.close()
        assert await end_of(here.client) == "fin"
        assert await end_of(here.server) == "fin"


@pytest.mark.parametrize("end_policy", ENDS)
@pytest.mark.parametrize("how", ["fin", "rst"])
async def test_an_end_may_be_answered_with_an_rst(line: Any, how: str, end_policy: Any) -> None:
    async with line(end_policy=end_policy) as here:
        word = IdleTimeout.model_validate({"after": "1ms", "action": "drop_then_rst"})
        here.relay.replace(dict.fromkeys(("upstream", "downstream"), stages(word)))
        await trio.sleep(0.02)
        if how == "rst":
            await reset(here.client)
        else:
            await here.client.send_eof()
            assert await end_of(here.client) == "rst"
        await here.server.send_all(b"x")
        assert await end_of(here.server) == "rst"
