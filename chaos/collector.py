"""When garbage is collected in a simulated run: at set turns of virtual time, and when resources are counted.

Python collects when enough objects have been allocated, which depends on everything else in the process. A finaliser
(of an abandoned async generator, of a socket nobody closed) would run at another instant in another process, and the
same seed would give another trace. Here the turns are counted instead. Young objects are looked at often and the old
ones seldom: what lives long, as thousands of open connections do, is not walked again and again.
"""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager

from chaos.clock import VirtualClock

# jumps of the clock between two collections of a generation
YOUNG_TURNS = 1_000
MIDDLE_TURNS = 10_000
FULL_TURNS = 100_000


@contextmanager
def collect_by_turns(clock: VirtualClock) -> Iterator[None]:
    """Collect at set turns of this clock, and at no other time, while inside."""
    turns = 0

    def turn() -> None:
        nonlocal turns
        turns += 1
        if turns % YOUNG_TURNS == 0:
            gc.collect(2 if turns % FULL_TURNS == 0 else 1 if turns % MIDDLE_TURNS == 0 else 0)

    was_enabled = gc.isenabled()
    gc.disable()
    follow_no_more = clock.follow(turn)
    try:
        yield
    finally:
        follow_no_more()
        if was_enabled:
            gc.enable()
