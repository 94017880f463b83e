"""What calls functions: when a socket has something to read, when a time has come, or soon.

A connection asks a `Caller` for calls, so that it needs no task of its own that waits. There are two here. The
`Poller` (Linux) makes the calls of all connections of a server from one task. Where there is none, the tasks of a
nursery make them (`TaskCaller`). The simulation has a third one. A function that is called must not raise, nor wait.

trio registers a socket with the kernel for each wait, and wakes a task for it in a turn of its loop. The poller
registers a socket once, and calls a function. In trio's loop all of its sockets are a single file number to wait for.
After an event the poller stays for a moment and looks again (busy polling): a peer that was sent something often
answers at once, and sleeping and waking would take longer than the answer. It stays only while that pays.
"""

from __future__ import annotations

import ctypes
import os
import select
import sys
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from heapq import heapify, heappop, heappush
from itertools import count
from typing import Protocol

import trio

AVAILABLE = sys.platform == "linux"
# how long the poller looks for more after an event: what the kernel's documentation suggests for net.core.busy_poll
BUSY_S = 50e-6
# the other tasks of the loop (the HTTP API, those that accept) never wait longer than this and one event
TURN_S = 0.5e-3
# events that are asked for at once: few, so that a turn can end between two batches
_BATCH = 16
# stays that may be in vain before the poller stays no more, and how many events pass then before it tries again
_CREDIT = 8
_TRIES_EVERY = 32
_CANCELLED_MAX = 64

Call = Callable[[], None]


class PendingCall(Protocol):
    """A call that will be made at `at_s` of trio's clock."""

    at_s: float

    def cancel(self) -> None:
        """Cancel the call; idempotent."""


class Caller(Protocol):
    """Makes calls for a connection."""

    def call_soon(self, call: Call) -> None:
        """Make a call when the code that runs now has ended its turn."""

    def call_at(self, at_s: float, call: Call) -> PendingCall:
        """Make a call at a time of trio's clock."""
        ...

    def let_tasks_run(self) -> None:
        """End the turn of now soon: a task was started or woken."""


@dataclass(slots=True, eq=False)
class _PollerCall:
    """A call at a time, which the poller will make; None once it is made or cancelled."""

    at_s: float
    call: Call | None
    poller: Poller

    def cancel(self) -> None:
        if self.call is not None:
            self.call = None
            self.poller.note_cancelled()


@dataclass(slots=True)
class _BusyPolling:
    """Decides whether to stay for a moment after an event: for as long as that has lately paid."""

    busy_s: float
    credit: int = _CREDIT
    skipped: int = 0

    def stay_s(self) -> float:
        """Return for how long to look for more now."""
        if self.credit > 0:
            return self.busy_s
        self.skipped += 1
        return self.busy_s if self.skipped % _TRIES_EVERY == 0 else 0.0

    def note(self, *, paid: bool) -> None:
        """Note whether a stay has met another event."""
        self.credit = _CREDIT if paid else max(0, self.credit - 1)


