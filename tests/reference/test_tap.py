"""The stream that knows whether it is alive."""

from __future__ import annotations

from typing import Any

import pytest
import trio
import trio.testing

from chaos.reference.tap import Tap
from chaos.wire.head import ResponseHead


async def test_the_end_of_the_stream_is_its_death() -> None:
    ours, theirs = trio.testing.memory_stream_pair()
    tap = Tap(ours)
    await theirs.send_all(b"last")
    await theirs.send_eof()
    assert await tap.receive_some() == b"last"
    assert tap.usable
    assert await tap.receive_some() == b""
    assert not tap.usable
    assert tap.error is None


@pytest.mark.parametrize("verb", ["send", "receive"])
async def test_an_error_is_its_death_and_is_kept(verb: str) -> None:
    ours, _ = trio.testing.memory_stream_pair()

    async def broken() -> None:
        raise trio.BrokenResourceError("reset")

    ours.send_stream.send_all_hook = broken
    ours.receive_stream.receive_some_hook = broken
    tap = Tap(ours)
    with pytest.raises(trio.BrokenResourceError):
        await (tap.send_all(b"x") if verb == "send" else tap.receive_some())
    assert str(tap.error) == "reset"
    tap.die(ValueError("later"))
    assert str(tap.error) == "reset"


async def test_who_waits_for_a_living_stream_is_released_by_its_death(
    autojump_clock: Any, nursery: trio.Nursery
) -> None:
    tap = Tap(trio.testing.memory_stream_pair()[0])

    async def die_later() -> None:
        await trio.sleep(5)
        tap.die()

    nursery.start_soon(die_later)
    with tap.while_alive():
        await trio.sleep(99)
    assert trio.current_time() == 5
    with tap.while_alive():
        await trio.sleep(99)
    assert trio.current_time() == 5
    assert not tap._scopes


async def test_a_block_that_needs_the_stream_may_have_a_limit_of_its_own(
    autojump_clock: Any,
) -> None:
    ours, _ = trio.testing.memory_stream_pair()
    tap = Tap(ours)
    with tap.while_alive(3) as scope:
        await trio.sleep(99)
    assert trio.current_time() == 3
    assert scope.cancelled_caught
    assert not tap.dead.is_set()
    assert not tap._scopes


async def test_a_send_that_was_cancelled_half_way_poisons_the_stream(autojump_clock: Any) -> None:
    ours, _ = trio.testing.memory_stream_pair()
    ours.send_stream.send_all_hook = trio.sleep_forever
    tap = Tap(ours)
    with trio.move_on_after(1):
        await tap.send_all(b"half a frame")
    assert not tap.usable
    ours.send_stream.send_all_hook = None
    with pytest.raises(trio.BrokenResourceError, match="half way"):
        await tap.send_all(b"next frame")


async def test_closing_closes_the_stream_under_it() -> None:
    ours, theirs = trio.testing.memory_stream_pair()
    tap = Tap(ours)
    await tap.aclose()
    assert tap.dead.is_set()
    assert await theirs.receive_some() == b""


async def test_a_refused_handshake_is_death_and_nothing_of_it_is_passed_on(
    autojump_clock: Any,
) -> None:
    ours, theirs = trio.testing.memory_stream_pair()
    tap = Tap(ours, head=ResponseHead())
    await theirs.send_all(b"HTTP/1.1 403 No\r\n\r\nbody")
    with trio.move_on_after(1), tap.while_alive():
        await tap.receive_some()
    assert tap.dead.is_set()
    assert trio.current_time() == 0


async def test_a_send_that_was_cancelled_before_it_began_does_no_harm() -> None:
    ours, theirs = trio.testing.memory_stream_pair()
    tap = Tap(ours)
    with trio.CancelScope() as scope:
        scope.cancel()
        await tap.send_all(b"nothing of this")
    assert scope.cancelled_caught
    assert tap.usable
    await tap.send_all(b"whole")
    assert await theirs.receive_some() == b"whole"


async def full_pair() -> tuple[Tap, trio.SocketStream]:
    """Return a tap on a socket that takes no more bytes, and the other end."""
    ours, theirs = (trio.SocketStream(sock) for sock in trio.socket.socketpair())
    with trio.move_on_after(0.05):
        while True:
            await ours.socket.send(bytes(65_536))
    return Tap(ours), theirs


async def test_a_small_send_that_finds_no_room_is_given_up_without_harm() -> None:
    tap, theirs = await full_pair()
    async with theirs:
        with trio.move_on_after(0.01) as scope:
            await tap.send_small(b"ping")
        assert scope.cancelled_caught
        assert tap.usable
        while not (await theirs.receive_some()).endswith(b"ping"):
            with trio.move_on_after(0.01):
                await tap.send_small(b"ping")
        await tap.abort()


async def test_a_small_send_to_a_peer_that_is_gone_is_the_streams_death() -> None:
    ours, theirs = (trio.SocketStream(sock) for sock in trio.socket.socketpair())
    tap = Tap(ours)
    await theirs.aclose()
    with pytest.raises(trio.BrokenResourceError):
        await tap.send_small(b"ping")
    assert isinstance(tap.error, trio.BrokenResourceError)
    await tap.abort()
    with pytest.raises(trio.BrokenResourceError):
        await tap.send_small(b"ping")


async def test_aborting_wakes_who_reads() -> None:
    ours, theirs = (trio.SocketStream(sock) for sock in trio.socket.socketpair())
    tap = Tap(ours)
    async with theirs, trio.open_nursery() as nursery:

        async def read() -> None:
            with pytest.raises(trio.ClosedResourceError):
                await tap.receive_some()

        nursery.start_soon(read)
        await trio.testing.wait_all_tasks_blocked()
        await tap.abort()
    assert not tap.usable
