"""What every network must do, whoever applies the toxics: one set of bodies, on the embedded one and on Toxiproxy."""

from __future__ import annotations

import errno
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
import trio

pytestmark = pytest.mark.slow

# what a busy machine may add to any wait
LATE_S = 3.0


def toxic(word: str, stream: str = "downstream", **attributes: int) -> dict[str, Any]:
    return {
        "kind": "toxic",
        "word": word,
        "stream": stream,
        "parameters": attributes,
        "for": "10s",
    }


def fault(word: str, **parameters: Any) -> dict[str, Any]:
    return {"kind": "fault", "word": word, "parameters": parameters, "for": "10s"}


async def hold(stream: trio.SocketStream) -> None:
    """Read and never answer."""
    async for _ in stream:
        pass


async def timed(work: Callable[[], Awaitable[Any]]) -> tuple[Any, float]:
    start_s = trio.current_time()
    result = await work()
    return result, trio.current_time() - start_s


async def nothing_comes(stream: trio.SocketStream, within_s: float = 0.3) -> None:
    with trio.move_on_after(within_s) as scope:
        got = await stream.receive_some(1)
        raise AssertionError(f"expected silence, got {got!r}")
    assert scope.cancelled_caught


async def ending(stream: trio.SocketStream) -> str:
    """Read to the end and say whether it was a FIN or an RST."""
    try:
        while await stream.receive_some(65536):
            pass
    except trio.BrokenResourceError as error:
        number = error.__cause__.errno if isinstance(error.__cause__, OSError) else None
        return "rst" if number == errno.ECONNRESET else f"{error.__cause__!r}"
    return "fin"


async def test_bytes_pass_unchanged_both_ways_in_bulk(net: str, world: Any, wire: Any) -> None:
    payload = bytes(range(256)) * 2048
    sent, back = wire.frame(payload, masked=True), wire.frame(payload[::-1], masked=False)
    arrived: list[bytes] = []

    async def swap(stream: trio.SocketStream) -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(stream.send_all, back)
            arrived.append(await wire.read_exactly(stream, len(sent)))
        await hold(stream)

    async with world(net, swap) as here:
        stream = await here.connect()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(stream.send_all, sent)
            assert await wire.read_exactly(stream, len(back)) == back
        await here.until(lambda: arrived)
        assert arrived == [sent]
        frames = {(e.stream, e["side"], e["bytes"]) for e in here.kinds("frame")}
        assert frames == {
            (stream_name, side, len(payload))
            for stream_name in ("upstream", "downstream")
            for side in ("client", "server")
        }


def unframe(stream: bytes) -> bytes:
    out = b""
    while stream:
        size, at = stream[1], 2
        if size == 127:
            size, at = int.from_bytes(stream[2:10], "big"), 10
        assert len(stream) >= at + size
        out += stream[at : at + size]
        stream = stream[at + size :]
    return out


async def test_a_fin_of_either_peer_reaches_the_other(net: str, world: Any, wire: Any) -> None:
    seen: list[str] = []

    async def first_reads_then_ends(stream: trio.SocketStream) -> None:
        got = await stream.receive_some(100)
        if got == b"":
            seen.append("the client's FIN")
        await stream.aclose()

    async with world(net, first_reads_then_ends) as here:
        leaving = await here.connect()
        await leaving.send_eof()
        await here.until(lambda: seen)
        left = await here.connect()
        await left.send_all(wire.frame(b"end", masked=True))
        assert await ending(left) == "fin"
        await left.aclose()
        await here.until(lambda: len(here.kinds("closed")) == 2)


