"""The fabric: what happens next, and the paths between hosts.

Events of equal times happen in the order in which they were made. The fabric's time is that of the run: the virtual
clock shows it, and lets it pass.
"""

from __future__ import annotations

import heapq
import itertools
import sys
from collections import deque
from collections.abc import Callable, Sized
from math import inf

from chaos.networks.simulated.paths import Home, Path


class Timer:
    """Something that will happen, unless it is cancelled."""

    __slots__ = ("action", "at_s")

    def __init__(self, at_s: float, action: Callable[[], None]) -> None:
        self.at_s = at_s
        self.action: Callable[[], None] | None = action

    def cancel(self) -> None:
        """Let it not happen. Idempotent."""
        self.action = None


class Fabric:
    """The queue of everything that will happen, and the paths between hosts."""

    def __init__(self) -> None:
        self.now = 0.0
        # numbered, so that of equal times the first made is the first to come
        self._timers: list[tuple[float, int, Timer]] = []
        # most packets take equally long, and so arrive in the order in which they are sent: those need no heap
        self._packets: deque[tuple[float, int, Callable[[], None]]] = deque()
        self._numbers = itertools.count()
        self._soon: deque[Callable[[], None]] = deque()
        self._homes: dict[str, Home] = {}
        self._paths: dict[tuple[str, str], Path] = {}

    def time(self) -> float:
        """Return the time of the run: what trio's clock shows, without the way there."""
        return self.now

    def home(self, address: str) -> Home:
        """Return the host with this (first) address."""
        home = self._homes.get(address)
        if home is None:
            home = self._homes[address] = Home(address)
        return home

    def path(self, source: str, target: str) -> Path:
        """Return the path between two hosts in one direction."""
        path = self._paths.get((source, target))
        if path is None:
            path = self._paths[source, target] = Path(self.home(source), self.home(target))
        return path

    def at(self, at_s: float, action: Callable[[], None]) -> Timer:
        """Let something happen at a time."""
        at_s = max(at_s, self.now)
        timer = Timer(at_s, action)
        heapq.heappush(self._timers, (at_s, next(self._numbers), timer))
        return timer

    def carry(self, arrival_s: float, action: Callable[[], None]) -> None:
        """Let a packet do something where it arrives; `arrival_s` is not in the past. Nothing can hold it up."""
        packets = self._packets
        if packets and arrival_s < packets[-1][0]:
            self.at(arrival_s, action)
        else:
            packets.append((arrival_s, next(self._numbers), action))

    def soon(self, action: Callable[[], None]) -> None:
        """Let something happen now, before time passes, once whoever runs has ended its turn."""
        self._soon.append(action)

    def advance(self, until: float, busy: Sized = (), instants: int = sys.maxsize) -> bool:
        """Let happen what is due by `until`, and time pass until then; see `clock.Happenings`."""
        timers, packets, soon = self._timers, self._packets, self._soon
        while True:
            while soon:
                soon.popleft()()
            # numbers are unique, so actions are never compared
            packet = packets and not (timers and timers[0] < packets[0])  # type: ignore[operator]
            at_s = packets[0][0] if packet else timers[0][0] if timers else inf
            # never back: what is added is due now at the earliest
            if at_s > self.now:
                if busy or not instants:
                    return True
                if at_s > until or at_s == inf:
                    break
                instants -= 1
            if packet:
                self.now, _, action = packets.popleft()
                action()
                continue
            timer = heapq.heappop(timers)[2]
            if timer.action is not None:
                self.now = at_s
                timer.action()
        if until == inf:
            return False
        self.now = max(self.now, until)
        return True
