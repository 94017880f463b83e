"""When the subjects' resources are counted: at the start, in the steady state, after reconnect cycles, at the end.

The leak checks compare these samples. That the steady state is there is an event too, and is recorded here.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence

import trio

from chaos.recorder import Recorder
from chaos.running.watch import STEADY_QUIET_S, CycleWatch, SteadyWatch, Watches
from chaos.scenario.model import Scenario
from chaos.subjects.census import Census, Collect
from chaos.trace import Side

# a reconnected client is given this long to drop what belonged to its old connection
CYCLE_SETTLE_S = 0.4
CYCLES_MAX = 200


class Samples:
    """Takes the samples of one run with its `census`, which must be set before the first.

    Those that wait for their time do so in `nursery`; none do before it is set.
    """

    census: Census

    def __init__(self, scenario: Scenario, recorder: Recorder, watches: Watches) -> None:
        self.nursery: trio.Nursery | None = None
        self._recorder = recorder
        self._watches = watches
        self._steady = SteadyWatch(scenario, lambda: self._start(self._wait_steady))
        self._cycles = CycleWatch(
            scenario.client.count, lambda number: self._start(self._wait_cycle, number)
        )
        watches.add(self._steady)
        watches.add(self._cycles)

    def take(
        self,
        point: str,
        *,
        cycle: int | None = None,
        sides: Sequence[Side] = ("client", "server"),
        if_clean: bool = False,
    ) -> bool:
        """Record what the subjects own now; return whether it was recorded. Collecting garbage may take some 20 ms.

        With `if_clean` it is recorded only if that is no more than at first.
        """
        if point in ("start", "stopped"):
            collect: Collect = "if more"  # there should be nothing
        elif point == "steady" and not self._steady.disturbed:
            collect = "never"  # what has not ended yet has left nothing behind
        else:
            collect = "always"
        found = self.census.take(sides, collect=collect)
        if if_clean and self.census.more(found):
            return False
        for side, owned in found.items():
            self._recorder.record("resources", subject=side, point=point, cycle=cycle, **owned)
        return True

    def _start(self, wait: Callable[..., Awaitable[None]], *arguments: object) -> None:
        if self.nursery is not None:
            self.nursery.start_soon(wait, *arguments)

    async def _wait_steady(self) -> None:
        """Wait until a second has passed in which nothing was closed."""
        watch, wake_s = self._steady, 0.0
        while wake_s < (quiet_s := watch.quiet_since_s + STEADY_QUIET_S):
            wake_s = quiet_s
            await trio.sleep_until(self._recorder.zero_s + wake_s)
        self._watches.remove(watch)
        self._recorder.record("steady")
        self.take("steady")

    async def _wait_cycle(self, number: int) -> None:
        await trio.sleep(CYCLE_SETTLE_S)
        if self._cycles.cycles == number <= CYCLES_MAX:
            self.take("cycle", cycle=number)