@pytest.mark.parametrize("stream_name", ["upstream", "downstream"])
async def test_latency_delays_one_direction_by_what_it_says(
    net: str, world: Any, wire: Any, stream_name: str
) -> None:
    async with world(net, wire.echo, toxic("latency", stream_name, latency=300)) as here:
        stream = await here.connect()

        async def round_trip() -> None:
            await stream.send_all(wire.frame(b"x", masked=True))
            await wire.read_exactly(stream, 9)

        await here.apply(0, "on")
        _, took_s = await timed(round_trip)
        assert 0.295 <= took_s < 0.6 + LATE_S
        entered = {"upstream": "client", "downstream": "server"}[stream_name]
        times = {e["side"]: e.at_s for e in here.kinds("frame") if e.stream == stream_name}
        passed = {e["side"]: e.at_s for e in here.kinds("frame") if e.stream != stream_name}
        assert abs(times["client"] - times["server"]) >= 0.295, f"{entered} enters"
        assert abs(passed["client"] - passed["server"]) < 0.25
        await here.until(lambda: here.felt)
        assert {(row.stream, row["entry"]) for row in here.felt} == {(stream_name, 0)}
        await here.apply(0, "off")
        _, took_s = await timed(round_trip)
        assert took_s < 0.25


async def test_latency_on_both_streams_adds_up(net: str, world: Any, wire: Any) -> None:
    async with world(net, wire.echo, toxic("latency", "both", latency=200)) as here:
        await here.apply(0, "on")
        _, took_s = await timed(here.connect)
        assert 0.39 <= took_s < 0.6 + LATE_S


async def test_bandwidth_paces_bytes(net: str, world: Any, wire: Any) -> None:
    big = wire.frame(bytes(20_000), masked=False)

    async def burst(stream: trio.SocketStream) -> None:
        await stream.receive_some(100)
        await stream.send_all(big)
        await stream.receive_some(100)

    async with world(net, burst, toxic("bandwidth", rate=40)) as here:
        stream = await here.connect()
        await here.apply(0, "on")
        await stream.send_all(wire.frame(b"go", masked=True))
        got, took_s = await timed(lambda: wire.read_exactly(stream, len(big)))
        assert got == big
        assert 0.45 <= took_s < 0.6 + LATE_S  # 20 kB at 40 KB/s


async def test_bandwidth_of_zero_holds_and_its_removal_releases_every_byte(
    net: str, world: Any, wire: Any
) -> None:
    async with world(net, wire.echo, toxic("bandwidth", rate=0)) as here:
        stream = await here.connect()
        await here.apply(0, "on")
        for _ in range(20):
            await stream.send_all(wire.frame(b"0123456789", masked=True))
            await trio.sleep(0.005)
        await nothing_comes(stream)
        assert here.entries_felt() == {0}
        await here.apply(0, "off")
        got = b""
        while len(unframe_what_is_whole(got)) < 20 * 16:
            got += await stream.receive_some(65536)
        assert unframe(got) == wire.frame(b"0123456789", masked=True) * 20


def unframe_what_is_whole(got: bytes) -> bytes:
    try:
        return unframe(got)
    except (AssertionError, IndexError):
        return b""


async def test_slow_close_holds_the_fin_back_and_nothing_else(
    net: str, world: Any, wire: Any
) -> None:
    async def say_and_end(stream: trio.SocketStream) -> None:
        await stream.receive_some(100)
        await stream.send_all(wire.frame(b"bye", masked=False))
        await stream.aclose()

    async with world(net, say_and_end, toxic("slow_close", delay=400)) as here:
        stream = await here.connect()
        await here.apply(0, "on")
        await stream.send_all(wire.frame(b"go", masked=True))
        _, said_s = await timed(lambda: wire.read_exactly(stream, 5))
        ended, took_s = await timed(lambda: ending(stream))
        assert ended == "fin"
        assert said_s < 0.3
        assert 0.39 <= said_s + took_s < 0.6 + LATE_S
        assert here.entries_felt() == {0}


async def test_timeout_discards_and_its_removal_closes(net: str, world: Any, wire: Any) -> None:
    async with world(net, wire.echo, toxic("timeout", timeout=0)) as here:
        stream = await here.connect()
        await here.apply(0, "on")
        await stream.send_all(wire.frame(b"lost", masked=True))
        await nothing_comes(stream)
        assert here.entries_felt() == {0}
        await here.apply(0, "off")
        with trio.fail_after(LATE_S):
            assert await ending(stream) == "fin"
        again = await here.connect()
        await again.send_all(wire.frame(b"x", masked=True))
        assert await wire.read_exactly(again, 9)


