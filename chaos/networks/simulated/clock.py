"""Virtual time and a deterministic scheduler. The only file that touches trio's private scheduler switches.

trio shuffles the tasks that are ready together with a generator of its own, and breaks ties of equal deadlines by
memory address. `_ALLOW_DETERMINISTIC_SCHEDULING` sorts a batch first, and the seeded generator then shuffles it the
same way each time (trio 0.35, `trio/_core/_run.py`; the switch is what Hypothesis' own plugin for trio sets).
"""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import trio

from chaos.errors import NetworkUnavailable
from chaos.networks.simulated.fabric import Fabric

_FOR_EVER_S = 1e9
# in a row of which none wakes a task, before trio looks at real signals and pipes
INSTANTS = 50


class VirtualClock(trio.abc.Clock):
    """A clock that starts at 0 and jumps to what is due next whenever every task waits: the fabric's, then deadlines.

    trio asks a clock how long it may sleep exactly when no task can run; this one moves on and says "not at all".
    So packets that wake no task (an acknowledgement, a retransmission timer) cost no turn of the event loop.
    """

    def __init__(self, fabric: Fabric | None = None) -> None:
        """Show the time of a fabric; without one, of a fabric on which nothing happens."""
        self._fabric = fabric or Fabric()
        self._followers: list[Callable[[], None]] = []

    def follow(self, follower: Callable[[], None]) -> Callable[[], None]:
        """Call a function after every jump, and return what ends that."""
        self._followers.append(follower)
        return lambda: self._followers.remove(follower)

    def start_clock(self) -> None:
        """Do nothing: time moves by jumps alone."""

    def current_time(self) -> float:
        """Return the virtual time in seconds."""
        return self._fabric.now

    def deadline_to_sleep_time(self, deadline: float) -> float:
        """Jump to what is due next, unless a task waits for all others to be blocked; return 0 if time moved."""
        run: Any = trio._core._run
        runner = run.GLOBAL_RUN_CONTEXT.runner
        if runner.waiting_for_idle:
            return 0 if deadline <= self.current_time() else _FOR_EVER_S
        fabric, started_s = self._fabric, self._fabric.now
        has_moved = fabric.advance(deadline, runner.runq, INSTANTS)
        if fabric.now > started_s:
            for follower in self._followers:
                follower()
        return 0 if has_moved else _FOR_EVER_S


def check_scheduler() -> None:
    """Raise NetworkUnavailable if this release of trio lacks the switches: no run would be reproducible."""
    run: Any = trio._core._run
    if not hasattr(run, "_ALLOW_DETERMINISTIC_SCHEDULING") or not hasattr(run, "_r"):
        raise NetworkUnavailable(
            f"trio {trio.__version__} has changed its scheduler: expected _ALLOW_DETERMINISTIC_SCHEDULING "
            "and _r in trio._core._run; simulated runs would not be reproducible"
        )


def seed_scheduler(seed: int) -> None:
    """Make trio's scheduling, and `random`, depend on the seed alone from now on. Raises NetworkUnavailable."""
    check_scheduler()
    run: Any = trio._core._run
    run._ALLOW_DETERMINISTIC_SCHEDULING = True
    run._r.seed(seed)
    random.seed(seed)
