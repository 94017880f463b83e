"""Bulk that nobody looks at moves in the kernel, what anybody looks at does not: never a byte lost or overtaken."""

from __future__ import annotations

import errno
import hashlib
import random
import socket
import struct
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
import trio

from chaos.faults.pipe import Stage
from chaos.link import splice as splice_module
from chaos.vocabulary.faults import Stall
from chaos.vocabulary.toxics import Latency, Noop, Slicer

pytestmark = pytest.mark.skipif(not splice_module.AVAILABLE, reason="splice(2) is Linux's")

MIB = 1 << 20


async def digest_of(stream: trio.SocketStream) -> tuple[int, str]:
    digest, size = hashlib.sha256(), 0
    while chunk := await stream.receive_some(256 * 1024):
        digest.update(chunk)
        size += len(chunk)
    return size, digest.hexdigest()


async def carried(
    here: Any, size: int, meanwhile: Callable[[], Awaitable[None]] | None = None
) -> None:
    """Send so many random bytes upstream, half-close, and see them arrive whole."""
    payload = random.Random(size).randbytes(MIB)
    wanted = hashlib.sha256()
    found: list[tuple[int, str]] = []

    async def send() -> None:
        for at in range(0, size, MIB):
            part = payload[: min(MIB, size - at)]
            wanted.update(part)
            await here.client.send_all(part)
        await here.client.send_eof()

    async def receive() -> None:
        found.append(await digest_of(here.server))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(send)
        nursery.start_soon(receive)
        if meanwhile is not None:
            nursery.start_soon(meanwhile)
    assert found == [(size, wanted.hexdigest())]


def open_files() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


async def test_bulk_passes_in_the_kernel_and_the_other_way_stays_open(line: Any) -> None:
    async with line() as here:
        await carried(here, 64 * MIB)
        assert here.spliced > 48 * MIB
        await here.server.send_all(b"thank you")
        assert await here.client.receive_some(100) == b"thank you"


async def test_an_observer_sees_every_byte(line: Any) -> None:
    async with line(observed=True) as here:
        await carried(here, 8 * MIB)
        assert here.spliced == 0


@pytest.mark.parametrize("word", [Latency(latency=1), Slicer(average_size=20_000)])
async def test_a_toxic_that_is_there_sees_every_byte(line: Any, word: Any) -> None:
    async with line() as here:
        here.relay.replace({"upstream": [Stage(key="1", settings=word)], "downstream": []})
        await carried(here, 8 * MIB)
        assert here.spliced == 0


async def test_a_noop_and_what_toxicity_leaves_out_need_see_nothing(line: Any) -> None:
    async with line() as here:
        stages = [
            Stage(key="1", settings=Noop()),
            Stage(key="2", settings=Latency(latency=60_000), toxicity=0),
        ]
        here.relay.replace({"upstream": stages, "downstream": []})
        await carried(here, 64 * MIB)
        assert here.spliced > 48 * MIB


async def test_toxics_come_and_go_in_the_flow_and_not_a_byte_is_lost_or_overtaken(
    line: Any,
) -> None:
    draws = random.Random(7)
    words = [Noop(), Latency(latency=3, jitter=3), Slicer(average_size=30_000), Stall()]

    async def meddle() -> None:
        for number in range(60):
            chosen = draws.sample(words, draws.choice([0, 0, 1, 2]))
            stages = [Stage(key=f"{number}-{n}", settings=word) for n, word in enumerate(chosen)]
            here.relay.replace({"upstream": stages, "downstream": []})
            await trio.sleep(draws.random() * 0.01)
        here.relay.replace({"upstream": [], "downstream": []})

    async with line() as here:
        await carried(here, 192 * MIB, meddle)
        assert here.spliced > 0


async def test_a_source_that_resets_is_told_as_such(line: Any) -> None:
    async with line() as here:
        with trio.move_on_after(1) as blocked:
            await here.client.send_all(bytes(64 * MIB))
        assert blocked.cancelled_caught
        here.client.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        here.client.socket.close()
        with pytest.raises(trio.BrokenResourceError) as caught:
            await digest_of(here.server)
        assert isinstance(caught.value.__cause__, OSError)
        assert caught.value.__cause__.errno == errno.ECONNRESET
        assert here.spliced > 0


async def test_a_target_that_closes_ends_the_source_too(line: Any) -> None:
    async with line() as here:
        with trio.move_on_after(0.5):
            await here.client.send_all(bytes(64 * MIB))
        await here.server.aclose()
        with trio.fail_after(5), pytest.raises(trio.BrokenResourceError):
            while True:
                await here.client.send_all(bytes(MIB))


async def test_what_is_lent_is_given_back_whatever_happens(line: Any) -> None:
    before = open_files()
    async with line() as here:
        with trio.move_on_after(0.3):
            await here.client.send_all(bytes(64 * MIB))
        # two pairs of sockets, and the pipe that is full
        assert open_files() == before + here.own_files + 4 + 2
    assert open_files() == before
    async with line() as here:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(here.client.send_all, bytes(16 * MIB))
            size = 0
            while size < 16 * MIB:
                size += len(await here.server.receive_some(MIB))
        assert here.spliced > 0
        with trio.fail_after(5):
            while open_files() > before + here.own_files + 4:
                await trio.sleep(0.01)
    assert open_files() == before


@pytest.mark.parametrize("observed", [False, True])
async def test_a_target_that_takes_no_more_stops_the_source(line: Any, observed: bool) -> None:
    async with line(observed=observed) as here:
        sent = 0
        with trio.move_on_after(1):
            while True:
                sent += await here.client.socket.send(bytes(64 * 1024))
        # what kernels keep for four sockets, and little besides
        assert sent < 32 * MIB
        assert here.relay.held_bytes("upstream") < MIB