async def test_timeout_closes_an_idle_connection_after_its_time_and_says_so(
    net: str, world: Any, wire: Any
) -> None:
    async with world(net, wire.echo, toxic("timeout", timeout=300)) as here:
        stream = await here.connect()
        await here.apply(0, "on")
        ended, took_s = await timed(lambda: ending(stream))
        assert ended == "fin"
        assert 0.25 <= took_s < 0.3 + LATE_S
        await here.until(here.entries_felt)


async def test_reset_peer_resets_a_connection_that_is_made_after_it(
    net: str, world: Any, wire: Any
) -> None:
    server_saw: list[str] = []

    async def answer(stream: trio.SocketStream) -> None:
        server_saw.append(await ending(stream))

    async with world(net, answer, toxic("reset_peer", "upstream", timeout=0)) as here:
        await here.apply(0, "on")
        stream = await trio.open_tcp_stream("127.0.0.1", here.ports[0])
        here.streams.append(stream)
        await stream.send_all(b"GET / HTTP/1.1\r\n")
        with trio.fail_after(LATE_S):
            assert await ending(stream) == "rst"
        await here.until(lambda: here.kinds("rst"))
        await here.until(here.entries_felt)


async def test_slicer_delivers_the_same_bytes_in_small_pieces(
    net: str, world: Any, wire: Any
) -> None:
    pieces: list[bytes] = []

    async def collect(stream: trio.SocketStream) -> None:
        while chunk := await stream.receive_some(65536):
            pieces.append(chunk)

    # 20 ms between pieces, so that they are not read together
    sliced = toxic("slicer", "upstream", average_size=64, size_variation=0, delay=20_000)
    async with world(net, collect, sliced) as here:
        stream = await here.connect()
        await here.apply(0, "on")
        sent = wire.frame(bytes(range(256)), masked=True)
        await stream.send_all(sent)
        await here.until(lambda: sum(map(len, pieces)) == len(sent))
        assert b"".join(pieces) == sent
        assert len(pieces) >= 3
        assert here.entries_felt() == {0}


async def test_limit_data_closes_at_its_limit(net: str, world: Any, wire: Any) -> None:
    async def pour(stream: trio.SocketStream) -> None:
        await stream.receive_some(100)
        await stream.send_all(wire.frame(bytes(500), masked=False))
        await hold(stream)

    async with world(net, pour, toxic("limit_data", bytes=100)) as here:
        stream = await here.connect()
        await here.apply(0, "on")
        await stream.send_all(wire.frame(b"go", masked=True))
        got = await wire.read_exactly(stream, 100)
        assert len(got) == 100
        with trio.fail_after(LATE_S):
            assert await ending(stream) == "fin"
        await here.until(here.entries_felt)
        assert here.entries_felt() == {0}


async def test_noop_passes_bytes_and_is_felt_by_them(net: str, world: Any, wire: Any) -> None:
    async with world(net, wire.echo, toxic("noop")) as here:
        stream = await here.connect()
        await here.apply(0, "on")
        await stream.send_all(wire.frame(b"x", masked=True))
        await wire.read_exactly(stream, 9)
        await here.until(lambda: here.entries_felt() == {0})


@pytest.mark.parametrize(
    "unfelt",
    [
        toxic("latency", "upstream", latency=50),
        toxic("bandwidth", "upstream", rate=1),
        toxic("slow_close", "downstream", delay=50),
        toxic("timeout", "upstream", timeout=0),
        toxic("limit_data", "downstream", bytes=1_000_000),
        toxic("reset_peer", "upstream", timeout=0),
        toxic("slicer", "downstream", average_size=10_000),
    ],
    ids=lambda entry: entry["word"],
)
async def test_a_toxic_that_touches_nothing_is_not_told_as_felt(
    net: str, world: Any, wire: Any, unfelt: dict[str, Any]
) -> None:
    """The server speaks a little and stays; the client never speaks after the handshake, and never ends."""

    async def speak(stream: trio.SocketStream) -> None:
        for _ in range(5):
            await stream.send_all(wire.frame(b"x", masked=False))
            await trio.sleep(0.02)
        await hold(stream)

    async with world(net, speak, unfelt) as here:
        stream = await here.connect()
        await here.apply(0, "on")
        await wire.read_exactly(stream, 3)
        await trio.sleep(0.15)
        assert here.felt == []