@dataclass(slots=True, kw_only=True)
class Poller:
    """A caller that also watches sockets of the kernel. `poll` makes one, and its task makes the calls.

    Once that task has ended, no call is made. Nothing here is thread-safe.
    """

    _epoll: select.epoll
    _alarm: TimerFd
    _busy_polling: _BusyPolling
    _readers: dict[int, Call] = field(default_factory=dict)
    _soon: deque[Call] = field(default_factory=deque)
    _timed: list[tuple[float, int, _PollerCall]] = field(default_factory=list)  # a heap
    _order: count[int] = field(default_factory=count)
    _armed_s: float = float("inf")
    _cancelled: int = 0
    _in_turn: bool = False
    _tasks_wait: bool = False

    def watch(self, fileno: int, ready: Call) -> None:
        """Call `ready` again and again while a socket has something to read, an end or an error.

        Once the poller's task has ended, nothing is watched.
        """
        if self._epoll.closed:
            return
        self._epoll.register(fileno, select.EPOLLIN)
        self._readers[fileno] = ready

    def unwatch(self, fileno: int) -> None:
        """Stop watching a socket; idempotent. Call it before the socket is closed: its number may be reused soon."""
        if self._readers.pop(fileno, None) is not None:
            with suppress(OSError, ValueError):  # ValueError: the poller has ended already
                self._epoll.unregister(fileno)

    def call_soon(self, call: Call) -> None:
        self._soon.append(call)
        if not self._in_turn:
            self._arm(trio.current_time())

    def call_at(self, at_s: float, call: Call) -> _PollerCall:
        pending = _PollerCall(at_s, call, self)
        heappush(self._timed, (at_s, next(self._order), pending))
        if not self._in_turn:
            self._arm(at_s)
        return pending

    def let_tasks_run(self) -> None:
        self._tasks_wait = True

    def note_cancelled(self) -> None:
        """Drop cancelled calls once they are many: those of a far time would be kept for long."""
        self._cancelled += 1
        if self._cancelled > max(_CANCELLED_MAX, len(self._timed) // 2):
            self._timed = [row for row in self._timed if row[2].call is not None]
            heapify(self._timed)
            self._cancelled = 0

    async def serve(self) -> None:
        """Make the calls, until cancelled."""
        while True:
            await trio.lowlevel.wait_readable(self._epoll.fileno())
            self._in_turn, self._tasks_wait = True, False
            try:
                self._run_turn()
            finally:
                self._in_turn = False
            if self._soon:
                self._arm(trio.current_time())
            elif self._timed:
                self._arm(self._timed[0][0])

    def _run_turn(self) -> None:
        """Make the calls that are due, and look for more while that pays."""
        begun = last = trio.current_time()
        stay_s, stays = 0.0, False
        while True:
            events = self._epoll.poll(0, _BATCH)
            if events:
                self._call_readers(events)
            called = self._make_due_calls(begun + TURN_S) or bool(events)
            now = trio.current_time()
            if called:
                if stays:
                    self._busy_polling.note(paid=True)
                stay_s, stays, last = self._busy_polling.stay_s(), True, now
            elif now - last >= stay_s:
                if stay_s:
                    self._busy_polling.note(paid=False)
                return
            if self._tasks_wait or now - begun >= TURN_S:
                return

    def _call_readers(self, events: list[tuple[int, int]]) -> None:
        for fileno, _ in events:
            if fileno == self._alarm.fileno:
                self._alarm.clear()
                self._armed_s = float("inf")
            # a socket that a call of the same batch has unwatched is not called
            elif (ready := self._readers.get(fileno)) is not None:
                ready()

    def _make_due_calls(self, until_s: float) -> bool:
        """Make the calls whose time has come, until a time; return whether there were any."""
        called = False
        for _ in range(len(self._soon)):
            self._soon.popleft()()
            called = True
            if trio.current_time() >= until_s:
                return called
        # the list may be another one after a call
        while self._timed and self._timed[0][0] <= (now := trio.current_time()):
            if called and now >= until_s:
                return called
            pending = heappop(self._timed)[2]
            call, pending.call = pending.call, None
            if call is None:
                self._cancelled -= 1
            else:
                call()
                called = True
        return called

    def _arm(self, at_s: float) -> None:
        if at_s < self._armed_s and not self._alarm.closed:
            self._armed_s = at_s
            self._alarm.arm(at_s - trio.current_time())


async def start_poller(nursery: trio.Nursery) -> Poller | None:
    """Run a poller in a nursery until that is cancelled; None where the system has nothing to make one of."""
    return await nursery.start(poll) if AVAILABLE else None


async def poll(
    *, busy_s: float = BUSY_S, task_status: trio.TaskStatus[Poller] = trio.TASK_STATUS_IGNORED
) -> None:
    """Run a poller until cancelled; it is given to `task_status.started`.

    `busy_s` is how long it looks for more after an event, in seconds. With one processor it never does: it would keep
    those from running that it waits for.
    """
    alone = len(os.sched_getaffinity(0)) == 1
    with select.epoll() as epoll:
        alarm = TimerFd()
        try:
            busy_polling = _BusyPolling(0.0 if alone else busy_s)
            poller = Poller(_epoll=epoll, _alarm=alarm, _busy_polling=busy_polling)
            epoll.register(alarm.fileno, select.EPOLLIN)
            task_status.started(poller)
            await poller.serve()
        finally:
            alarm.close()


class _TaskCall:
    """A call at a time, which a task of its own waits for."""

    def __init__(self, at_s: float, call: Call) -> None:
        self.at_s = at_s
        self._call = call
        self._scope = trio.CancelScope()

    async def run(self) -> None:
        with self._scope:
            await trio.sleep_until(self.at_s)
            self._call()

    def cancel(self) -> None:
        self._scope.cancel()


class TaskCaller:
    """A caller whose calls are made by the tasks of a nursery, on any system. It watches no sockets."""

    __slots__ = ("_nursery",)

    def __init__(self, nursery: trio.Nursery) -> None:
        self._nursery = nursery

    def call_soon(self, call: Call) -> None:
        self.call_at(trio.current_time(), call)

    def call_at(self, at_s: float, call: Call) -> _TaskCall:
        pending = _TaskCall(at_s, call)
        self._nursery.start_soon(pending.run)
        return pending

    def let_tasks_run(self) -> None:
        return


_CLOCK_MONOTONIC = 1
# TFD_NONBLOCK and TFD_CLOEXEC are O_NONBLOCK and O_CLOEXEC (timerfd_create(2))
_FLAGS = getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0)
# what fits into the kernel's time everywhere; an alarm for later than in 30 years rings early
_FAR_S = 1e9


class _Timespec(ctypes.Structure):
    _fields_ = (("seconds", ctypes.c_long), ("nanoseconds", ctypes.c_long))


class _Itimerspec(ctypes.Structure):
    _fields_ = (("interval", _Timespec), ("value", _Timespec))


class TimerFd:
    """An alarm clock that can be waited for like a socket: timerfd_create(2), Linux. Close it with `close`.

    epoll_wait(2) counts milliseconds, so a wait that ends by its timeout ends up to one too late. A timerfd does not.
    """

    def __init__(self) -> None:
        """Make one without an alarm. Raises OSError if the kernel has none to give."""
        # Python has this as os.timerfd_create from 3.13 on; ctypes serves all versions alike
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._spec = _Itimerspec()
        self.fileno: int = self._libc.timerfd_create(_CLOCK_MONOTONIC, _FLAGS)
        if self.fileno < 0:
            raise OSError(ctypes.get_errno(), "timerfd_create failed")

    @property
    def closed(self) -> bool:
        """Whether it has been closed."""
        return self.fileno < 0

    def arm(self, delay_s: float) -> None:
        """Make it readable in `delay_s` seconds, at once if that is not positive; this replaces the alarm before."""
        nanoseconds = max(1, int(min(delay_s, _FAR_S) * 1e9))
        self._spec.value.seconds, self._spec.value.nanoseconds = divmod(nanoseconds, 1_000_000_000)
        if self._libc.timerfd_settime(self.fileno, 0, ctypes.byref(self._spec), None) < 0:
            raise OSError(ctypes.get_errno(), "timerfd_settime failed")

    def clear(self) -> None:
        """Make it silent again once it has rung."""
        with suppress(BlockingIOError):
            os.read(self.fileno, 8)

    def close(self) -> None:
        """Close it; idempotent."""
        if not self.closed:
            os.close(self.fileno)
            self.fileno = -1
