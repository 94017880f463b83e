"""Who has something to read, and whose time has come: one task for all connections of a server (Linux).

trio registers a socket with the kernel for each wait, and wakes a task for it in a turn of its loop. Here a socket is
registered once, and a function is called. In trio's loop all of it is a single file number to wait for.

After an event the poller stays for a moment and looks again (busy polling): who is sent something often answers at
once, and sleeping and waking would take longer than the answer. It stays only while that pays.
"""

from __future__ import annotations

import os
import select
import sys
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from heapq import heapify, heappop, heappush
from itertools import count

import trio

from chaos.link.timerfd import TimerFd

AVAILABLE = sys.platform == "linux"
# how long it looks for more after an event: what the kernel's documentation suggests for net.core.busy_poll
BUSY_S = 50e-6
# the other tasks of the loop (the HTTP API, those who accept) never wait longer than this and one event
TURN_S = 0.5e-3
# events that are asked for at once: few, so that a turn can end between two batches
_BATCH = 16
# stays that may be in vain before it stays no more, and how many events it lets pass then before it tries again
_CREDIT = 8
_TRIES_EVERY = 32
_CANCELLED_MAX = 64

Call = Callable[[], None]


@dataclass(slots=True, eq=False)
class Timer:
    """A call to come. `cancel` makes it nothing."""

    at_s: float
    call: Call | None
    poller: Poller

    def cancel(self) -> None:
        """Do not call it any more; idempotent."""
        if self.call is not None:
            self.call = None
            self.poller.note_cancelled()


@dataclass(slots=True)
class _Patience:
    """Whether to stay for a moment after an event: as long as that has lately paid."""

    busy_s: float
    credit: int = _CREDIT
    skipped: int = 0

    def stay_s(self) -> float:
        """Return how long to look for more now."""
        if self.credit > 0:
            return self.busy_s
        self.skipped += 1
        return self.busy_s if self.skipped % _TRIES_EVERY == 0 else 0.0

    def note(self, *, paid: bool) -> None:
        """Note how a stay has ended."""
        self.credit = _CREDIT if paid else max(0, self.credit - 1)


@dataclass(slots=True, kw_only=True)
class Poller:
    """Calls functions when a socket has something to read, or at a time. What is called must not raise, nor wait.

    Made by `poll`, whose task makes the calls; once that has ended there are none. Nothing here is thread-safe.
    """

    _epoll: select.epoll
    _alarm: TimerFd
    _patience: _Patience
    _readers: dict[int, Call] = field(default_factory=dict)
    _soon: deque[Call] = field(default_factory=deque)
    _timers: list[tuple[float, int, Timer]] = field(default_factory=list)
    _order: count[int] = field(default_factory=count)
    _armed_s: float = float("inf")
    _cancelled: int = 0
    _in_turn: bool = False
    _hurried: bool = False

    def watch(self, fileno: int, ready: Call) -> None:
        """Call `ready` again and again while a socket has something to read, an end or an error."""
        self._epoll.register(fileno, select.EPOLLIN)
        self._readers[fileno] = ready

    def forget(self, fileno: int) -> None:
        """Watch a socket no more. To be done before it is closed: its number may soon be another's."""
        if self._readers.pop(fileno, None) is not None:
            with suppress(OSError, ValueError):  # ValueError: the poller has ended already
                self._epoll.unregister(fileno)

    def soon(self, call: Call) -> None:
        """Call it when whoever runs now has ended its turn."""
        self._soon.append(call)
        if not self._in_turn:
            self._arm(trio.current_time())

    def at(self, at_s: float, call: Call) -> Timer:
        """Call it at a time of trio's clock."""
        timer = Timer(at_s, call, self)
        heappush(self._timers, (at_s, next(self._order), timer))
        if not self._in_turn:
            self._arm(at_s)
        return timer

    def hurry(self) -> None:
        """End the turn of now soon: a task was started or woken, and is to run."""
        self._hurried = True

    def note_cancelled(self) -> None:
        """Drop cancelled timers once they are many: those that are far away would be kept for long."""
        self._cancelled += 1
        if self._cancelled > max(_CANCELLED_MAX, len(self._timers) // 2):
            self._timers = [row for row in self._timers if row[2].call is not None]
            heapify(self._timers)
            self._cancelled = 0

    async def serve(self) -> None:
        """Make the calls, until cancelled."""
        while True:
            await trio.lowlevel.wait_readable(self._epoll.fileno())
            self._in_turn, self._hurried = True, False
            try:
                self._turn()
            finally:
                self._in_turn = False
            if self._soon:
                self._arm(trio.current_time())
            elif self._timers:
                self._arm(self._timers[0][0])

    def _turn(self) -> None:
        """Make the calls that are due, and look for more while that pays."""
        begun = last = trio.current_time()
        stay_s, stays = 0.0, False
        while True:
            events = self._epoll.poll(0, _BATCH)
            if events:
                self._call_readers(events)
            called = self._call_due(begun + TURN_S) or bool(events)
            now = trio.current_time()
            if called:
                if stays:
                    self._patience.note(paid=True)
                stay_s, stays, last = self._patience.stay_s(), True, now
            elif now - last >= stay_s:
                if stay_s:
                    self._patience.note(paid=False)
                return
            if self._hurried or now - begun >= TURN_S:
                return

    def _call_readers(self, events: list[tuple[int, int]]) -> None:
        for fileno, _ in events:
            if fileno == self._alarm.fileno:
                self._alarm.clear()
                self._armed_s = float("inf")
            # who was forgotten by a call of the same batch is not called
            elif (ready := self._readers.get(fileno)) is not None:
                ready()

    def _call_due(self, until_s: float) -> bool:
        """Make the calls whose time has come, until a time; return whether there were any."""
        called = False
        for _ in range(len(self._soon)):
            self._soon.popleft()()
            called = True
            if trio.current_time() >= until_s:
                return called
        # the list may be another one after a call
        while self._timers and self._timers[0][0] <= (now := trio.current_time()):
            if called and now >= until_s:
                return called
            timer = heappop(self._timers)[2]
            call, timer.call = timer.call, None
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

    `busy_s`: how long it looks for more after an event, in seconds. With one processor it never does: it would keep
    from running those that it waits for.
    """
    alone = len(os.sched_getaffinity(0)) == 1
    epoll = select.epoll()
    try:
        alarm = TimerFd()
        try:
            poller = Poller(
                _epoll=epoll, _alarm=alarm, _patience=_Patience(0.0 if alone else busy_s)
            )
            epoll.register(alarm.fileno, select.EPOLLIN)
            task_status.started(poller)
            await poller.serve()
        finally:
            alarm.close()
    finally:
        epoll.close()
