"""When garbage is collected in a run on the machine's sockets: often what is young, and rarely all of it.

Python walks all objects that there are whenever enough have been made. With the trace of a busy run among them that
takes a third of a second, in which the link stands still and every heartbeat is late. What is young is walked in a
few milliseconds, and most garbage is young: the tracebacks and nurseries of connections that have ended.
"""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager
from time import perf_counter

# between two collections of what is young, and of all
YOUNG_S = 0.25
ALL_S = 30.0


class Collector:
    """Collects garbage, and knows how long that took: `spent_s` is the sum."""

    def __init__(self) -> None:
        self.spent_s = 0.0
        self._all_at_s = perf_counter()

    @contextmanager
    def in_charge(self) -> Iterator[None]:
        """Let nobody but this collector collect while inside."""
        was_enabled = gc.isenabled()
        gc.disable()
        try:
            yield
        finally:
            if was_enabled:
                gc.enable()

    def collect_some(self) -> None:
        """Collect what is young, or now and then all. Must be called every `YOUNG_S`."""
        if perf_counter() - self._all_at_s >= ALL_S:
            self.collect_all()
        else:
            self._collect(1)

    def collect_all(self) -> None:
        """Collect all garbage."""
        self._collect(2)
        self._all_at_s = perf_counter()

    def _collect(self, generation: int) -> None:
        began_s = perf_counter()
        gc.collect(generation)
        self.spent_s += perf_counter() - began_s