async def test_limit_data_is_not_felt_by_a_peer_that_just_leaves(
    net: str, world: Any, wire: Any
) -> None:
    async def leave(stream: trio.SocketStream) -> None:
        await stream.receive_some(100)
        await stream.aclose()

    async with world(net, leave, toxic("limit_data", bytes=1_000_000)) as here:
        stream = await here.connect()
        await here.apply(0, "on")
        await stream.send_all(wire.frame(b"go", masked=True))
        assert await ending(stream) == "fin"
        await stream.aclose()
        await here.until(lambda: here.kinds("closed"))
        assert here.felt == []


async def test_down_closes_and_refuses_and_the_same_port_works_afterwards(
    net: str, world: Any, wire: Any
) -> None:
    async def leave_at_the_end(stream: trio.SocketStream) -> None:
        with trio.fail_after(LATE_S):
            await ending(stream)
        await trio.aclose_forcefully(stream)

    async with world(net, wire.echo, fault("down")) as here:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(leave_at_the_end, await here.connect())
            await here.apply(0, "on")
        assert here.entries_felt() == {0}
        for _ in range(3):
            with pytest.raises(OSError, match="connect"):
                await trio.open_tcp_stream("127.0.0.1", here.ports[0])
        await here.apply(0, "off")
        again = await here.connect()
        await again.send_all(wire.frame(b"x", masked=True))
        assert await wire.read_exactly(again, 9)
        [_, second] = here.kinds("open")
        assert second.connection == 2


async def test_connection_numbers_agree_on_both_sides_under_many_connections_at_once(
    net: str, world: Any, wire: Any
) -> None:
    count = 60

    async def one(here: Any, number: int) -> None:
        stream = await here.connect()
        # the size says who it is: links record sizes, never bytes
        await stream.send_all(wire.frame(bytes(200 + number), masked=True))
        await stream.receive_some(100)

    async with world(net, wire.echo) as here:
        async with trio.open_nursery() as nursery:
            for number in range(count):
                nursery.start_soon(one, here, number)
        sides: dict[str, dict[int, int]] = {"client": {}, "server": {}}
        for event in here.kinds("frame"):
            if event.stream == "upstream":
                sides[event["side"]][event.connection] = event["bytes"]
        assert len(sides["client"]) == count
        assert sides["server"] == sides["client"]
        assert {e.connection for e in here.kinds("dialed")} == set(range(1, count + 1))


async def test_connection_numbers_agree_again_after_connections_that_failed(
    net: str, world: Any, wire: Any
) -> None:
    """A connection that never arrives behind must not shift the numbers of those after it."""
    async with world(net, wire.echo, fault("down")) as here:
        async with trio.open_nursery() as nursery:

            async def storm() -> None:
                for _ in range(20):
                    try:
                        stream = await trio.open_tcp_stream("127.0.0.1", here.ports[0])
                    except OSError:
                        continue
                    await trio.aclose_forcefully(stream)

            for _ in range(5):
                nursery.start_soon(storm)
            await here.apply(0, "on")
            await trio.sleep(0.01)
            await here.apply(0, "off")
        stream = await here.connect()
        await stream.send_all(wire.frame(bytes(77), masked=True))
        await wire.read_exactly(stream, 10)
        frames = [e for e in here.kinds("frame") if e.stream == "upstream" and e["bytes"] == 77]
        assert {e["side"] for e in frames} == {"client", "server"}
        assert len({e.connection for e in frames}) == 1


async def test_a_toxic_of_one_client_leaves_the_others_alone(
    net: str, world: Any, wire: Any
) -> None:
    entry = toxic("latency", latency=400) | {"clients": (2,)}
    async with world(net, wire.echo, entry, clients=2) as here:
        await here.apply(0, "on")
        _, first_s = await timed(lambda: here.connect(1))
        _, second_s = await timed(lambda: here.connect(2))
        assert first_s < 0.35
        assert second_s >= 0.395
        assert {row.client for row in here.felt} == {2}
