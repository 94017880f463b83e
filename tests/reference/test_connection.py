"""One open connection: it can always be left, nothing of it hangs, and its ending is remembered as it was."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from typing import Any

import pytest
import trio
import trio.testing
from wsproto.events import BytesMessage, CloseConnection, Ping, Pong, TextMessage

from chaos.reference.connection import MESSAGE_BYTES_MAX, Connection, ConnectionLost
from chaos.reference.handshake import accept, connect, parse_url
from chaos.reference.outcome import Ended

TARGET = parse_url("ws://test/")
Open = Callable[..., AbstractAsyncContextManager[Connection]]


@pytest.fixture
def opened(wire: Any, script: Any) -> Open:
    """Return a context manager: a connection whose peer does what the given function says, after its 101."""

    def open_with(talk: Any, **settings: Any) -> Any:
        async def handler(stream: Any) -> None:
            await talk(await script(stream).accept())

        return connect(wire(handler), TARGET, headers={}, **settings)

    return open_with


async def hold(peer: Any) -> None:
    await trio.sleep_forever()


async def drained(connection: Connection) -> list[str | bytes]:
    got: list[str | bytes] = []
    with trio.CancelScope() as scope:
        await connection.receive_each(got.append, scope)
    return got


async def test_text_and_binary_pass_both_ways(autojump_clock: Any, opened: Open) -> None:
    got: list[Any] = []

    async def talk(peer: Any) -> None:
        got.extend([await peer.next(), await peer.next()])
        await peer.send(TextMessage("t"))
        await peer.send(BytesMessage(b"b"))
        await peer.drain()

    async with opened(talk) as connection:
        await connection.send("text")
        await connection.send(b"bytes")
        received: list[str | bytes] = []
        with trio.move_on_after(1) as scope:
            await connection.receive_each(received.append, scope)
        assert received == ["t", b"b"]
    assert [event.data for event in got] == ["text", b"bytes"]


async def test_a_pong_in_time_is_seen(autojump_clock: Any, opened: Open) -> None:
    async def talk(peer: Any) -> None:
        await peer.drain()

    async with opened(talk) as connection:
        for _ in range(3):
            assert await connection.ping(1.0)
        assert trio.current_time() == 0
        assert not connection.websocket._pings


async def test_a_rest_follows_a_pong_and_not_a_miss(autojump_clock: Any, opened: Open) -> None:
    async def talk(peer: Any) -> None:
        await trio.sleep(0.5)
        with trio.move_on_after(1):
            await peer.next()
        await peer.stream.aclose()

    async with opened(talk) as connection:
        assert await connection.ping(1.0, 4.0)
        assert trio.current_time() == 0.5 + 4
        assert connection.pong_s == 0.5
        # the peer has gone meanwhile: that ended no rest, and is no pong
        assert not await connection.ping(1.0, 4.0)
        assert trio.current_time() == 0.5 + 4


@pytest.mark.parametrize("_again", range(8))  # trio draws who is first
async def test_a_pong_that_comes_as_its_time_is_over_has_a_whole_rest_or_is_none(
    autojump_clock: Any, opened: Open, _again: int
) -> None:
    async def talk(peer: Any) -> None:
        peer.mute = True
        await trio.sleep(1.0)
        await peer.send(Pong(payload=b"\x00\x00\x00\x01"))
        await peer.drain()

    async with opened(talk) as connection:
        came = await connection.ping(1.0, 4.0)
        assert trio.current_time() == (5 if came else 1)
        await trio.testing.wait_all_tasks_blocked()  # let the peer finish


async def test_an_unanswered_ping_gives_up_and_leaves_nothing_behind(
    autojump_clock: Any, opened: Open
) -> None:
    async with opened(hold) as connection:
        for _ in range(20):
            assert not await connection.ping(0.5)
        await trio.testing.wait_all_tasks_blocked()
        assert trio.current_time() == 10
        assert not connection.websocket._pings
        # the reader is the only task left
        assert len(connection._readers.nursery.child_tasks) == 1


@pytest.mark.parametrize("death", ["fin", "reset", "cut"])
async def test_a_ping_in_flight_returns_at_once_when_the_connection_dies(
    autojump_clock: Any, opened: Open, death: str
) -> None:
    async def talk(peer: Any) -> None:
        await trio.sleep(2)
        if death == "fin":
            await peer.stream.aclose()

    async with opened(talk) as connection:

        async def kill() -> None:
            await trio.sleep(2)
            if death == "reset":
                connection.tap.die(trio.BrokenResourceError())
            elif death == "cut":
                await trio.aclose_forcefully(connection.tap)

        connection._readers.nursery.start_soon(kill)
        assert not await connection.ping(60)
        assert trio.current_time() == 2


async def test_a_late_pong_is_no_answer_to_a_later_ping(autojump_clock: Any, opened: Open) -> None:
    async def talk(peer: Any) -> None:
        peer.mute = True
        await trio.sleep(1.5)
        await peer.send(Pong(payload=b"\x00\x00\x00\x01"))
        await peer.drain()

    async with opened(talk) as connection:
        assert not await connection.ping(1.0)
        assert not await connection.ping(1.0)


async def test_a_ping_behind_a_full_send_buffer_is_missed_without_cutting_a_frame(
    autojump_clock: Any, opened: Open
) -> None:
    async with opened(hold) as connection:
        unblocked = trio.Event()
        connection.tap.inner.send_stream.wait_send_all_might_not_block_hook = unblocked.wait  # type: ignore[attr-defined]
        assert not await connection.ping(1.0)
        assert connection.usable
        assert not connection.websocket._pings
        unblocked.set()
        assert not await connection.ping(1.0), "nobody answers, but now it is sent"
        assert connection.usable


async def test_a_ping_on_a_stream_that_blocks_after_all_ends_the_connection(
    autojump_clock: Any, opened: Open
) -> None:
    async with opened(hold) as connection:
        connection.tap.inner.send_stream.send_all_hook = trio.sleep_forever  # type: ignore[attr-defined]
        assert not await connection.ping(1.0)
        assert not connection.usable


async def test_a_send_cancelled_half_way_ends_the_connection(
    autojump_clock: Any, opened: Open
) -> None:
    async with opened(hold) as connection:
        connection.tap.inner.send_stream.send_all_hook = trio.sleep_forever  # type: ignore[attr-defined]
        with trio.move_on_after(1):
            await connection.send("never whole")
        assert not connection.usable
        with pytest.raises(ConnectionLost):
            await connection.send("would be part of the frame before")
        assert await drained(connection) == []


async def test_a_peer_that_closes_gets_the_echo_and_its_code_is_kept(
    autojump_clock: Any, opened: Open
) -> None:
    echo: list[Any] = []

    async def talk(peer: Any) -> None:
        await peer.send(TextMessage("last"))
        await peer.send(CloseConnection(4000, "rejected"))
        echo.append(await peer.next())
        await peer.stream.aclose()

    async with opened(talk) as connection:
        assert await drained(connection) == ["last"]
    assert connection.ended == Ended(code=4000, reason="rejected", clean=True, by="peer")
    assert (echo[0].code, trio.current_time()) == (4000, 0)


async def test_a_close_without_fin_does_not_hang(autojump_clock: Any, opened: Open) -> None:
    async def talk(peer: Any) -> None:
        await peer.send(CloseConnection(1001))
        await trio.sleep_forever()

    async with opened(talk, close_timeout_s=2.0) as connection:
        await drained(connection)
    assert trio.current_time() == 2
    assert connection.ended == Ended(code=1001, clean=True, by="peer")


async def test_a_close_without_a_code_is_1005(autojump_clock: Any, opened: Open) -> None:
    async def talk(peer: Any) -> None:
        await peer.stream.send_all(b"\x88\x00")
        await peer.next()
        await peer.stream.aclose()

    async with opened(talk) as connection:
        await drained(connection)
    assert (connection.ended.code, connection.ended.by) == (1005, "peer")


async def test_an_end_without_a_close_is_1006(autojump_clock: Any, opened: Open) -> None:
    async def talk(peer: Any) -> None:
        await peer.stream.aclose()

    async with opened(talk) as connection:
        await drained(connection)
    assert connection.ended == Ended(code=1006, by="network")


async def test_1014_is_not_taken_for_a_protocol_error(autojump_clock: Any, opened: Open) -> None:
    async def talk(peer: Any) -> None:
        await peer.stream.send_all(b"\x88\x02\x03\xf6")
        await peer.drain()

    async with opened(talk) as connection:
        await drained(connection)
    assert (connection.ended.code, connection.ended.by) == (1014, "peer")


@pytest.mark.parametrize(
    ("frame", "code"), [(b"\xff\xff", 1002), (b"\x81\x02\xc3\x28", 1007), (b"\x83\x00", 1002)]
)
async def test_a_peer_that_breaks_the_protocol_is_told_and_left(
    autojump_clock: Any, opened: Open, frame: bytes, code: int
) -> None:
    told: list[Any] = []

    async def talk(peer: Any) -> None:
        await peer.stream.send_all(frame)
        told.append(await peer.next())

    async with opened(talk) as connection:
        await drained(connection)
    await trio.testing.wait_all_tasks_blocked()
    assert (connection.ended.code, connection.ended.by) == (code, "us")
    assert told[0].code == code


async def test_our_close_code_is_remembered_though_nobody_answers(
    autojump_clock: Any, opened: Open
) -> None:
    async with opened(hold, close_timeout_s=2.0) as connection:
        connection.close_soon(4001, "bye")
        assert await drained(connection) == []
    assert connection.ended == Ended(code=4001, reason="bye", clean=False, by="us")
    assert trio.current_time() == 2


async def test_our_close_is_clean_when_it_is_answered(autojump_clock: Any, opened: Open) -> None:
    async def talk(peer: Any) -> None:
        event = await peer.next()
        await peer.send(event.response())
        await peer.drain()

    async with opened(talk) as connection:
        connection.close_soon(4001)
    assert connection.ended == Ended(code=4001, clean=True, by="us")
    assert trio.current_time() == 0


async def test_pings_that_arrive_while_we_close_do_not_break_the_closing_handshake(
    autojump_clock: Any, opened: Open
) -> None:
    async def talk(peer: Any) -> None:
        close = await peer.next()
        for _ in range(3):
            await peer.stream.send_all(b"\x89\x01x")
            await trio.sleep(0.1)
        await peer.send(close.response())
        await peer.drain()

    async with opened(talk) as connection:
        connection.close_soon(1000)
    assert connection.ended.clean
    assert trio.current_time() == pytest.approx(0.3)


async def test_giving_up_says_so_without_waiting_for_an_answer(
    autojump_clock: Any, opened: Open
) -> None:
    heard: list[Any] = []

    async def talk(peer: Any) -> None:
        heard.append(await peer.next())

    async with opened(talk) as connection:
        connection.give_up(4200, "heartbeat timeout")
        await drained(connection)
    assert trio.current_time() == 0
    await trio.testing.wait_all_tasks_blocked()
    assert heard[0].code == 4200


async def test_giving_up_is_not_held_up_by_a_full_send_buffer(
    autojump_clock: Any, opened: Open
) -> None:
    async with opened(hold) as connection:
        connection.tap.inner.send_stream.send_all_hook = trio.sleep_forever  # type: ignore[attr-defined]
        connection.give_up(4200, "")
        await drained(connection)
    assert trio.current_time() < 0.1


async def test_unread_messages_come_before_the_ending(autojump_clock: Any, opened: Open) -> None:
    async def talk(peer: Any) -> None:
        for n in range(10):
            await peer.send(TextMessage(str(n)))
        await peer.send(CloseConnection(1012))
        await peer.drain()

    async with opened(talk) as connection:
        await trio.sleep(1)
        assert await drained(connection) == [str(n) for n in range(10)]
    assert connection.ended.code == 1012


async def test_unread_messages_do_not_hide_the_pong(autojump_clock: Any, opened: Open) -> None:
    async def talk(peer: Any) -> None:
        for n in range(20):
            await peer.send(TextMessage(str(n)))
        await peer.drain()

    async with opened(talk) as connection:
        assert await connection.ping(1.0)


async def test_a_message_above_the_limit_ends_with_1009(autojump_clock: Any, opened: Open) -> None:
    async def talk(peer: Any) -> None:
        await peer.send(BytesMessage(b"x" * (MESSAGE_BYTES_MAX + 1)))
        await peer.drain()

    async with opened(talk) as connection:
        await drained(connection)
    assert (connection.ended.code, connection.ended.by) == (1009, "us")


async def test_cancelling_cuts_the_stream_without_a_word(autojump_clock: Any, opened: Open) -> None:
    heard: list[Any] = []

    async def talk(peer: Any) -> None:
        heard.append(await peer.next())

    with trio.move_on_after(1):
        async with opened(talk) as connection:
            await drained(connection)
    await trio.testing.wait_all_tasks_blocked()
    assert heard == [None]
    assert trio.current_time() == 1


async def test_nothing_keeps_an_old_connection_alive(autojump_clock: Any, opened: Open) -> None:
    async def talk(peer: Any) -> None:
        await peer.stream.aclose()

    old: list[weakref.ref[Any]] = []
    for _ in range(10):
        async with opened(talk) as connection:
            await connection.ping(1.0)
            await drained(connection)
        old.append(weakref.ref(connection.websocket))
        del connection
    gc.collect()
    assert sum(ref() is not None for ref in old) == 0


async def test_a_server_closes_the_socket_itself_after_the_closing_handshake(
    autojump_clock: Any, script: Any, nursery: trio.Nursery
) -> None:
    ours, theirs = trio.testing.memory_stream_pair()

    async def yes(request: Any) -> Any:
        return await request.accept()

    async def server() -> None:
        async with accept(theirs, yes, close_timeout_s=1.0) as connection:
            assert connection is not None
            await drained(connection)
            ended.append(connection)

    ended: list[Connection] = []
    nursery.start_soon(server)
    peer = await script.dial(ours)
    await peer.send(Ping())
    await peer.send(CloseConnection(1000))
    await peer.drain()
    assert ended[0].ended == Ended(code=1000, clean=True, by="peer")
    assert trio.current_time() == 0
