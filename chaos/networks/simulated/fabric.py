"""The fabric: what happens at which virtual time, and the paths between hosts.

Actions of equal times happen in the order in which they were added. The fabric's time `now` is that of the run: the
virtual clock shows it and calls `advance`, which alone changes it, and it never goes back. An action must not raise.
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
    """An action at a time, unless it is cancelled."""

    at_s: float
    action: Callable[[], None] | None

    def cancel(self) -> None:
        """Prevent the action. Idempotent."""
        self.action = None


class Fabric:
    """The queue of all actions to come, and the paths between hosts. A link has its calls made by it, too."""

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

    def call_at(self, at_s: float, action: Callable[[], None]) -> Timer:
        """Call an action at a time, or as soon as possible if that is past."""
        at_s = max(at_s, self.now)
        timer = Timer(at_s, action)
        heapq.heappush(self._timers, (at_s, next(self._numbers), timer))
        return timer

    def deliver(self, arrival_s: float, action: Callable[[], None]) -> None:
        """Call an action when a packet arrives, which is not in the past. It cannot be cancelled."""
        packets = self._packets
        if packets and arrival_s < packets[-1][0]:
            self.call_at(arrival_s, action)
        else:
            packets.append((arrival_s, next(self._numbers), action))

    def call_soon(self, action: Callable[[], None]) -> None:
        """Call an action now, before time passes, once the task or action that runs has ended its turn."""
        self._soon.append(action)

    def let_tasks_run(self) -> None:
        """Do nothing: a link asks for it so that tasks run soon, and here they run before any time passes."""

    def advance(self, until: float, busy: Sized = (), instants: int = sys.maxsize) -> bool:
        """Call all actions whose time comes until `until`, in order, and then let time pass until then.

        Stop after an instant at which `busy` has got something, or after so many instants. Return False if there is
        nothing to wait for: no action is left, and `until` is infinity.
        """
        timers, packets, soon = self._timers, self._packets, self._soon
        while True:
            while soon:
                soon.popleft()()
            # numbers are unique, so that actions are never compared
            packet = packets and not (timers and timers[0] < packets[0])  # type: ignore[operator]
            at_s = packets[0][0] if packet else timers[0][0] if timers else inf
            # time never goes back, since no action is added for a time before now
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
