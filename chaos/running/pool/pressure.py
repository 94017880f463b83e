"""How much the machine can carry now: how long the runs under way have to wait for a processor."""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass, field

from chaos.running.pace import Spent, spent_by_process
from chaos.running.pool.remains import descendants

# how often it is measured, and how many runs may start in between: each keeps a core busy at first
MEASURED_EVERY_S = 0.25
STARTS_PER_CORE = 4
# a run that waits for more than this part of its time has enough neighbours
WAITED_MAX = 0.1


@dataclass(slots=True)
class Pressure:
    """Says whether one more run may start. On systems that do not say how long processes wait, it always may."""

    cores: int
    _measured_s: float = float("-inf")
    _started: int = 0
    _is_high: bool = False
    _spent: dict[int, Spent] = field(default_factory=dict)

    def allows(self, pids: Iterable[int]) -> bool:
        """Tell whether one more may start now, beside the runs of these processes."""
        running = list(pids)
        now_s = time.monotonic()
        if now_s - self._measured_s >= MEASURED_EVERY_S:
            self._measure(running, now_s)
        return not running or (not self._is_high and self._started < STARTS_PER_CORE * self.cores)

    def started(self) -> None:
        """Take note of a run that starts."""
        self._started += 1

    def _measure(self, running: list[int], now_s: float) -> None:
        over_s, before = now_s - self._measured_s, self._spent
        self._spent = {pid: spent_with_children(pid) for pid in running}
        waits = [self._spent[pid][1] - before[pid][1] for pid in running if pid in before]
        self._is_high = bool(waits) and sum(waits) / len(waits) > WAITED_MAX * over_s
        self._measured_s, self._started = now_s, 0


def spent_with_children(pid: int) -> Spent:
    """Return what a process and those that it has started have spent."""
    rows = [spent_by_process(one) for one in (pid, *descendants(pid))]
    return sum(row[0] for row in rows), sum(row[1] for row in rows)
