"""The fabric: what happens next, and how long a packet takes.

Events of equal times happen in the order in which they were made. The fabric has no clock: it is told the time.
"""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Callable
from dataclasses import dataclass, field

# one way between two hosts unless a path says otherwise; a loopback round trip measured about 0.05 ms
DEFAULT_DELAY_S = 0.000_025


@dataclass(slots=True)
class Path:
    """One direction between two hosts: how long a packet takes, and whether it arrives."""

    delay_s: float = DEFAULT_DELAY_S
    up: bool = True
    last_arrival_s: float = 0.0

    def transit(self, now: float) -> float | None:
        """Return when a packet that is sent now arrives, in order; None if it is lost."""
        if not self.up:
            return None
        self.last_arrival_s = max(self.last_arrival_s, now + self.delay_s)
        return self.last_arrival_s


@dataclass(order=True, slots=True)
class Timer:
    """Something that will happen, unless it is cancelled."""

    at_s: float
    number: int
    action: Callable[[], None] | None = field(compare=False)

    def cancel(self) -> None:
        """Let it not happen. Idempotent."""
        self.action = None


class Fabric:
    """The queue of everything that will happen, and the paths between hosts."""

    def __init__(self) -> None:
        self.now = 0.0
        self.changed: Callable[[], None] = lambda: None
        self._timers: list[Timer] = []
        self._numbers = itertools.count()
        self._paths: dict[tuple[str, str], Path] = {}

    def path(self, source: str, target: str) -> Path:
        """Return the path between two hosts in one direction."""
        return self._paths.setdefault((source, target), Path())

    def at(self, at_s: float, action: Callable[[], None]) -> Timer:
        """Let something happen at a time."""
        timer = Timer(max(at_s, self.now), next(self._numbers), action)
        heapq.heappush(self._timers, timer)
        self.changed()
        return timer

    def wake_at(self) -> float | None:
        """Return when something will happen next, or None."""
        while self._timers and self._timers[0].action is None:
            heapq.heappop(self._timers)
        return self._timers[0].at_s if self._timers else None

    def advance(self, now: float) -> None:
        """Let everything happen that is due by now."""
        while (at_s := self.wake_at()) is not None and at_s <= now:
            self.now = max(self.now, at_s)
            action = heapq.heappop(self._timers).action
            assert action is not None
            action()
        self.now = max(self.now, now)
