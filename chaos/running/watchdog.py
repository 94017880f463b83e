"""Gives up what runs in this process and does not end: a thread of its own looks now and then.

What a subject does is its own affair, but not for ever. A subject that never lets the event loop turn cannot be
cancelled, and neither can one that catches its cancellation; a run of it ends with its process. The watchdog says
why, and lets whoever is watched hand in what there is first.
"""

from __future__ import annotations

import os
import sys
import sysconfig
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from time import perf_counter, process_time

LOOK_S = 0.25
# an event loop that has not turned for so long, or virtual time that has stood still, will not move any more
STILL_S = 4.5
# the memory of a process may grow by so much in a run, and by this share of what the machine has
MEMORY_BYTES = 2 << 30
MEMORY_SHARE = 0.5
# who computes on a busy machine gets at least this share of it, or is charged as if
SHARE_LEAST = 0.5
IDLE_SHARE = 0.2
_LIBRARIES = (
    *(sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib")),
    str(Path(__file__).parent.parent),
)


def spent_s(wall_s: float, computed_s: float) -> float:
    """Return how much of its time something has spent: who computes, time of the processor; who waits, of the clock.

    On a quiet machine the two are the same. On a busy one what computes is not charged for what others got.
    """
    if computed_s < IDLE_SHARE * wall_s:
        return wall_s
    return min(wall_s, max(computed_s, SHARE_LEAST * wall_s))


def place_in_main_thread() -> str | None:
    """Return where the main thread is now: the innermost place that is in no library, as `file.py:12`."""
    frame = sys._current_frames().get(threading.main_thread().ident or 0)
    while frame is not None:
        file = Path(frame.f_code.co_filename)
        if file.is_absolute() and not str(file).startswith(_LIBRARIES):
            return f"{file.name}:{frame.f_lineno}"
        frame = frame.f_back
    return None


def memory_of_process() -> int:
    """Return how many bytes of memory this process holds, or 0 where the system does not say."""
    try:
        return int(Path("/proc/self/statm").read_bytes().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError, IndexError):
        return 0


@dataclass(slots=True, kw_only=True)
class Watched:
    """What is watched: what must not take longer than `real_s`, and whose `progress` must not stand still.

    Args:
        give_up: is called in the watchdog's thread with the reason. Must end the process.
        what: what takes that time, as the reason calls it.
        progress: returns a number that changes as long as something happens, which must be within `still_s`.
        memory_bytes: by how much the process's memory may grow.
    """

    give_up: Callable[[str], None]
    what: str
    real_s: float
    progress: Callable[[], float] | None = None
    still_s: float = STILL_S
    memory_bytes: int | None = None
    _spent_s: float = 0.0
    _still_since_s: float = 0.0
    _at: float | None = None
    _memory_at_first: int = field(default_factory=memory_of_process)

    def why_end(self, spent_s: float) -> str | None:
        """Return why this must end now, or None; `spent_s` is the time since it was asked before."""
        self._spent_s += spent_s
        if self._spent_s >= self.real_s:
            return f"{self.what} took more than {self.real_s:.0f} s of real time"
        at = self.progress() if self.progress is not None else None
        if at != self._at:
            self._at, self._still_since_s = at, self._spent_s
        elif at is not None and self._spent_s - self._still_since_s >= self.still_s:
            where = place_in_main_thread()
            at_place = f", and is in {where}" if where else ""
            return f"{self.what} did not go on for {self.still_s:g} s of real time{at_place}"
        grown = memory_of_process() - self._memory_at_first if self.memory_bytes else 0
        if self.memory_bytes is not None and grown > self.memory_bytes:
            most = self.memory_bytes >> 20
            return f"its process grew by {grown >> 20} MB of memory (at most {most} MB)"
        return None


class Watchdog:
    """Looks at what is watched every `LOOK_S`, once it has been started. `each_time` is called at each look."""

    def __init__(self, each_time: Callable[[], None] = lambda: None) -> None:
        self._each_time = each_time
        self._watched: Watched | None = None
        self._deciding = threading.Lock()
        self._never = threading.Event()

    def start(self) -> None:
        """Begin to look, until the process ends."""
        threading.Thread(target=self._look_on, name="watchdog", daemon=True).start()

    @contextmanager
    def watching(self, watched: Watched) -> Iterator[None]:
        """Watch this while inside. Once it is being given up, this never returns: the process is about to end."""
        before, self._watched = self._watched, watched
        try:
            yield
        finally:
            with self._deciding:
                self._watched = before

    def _look_on(self) -> None:
        looked_s, computed_s = perf_counter(), process_time()
        while not self._never.wait(LOOK_S):
            now_s, computing_s = perf_counter(), process_time()
            # this process may have been stopped for a while
            wall_s = min(now_s - looked_s, 2 * LOOK_S)
            spent = spent_s(wall_s, computing_s - computed_s)
            looked_s, computed_s = now_s, computing_s
            self._each_time()
            with self._deciding:
                watched = self._watched
                why = watched.why_end(spent) if watched is not None else None
                if watched is not None and why is not None:
                    watched.give_up(why)


def memory_bound() -> int:
    """Return by how many bytes a run may let its process grow on this machine."""
    try:
        pages, size = os.sysconf("SC_PHYS_PAGES"), os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError):
        return MEMORY_BYTES
    return min(MEMORY_BYTES, int(pages * size * MEMORY_SHARE))
