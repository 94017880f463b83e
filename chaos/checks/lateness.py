"""How late the harness may have made what it saw. Pure.

On real clocks subjects and link share a machine with whatever else runs there. While a run's process runs, or waits
for a processor, whatever is ready next has to wait: between two moments, things may be late by the sum of that. It is
sampled during the run (`load`, `lag`).
"""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate

from chaos.trace import Trace

# samples are added up in steps of this length
STEP_S = 0.1
# a process that has been busy for this part of a second may have spoiled anything
BUSY_SHARE = 0.5


@dataclass(frozen=True)
class Lateness:
    """How late the harness may have been in a run, at most."""

    trace: Trace

    @cached_property
    def longest_s(self) -> float:
        """The longest that the event loop was late in one go: by so much one event may have been seen too late."""
        return max((lag_s for _, lag_s in self._lags), default=0.0)

    def within(self, width_s: float) -> float:
        """Return by how much something that takes this long may have been late, wherever in the run it lay."""
        if not self._steps or width_s <= 0:
            return 0.0
        if math.isinf(width_s):
            return sum(self._steps)
        count = math.ceil(width_s / STEP_S) + 1  # a window may begin in the middle of a step
        sums = [0.0, *accumulate(self._steps)]
        ends = range(1, len(sums))
        return min(width_s, max(sums[end] - sums[max(0, end - count)] for end in ends))

    def lagged(self, start_s: float, end_s: float) -> float:
        """Return by how much the event loop was late between these times, all in all."""
        times, sums = self._lag_sums
        return sums[bisect_right(times, end_s)] - sums[bisect_left(times, start_s)]

    @cached_property
    def _lag_sums(self) -> tuple[list[float], list[float]]:
        rows = sorted(self._lags)
        return [at_s for at_s, _ in rows], [0.0, *accumulate(lag_s for _, lag_s in rows)]

    def between(self, start_s: float, end_s: float) -> float:
        """Return by how much something that took place between these times may have been late."""
        steps = self._steps
        rows = _steps_between(start_s, min(end_s, len(steps) * STEP_S))
        return sum(min(steps[step], length_s) for step, length_s in rows if step < len(steps))

    @cached_property
    def _lags(self) -> list[tuple[float, float]]:
        return [(event.at_s, float(event["lag_s"])) for event in self.trace.select("lag")]

    @cached_property
    def _steps(self) -> list[float]:
        """How late things may have been in each step of the run, in seconds."""
        found: dict[int, float] = {}
        for row in self.trace.select("load"):
            over_s = float(row["over_s"])
            busy = min(1.0, (row["ran_s"] + row["waited_s"]) / over_s) if over_s > 0 else 0.0
            for step, length_s in _steps_between(row.at_s - over_s, row.at_s):
                found[step] = found.get(step, 0.0) + busy * length_s
        late: dict[int, float] = {}
        for at_s, lag_s in self._lags:
            for step, length_s in _steps_between(at_s - lag_s, at_s):
                late[step] = late.get(step, 0.0) + length_s
        both = found.keys() | late.keys()
        rows = range(max(both, default=-1) + 1)
        return [min(STEP_S, max(found.get(n, 0.0), late.get(n, 0.0))) for n in rows]


def _steps_between(start_s: float, end_s: float) -> Iterator[tuple[int, float]]:
    """Yield the steps between two times, each with how much of it lies between them."""
    at_s = max(0.0, start_s)
    while at_s < end_s:
        step = int(at_s / STEP_S)
        until_s = (step + 1) * STEP_S
        if until_s <= at_s:  # rounding
            step, until_s = step + 1, until_s + STEP_S
        yield step, min(end_s, until_s) - at_s
        at_s = until_s
