"""Virtual time and a deterministic scheduler. The only file that touches trio's private scheduler switches.

trio shuffles the tasks that are ready together with a generator of its own, and breaks ties of equal deadlines by
memory address. `_ALLOW_DETERMINISTIC_SCHEDULING` sorts a batch first, and the seeded generator then shuffles it the
same way each time (trio 0.35, `trio/_core/_run.py`; the switch is what Hypothesis' own plugin for trio sets).
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sized
from typing import Any

import trio

from chaos.errors import NetworkUnavailable
from chaos.networks.simulated.fabric import Fabric

_FOR_EVER_S = 1e9
# in a row of which none wakes a task, before trio looks at real signals and pipes
INSTANTS = 50
# Turns of trio's loop in a row in which some task could run. On a real machine so many take some milliseconds, and
# packets arrive meanwhile. Of the shipped scenarios only that of five hundred clients comes so far.
BUSY_TURNS = 250


class _BusyTurns(trio.abc.Instrument):
    """Lets an instant pass after many turns in a row in which no task has waited: a program that polls ends, too."""

    def __init__(self, clock: VirtualClock) -> None:
        self._clock = clock

    def before_io_wait(self, timeout: float) -> None:
        self._clock.count_turn()


class VirtualClock(trio.abc.Clock):
    """A clock that starts at 0 and jumps to what is due next whenever every task waits: the fabric's, then deadlines.

    trio asks a clock how long it may sleep exactly when no task can run; this one moves on and says "not at all".
    So packets that wake no task (an acknowledgement, a retransmission timer) cost no turn of the event loop.
    """

    def __init__(self, fabric: Fabric | None = None) -> None:
        """Show the time of a fabric; without one, of a fabric on which nothing happens."""
        self._fabric = fabric or Fabric()
        self._followers: list[Callable[[], None]] = []
        self._busy_turns = 0  # since the last time that every task waited

    def follow(self, follower: Callable[[], None]) -> Callable[[], None]:
        """Call a function after every jump, and return what ends that."""
        self._followers.append(follower)
        return lambda: self._followers.remove(follower)

    def start_clock(self) -> None:
        """Watch for tasks that never wait; else time moves by jumps alone."""
        trio.lowlevel.add_instrument(_BusyTurns(self))

    def current_time(self) -> float:
        """Return the virtual time in seconds."""
        return self._fabric.now

    def deadline_to_sleep_time(self, deadline: float) -> float:
        """Jump to what is due next, unless a task waits for all others to be blocked; return 0 if time moved."""
        self._busy_turns = 0
        run: Any = trio._core._run
        runner = run.GLOBAL_RUN_CONTEXT.runner
        if runner.waiting_for_idle:
            return 0 if deadline <= self.current_time() else _FOR_EVER_S
        return 0 if self._advance(deadline, runner.runq, INSTANTS) else _FOR_EVER_S

    def count_turn(self) -> None:
        """Count a turn of the loop; after too many in which a task could run, jump to what is due next."""
        self._busy_turns += 1
        if self._busy_turns <= BUSY_TURNS:
            return
        self._busy_turns = 0
        run: Any = trio._core._run
        self._advance(run.GLOBAL_RUN_CONTEXT.runner.deadlines.next_deadline(), (), 1)

    def _advance(self, deadline: float, busy: Sized, instants: int) -> bool:
        fabric, started_s = self._fabric, self._fabric.now
        has_moved = fabric.advance(deadline, busy, instants)
        if fabric.now > started_s:
            for follower in self._followers:
                follower()
        return has_moved


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
