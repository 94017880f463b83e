"""The fabric: what happens at which virtual time, and the paths between hosts.

Calls of equal times are made in the order in which they were added. The fabric's time `now` is that of the run: the
virtual clock shows it and calls `advance`, which alone changes it, and it never goes back. A call must not raise.
"""

from __future__ import annotations

import heapq
import itertools
import sys
from collections import deque
from collections.abc import Callable, Sized
from dataclasses import dataclass
from math import inf

from chaos.networks.simulated.hosts import Host
from chaos.networks.simulated.paths import Path


@dataclass(eq=False, slots=True)
class Timer:
    """A call to be made at a time; None once it is cancelled."""

    at_s: float
    call: Callable[[], None] | None

    def cancel(self) -> None:
        """Prevent the call. Idempotent."""
        self.call = None


class Fabric:
    """The queue of all calls to come, and the paths between hosts. It is the caller of links, too."""

    def __init__(self) -> None:
        self.now = 0.0
        # numbered, so that of equal times the one that was added first comes first
        self._timers: list[tuple[float, int, Timer]] = []
        # most packets take equally long, and so arrive in the order in which they are sent: those need no heap
        self._packets: deque[tuple[float, int, Callable[[], None]]] = deque()
        self._numbers = itertools.count()
        self._soon: deque[Callable[[], None]] = deque()
        self._hosts: dict[str, Host] = {}
        self._paths: dict[tuple[str, str], Path] = {}

    def time(self) -> float:
        """Return the time of the run: the same as trio's clock, without the detour through trio."""
        return self.now

    def host(self, address: str) -> Host:
        """Return the host with this (first) address."""
        return self._hosts.setdefault(address, Host(address))

    def path(self, source: str, target: str) -> Path:
        """Return the path between two hosts in one direction."""
        fresh = Path(self.host(source), self.host(target))
        return self._paths.setdefault((source, target), fresh)

    def call_at(self, at_s: float, call: Callable[[], None]) -> Timer:
        """Make a call at a time, or as soon as possible if that is past."""
        at_s = max(at_s, self.now)
        timer = Timer(at_s, call)
        heapq.heappush(self._timers, (at_s, next(self._numbers), timer))
        return timer

    def deliver(self, arrival_s: float, call: Callable[[], None]) -> None:
        """Make a call when a packet arrives, which is not in the past. It cannot be cancelled."""
        packets = self._packets
        if packets and arrival_s < packets[-1][0]:
            self.call_at(arrival_s, call)
        else:
            packets.append((arrival_s, next(self._numbers), call))

    def call_soon(self, call: Callable[[], None]) -> None:
        """Make a call now, before time passes, once the task or call that runs has ended its turn."""
        self._soon.append(call)

    def let_tasks_run(self) -> None:
        """Do nothing: a link asks for it so that tasks run soon, and here they run before any time passes."""

    def advance(self, until: float, busy: Sized = (), instants: int = sys.maxsize) -> bool:
        """Make all calls whose time comes until `until`, in order, and then let time pass until then.

        Stop after an instant at which `busy` has got something, or after so many instants. Return False if there is
        nothing to wait for: no call is left, and `until` is infinity.
        """
        timers, packets, soon = self._timers, self._packets, self._soon
        while True:
            while soon:
                soon.popleft()()
            # numbers are unique, so that calls are never compared
            packet = packets and not (timers and timers[0] < packets[0])  # type: ignore[operator]
            at_s = packets[0][0] if packet else timers[0][0] if timers else inf
            # time never goes back, since no call is added for a time before now
            if at_s > self.now:
                if busy or not instants:
                    return True
                if at_s > until or at_s == inf:
                    break
                instants -= 1
            if packet:
                self.now, _, call = packets.popleft()
                call()
                continue
            timer = heapq.heappop(timers)[2]
            if timer.call is not None:
                self.now = at_s
                timer.call()
        if until == inf:
            return False
        self.now = max(self.now, until)
        return True
