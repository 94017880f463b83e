"""One task for many sockets: what is called, when, and that nothing is called for a socket that is unwatched."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import trio

from chaos.link import poller as poller_module
from chaos.link.poller import Poller, TimerFd, poll

pytestmark = pytest.mark.skipif(not poller_module.AVAILABLE, reason="epoll and timerfd are Linux's")


@pytest.fixture
async def poller(nursery: trio.Nursery) -> AsyncIterator[Poller]:
    yield await nursery.start(poll)
    nursery.cancel_scope.cancel()


@pytest.fixture
def pair():
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    with ours, theirs:
        yield ours, theirs


def open_files() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


async def until(condition) -> None:
    with trio.fail_after(3):
        while not condition():
            await trio.lowlevel.checkpoint()


async def test_a_reader_is_called_for_as_long_as_there_is_something_to_read(poller, pair):
    ours, theirs = pair
    read = []
    poller.watch(ours.fileno(), lambda: read.append(ours.recv(2)))
    theirs.sendall(b"hello")
    await until(lambda: b"".join(read) == b"hello")
    theirs.close()
    await until(lambda: read[-1] == b"")
    poller.unwatch(ours.fileno())
    poller.unwatch(ours.fileno())


async def test_a_socket_that_a_call_of_the_same_batch_unwatches_is_not_called(poller):
    pairs = [socket.socketpair() for _ in range(2)]
    called = []

    def ready(number: int) -> None:
        called.append(number)
        for ours, theirs in pairs:
            poller.unwatch(ours.fileno())
            ours.close()
            theirs.close()

    for number, (ours, _) in enumerate(pairs):
        poller.watch(ours.fileno(), lambda number=number: ready(number))
    for _, theirs in pairs:
        theirs.sendall(b"x")
    await until(lambda: called)
    await trio.testing.wait_all_tasks_blocked(0.01)
    assert len(called) == 1


async def test_calls_to_come_are_made_in_the_order_of_their_times_and_never_early(poller):
    now = trio.current_time()
    called = []
    for delay_s in (0.02, 0.005, 0.01):
        poller.call_at(
            now + delay_s, lambda d=delay_s: called.append((d, trio.current_time() - now))
        )
    poller.call_at(now + 0.007, lambda: called.append((0.0, 0.0))).cancel()
    await until(lambda: len(called) == 3)
    assert [delay_s for delay_s, _ in called] == [0.005, 0.01, 0.02]
    assert all(after_s >= delay_s for delay_s, after_s in called)


async def test_a_call_for_soon_is_made_after_whoever_asks_and_may_ask_again(poller):
    called = []

    def first() -> None:
        poller.call_soon(lambda: called.append("second"))
        called.append("first")

    poller.call_soon(first)
    assert not called
    await until(lambda: called == ["first", "second"])


async def test_a_call_that_always_asks_for_another_does_not_keep_other_tasks_from_running(poller):
    count = 0

    def again() -> None:
        nonlocal count
        count += 1
        poller.call_soon(again)

    again()
    turns = 0
    with trio.fail_after(5):
        while turns < 20:
            await trio.lowlevel.checkpoint()
            turns += 1
    assert count > 1


async def test_calls_that_were_cancelled_are_not_kept_until_their_time(poller):
    far = trio.current_time() + 3600
    calls = [poller.call_at(far, lambda: None) for _ in range(1000)]
    for call in calls:
        call.cancel()
        call.cancel()
    assert len(poller._timed) < 200


async def test_what_ended_calls_nobody_and_refuses_nothing(pair):
    ours, theirs = pair
    called = []
    async with trio.open_nursery() as nursery:
        poller: Poller = await nursery.start(poll)
        poller.watch(ours.fileno(), lambda: called.append("reader"))
        nursery.cancel_scope.cancel()
    theirs.sendall(b"x")
    poller.call_soon(lambda: called.append("soon"))
    poller.call_at(trio.current_time(), lambda: called.append("timer"))
    poller.unwatch(ours.fileno())
    await trio.testing.wait_all_tasks_blocked(0.01)
    assert not called


async def test_it_leaves_no_file_open():
    before = open_files()
    async with trio.open_nursery() as nursery:
        await nursery.start(poll)
        assert open_files() == before + 2
        nursery.cancel_scope.cancel()
    assert open_files() == before


async def test_an_alarm_rings_once_and_can_be_set_anew():
    alarm = TimerFd()
    try:
        alarm.arm(1e300)
        alarm.arm(0)
        with trio.fail_after(1):
            await trio.lowlevel.wait_readable(alarm.fileno)
        alarm.clear()
        alarm.clear()
        with trio.move_on_after(0.02) as silent:
            await trio.lowlevel.wait_readable(alarm.fileno)
        assert silent.cancelled_caught
    finally:
        alarm.close()
        alarm.close()
    assert alarm.closed


def test_it_stays_after_events_only_while_that_pays():
    polling = poller_module._BusyPolling(50e-6)
    assert polling.stay_s() == 50e-6
    for _ in range(poller_module._CREDIT):
        polling.note(paid=False)
    stays = [polling.stay_s() for _ in range(2 * poller_module._TRIES_EVERY)]
    assert stays.count(50e-6) == 2
    polling.note(paid=True)
    assert polling.stay_s() == 50e-6


async def test_a_turn_ends_when_a_task_is_to_run(poller, pair):
    ours, theirs = pair
    seen = []

    def ready() -> None:
        ours.recv(100)
        theirs.sendall(b"x")  # there is always more
        poller.let_tasks_run()
        seen.append("call")

    poller.watch(ours.fileno(), ready)
    theirs.sendall(b"x")
    await until(lambda: seen)
    for _ in range(3):
        count = len(seen)
        await trio.lowlevel.checkpoint()
        # trio shuffles who runs in a pass of its loop: last in one and first in the next is two turns
        assert len(seen) <= count + 2
    poller.unwatch(ours.fileno())


async def test_calls_that_are_all_due_at_once_do_not_keep_other_tasks_from_running(poller):
    now, called = trio.current_time(), []

    def slow() -> None:
        called.append(trio.current_time())
        while trio.current_time() < called[-1] + poller_module.TURN_S / 2:
            pass

    for _ in range(100):
        poller.call_at(now, slow)
        poller.call_soon(slow)
    turns = 0
    while len(called) < 200:
        await trio.lowlevel.checkpoint()
        turns += 1
    assert turns > 50
