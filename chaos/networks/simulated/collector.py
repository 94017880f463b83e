"""When garbage is collected in a simulated run: at set turns of virtual time, and when resources are counted.

Python collects when enough objects have been allocated, which depends on everything else in the process. A finaliser
(of an abandoned async generator, of a socket nobody closed) would run at another instant in another process, and the
same seed would give another trace. Here the turns are counted instead.

Each time everything is collected, and the more there is, the less often. Generations do not pay here: the coroutines
of thousands of connections that wait are young objects, walked twice before they die by themselves.
"""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from chaos.networks.simulated.clock import VirtualClock

# jumps of the clock between two collections: at least, at most, and how the number of sockets adds to it
TURNS = 5_000
TURNS_MAX = 1_000_000
SOCKETS = 8


@contextmanager
def collect_by_turns(clock: VirtualClock, sockets: Callable[[], int]) -> Iterator[None]:
    """Collect at set turns of this clock, and at no other time, while inside.

    `sockets` tells how many there are: what a run has in memory goes with them, and it is the same in every process.
    """
    turns = 0

    def turn() -> None:
        nonlocal turns
        turns += 1
        if turns % TURNS == 0 and turns >= min(TURNS_MAX, TURNS * (1 + sockets() // SOCKETS)):
            turns = 0
            gc.collect()

    was_enabled = gc.isenabled()
    gc.disable()
    follow_no_more = clock.follow(turn)
    try:
        yield
    finally:
        follow_no_more()
        if was_enabled:
            gc.enable()
