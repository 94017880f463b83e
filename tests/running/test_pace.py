"""What the harness knows of its own lateness: the loop's lag, and the time that it ran and waited for a processor."""

from __future__ import annotations

import os
import subprocess
import sys
import time

import pytest
import trio

from chaos.recorder import Recorder
from chaos.running.garbage import Collector
from chaos.running.pace import spent, spent_by_process, spent_by_thread, watch_pace

pytestmark = [
    pytest.mark.skipif(sys.platform != "linux", reason="only Linux says how long a process waits"),
    pytest.mark.slow,
]


def burn(for_s: float) -> None:
    end_s = time.perf_counter() + for_s
    while time.perf_counter() < end_s:
        pass


async def watched(work) -> list:
    recorder = Recorder(clock=trio.current_time)
    recorder.start()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(watch_pace, recorder, Collector())
        await work()
        nursery.cancel_scope.cancel()
    return recorder.events


async def test_a_loop_that_is_blocked_lags_by_as_long_as_it_was():
    async def work():
        await trio.sleep(0.12)
        time.sleep(0.3)  # noqa: ASYNC251 - blocks the loop on purpose
        await trio.sleep(0.3)

    lags = [event["lag_s"] for event in await watched(work) if event.kind == "lag"]
    assert 0.25 <= max(lags) <= 0.35 + 1.0  # a busy machine adds to it


async def test_a_process_that_computes_is_busy_and_one_that_sleeps_is_not():
    async def computes():
        for _ in range(60):
            burn(0.01)
            await trio.sleep(0.001)

    async def sleeps():
        await trio.sleep(0.6)

    def busy_s(events):
        return sum(e["ran_s"] + e["waited_s"] for e in events if e.kind == "load")

    assert busy_s(await watched(computes)) > 0.3
    assert busy_s(await watched(sleeps)) < 0.3


def test_time_spent_is_that_of_the_thread_and_only_the_waits_of_children_are_added():
    with subprocess.Popen([sys.executable, "-c", "while True: pass"]) as child:
        try:
            time.sleep(0.5)
            ran_s, _ = spent_by_process(child.pid)
            before = spent()
            time.sleep(0.5)
            after = spent()
        finally:
            child.kill()
    assert ran_s > 0.1
    assert after[0] - before[0] < 0.2
    assert spent_by_thread()[0] <= spent_by_process(os.getpid())[0]


def test_of_a_process_that_is_gone_nothing_is_known():
    with subprocess.Popen([sys.executable, "-c", ""]) as child:
        child.wait()
    assert spent_by_process(child.pid) == (0.0, 0.0)
