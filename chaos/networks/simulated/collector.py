"""When garbage is collected in a simulated run: at set turns of virtual time, and when resources are counted.

Python collects when enough objects have been allocated, which depends on everything else in the process. A finaliser
(of an abandoned async generator, of a socket that was not closed) would run at another instant in another process,
and the same seed would give another trace. Here the jumps of the clock are counted instead.

Each collection is a full one, and the more sockets there are, the less often it is made. Generations do not pay here:
the coroutines of thousands of connections that wait are young objects, and would be walked twice before they end.
"""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from chaos.networks.simulated.clock import VirtualClock

# jumps of the clock between two collections, at least and at most; so many sockets add the least once more
TURNS = 5_000
TURNS_MAX = 1_000_000
SOCKETS = 8


@contextmanager
def collect_by_turns(clock: VirtualClock, sockets: Callable[[], int]) -> Iterator[None]:
    """Collect at set jumps of this clock, and at no other time, while inside.

    `sockets` returns how many there are: the memory of a run grows with them, and they are as many in each process.
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
    stop_following = clock.follow(turn)
    try:
        yield
    finally:
        stop_following()
        if was_enabled:
            gc.enable()
