"""How late the harness itself is on a real clock: its event loop's lag, and its waits for a processor.

A verdict rests on this (`chaos.checks.lateness`): what the machine made late is not the subjects' fault.
"""

from __future__ import annotations

import os
import time
from contextlib import suppress
from pathlib import Path

import trio

from chaos.recorder import Recorder
from chaos.running.garbage import Collector
from chaos.running.pool.remains import descendants

PROBE_S = 0.05
LAG_RECORDED_S = 0.02
# processor time is read once in so many probes
LOAD_EVERY = 4
LOAD_RECORDED_SHARE = 0.05

Spent = tuple[float, float]  # seconds on a processor, and waiting for one


def spent_by_thread() -> Spent:
    """Return what this thread has spent so far. How long it waited is known on Linux only (proc(5), schedstat)."""
    with suppress(OSError, ValueError, IndexError):
        return _parse(Path("/proc/thread-self/schedstat").read_text())
    return time.thread_time(), 0.0


def spent_by_process(pid: int) -> Spent:
    """Return what all threads of a process have spent; nothing where that cannot be known, or once it is gone."""
    ran_s = waited_s = 0.0
    with suppress(OSError, ValueError, IndexError):
        for thread in Path(f"/proc/{pid}/task").iterdir():
            ran, waited = _parse((thread / "schedstat").read_text())
            ran_s, waited_s = ran_s + ran, waited_s + waited
    return ran_s, waited_s


def _parse(schedstat: str) -> Spent:
    ran_ns, waited_ns = schedstat.split()[:2]
    return int(ran_ns) / 1e9, int(waited_ns) / 1e9


def spent() -> Spent:
    """Return what carries the run has spent: this thread, and the waits of all threads and processes of the run.

    What those ran for is their own affair: nothing else had to wait for it here.
    """
    own = os.getpid()
    ran_s, waited_s = spent_by_thread()
    return ran_s, max(waited_s, sum(spent_by_process(pid)[1] for pid in (own, *descendants(own))))


async def watch_pace(recorder: Recorder, collector: Collector) -> None:
    """Record `lag` and `load` events until cancelled. A subject that blocks the loop stops the link too: it shows.

    What the harness's own collecting of garbage took is not counted as a lag.
    """
    probes, since_s, before = 0, trio.current_time(), spent()
    while True:
        due, collected_s = trio.current_time() + PROBE_S, collector.spent_s
        await trio.sleep_until(due)
        now_s = trio.current_time()
        lag_s = now_s - due - (collector.spent_s - collected_s)
        if lag_s >= LAG_RECORDED_S:
            recorder.record("lag", lag_s=round(lag_s, 4))
        probes += 1
        if probes % LOAD_EVERY:
            continue
        after = spent()
        ran_s, waited_s = after[0] - before[0], after[1] - before[1]
        over_s, since_s, before = now_s - since_s, now_s, after
        if ran_s + waited_s > LOAD_RECORDED_SHARE * over_s:
            recorder.record(
                "load", ran_s=round(ran_s, 4), waited_s=round(waited_s, 4), over_s=round(over_s, 4)
            )
