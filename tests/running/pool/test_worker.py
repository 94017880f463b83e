"""The worker process itself: both ways to start it, what it answers, how it is stopped, and that it ends."""

from __future__ import annotations

import os
import pickle
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from chaos.checks.verdict import Outcome
from chaos.errors import UsageError
from chaos.running.job import Job, make_job
from chaos.running.pool.worker import Process, Worker, WorkerLost, fork, launch
from chaos.running.process import run_job, run_seeds
from chaos.scenario.load import load_text

pytestmark = pytest.mark.slow

STARTS = pytest.mark.parametrize("start", [fork, launch])
QUIET = "version: 1\nname: quiet\nduration: 5s\nexpect: [no_leaks]\n"
SUBJECTS = """
import os, signal, trio

async def blocks(url, **options):
    while True:
        pass

async def dies(url, **options):
    os.kill(os.getpid(), signal.SIGKILL)

async def idles(url, **options):
    await trio.sleep_forever()
"""


@pytest.fixture
def job(tmp_path: Path) -> Callable[..., Job]:
    (tmp_path / "subjects.py").write_text(SUBJECTS)

    def make(client: str | None = None, duration: str = "5s", network: str = "simulated") -> Job:
        (scenario,) = load_text(QUIET.replace("5s", duration), str(tmp_path / "quiet.yaml"))
        named = client and f"{tmp_path / 'subjects.py'}:{client}"
        return make_job(scenario, network=network, seed=1, client=named)

    return make


@STARTS
def test_a_worker_is_kept_and_gives_verdicts_and_rows(
    start: Callable[[], Process], job: Callable[..., Job]
) -> None:
    told: list[str] = []
    worker = Worker(start)
    try:
        verdict = worker.run(run_job, job(), told=lambda _at_s, what, _opens: told.append(what))
        first = worker.pid
        (row,) = worker.run(run_seeds, job())
        assert worker.pid == first
    finally:
        worker.end()
    assert verdict.outcome is row.outcome is Outcome.PASS
    assert "steady" in told


@STARTS
def test_what_cannot_be_had_is_refused_and_the_worker_lives(
    start: Callable[[], Process], job: Callable[..., Job]
) -> None:
    worker = Worker(start)
    try:
        with pytest.raises(UsageError, match="dies"):
            worker.run(run_job, job("diess"))
        first = worker.pid
        assert worker.run(run_job, job()).outcome is Outcome.PASS
        assert worker.pid == first
    finally:
        worker.end()


@STARTS
def test_a_worker_that_dies_is_told_by_its_exit_code_and_replaced(
    start: Callable[[], Process], job: Callable[..., Job]
) -> None:
    worker = Worker(start)
    try:
        with pytest.raises(WorkerLost) as lost:
            worker.run(run_job, job("dies"))
        assert (lost.value.exit_code, lost.value.is_late) == (-signal.SIGKILL, False)
        assert worker.run(run_job, job()).outcome is Outcome.PASS
        assert worker.pid is not None
        os.kill(worker.pid, signal.SIGKILL)  # between two jobs: the next one does not suffer
        time.sleep(0.2)
        assert worker.run(run_job, job()).outcome is Outcome.PASS
    finally:
        worker.end()


def test_a_run_that_blocks_is_killed_when_its_time_is_over(job: Callable[..., Job]) -> None:
    worker = Worker()
    with pytest.raises(WorkerLost) as lost:
        worker.run(run_job, job("blocks"), limit_s=0.5, grace_s=0.2)
    assert lost.value.is_late
    assert worker.pid is None


@pytest.mark.parametrize("limit_s", [None, 6.0])
def test_a_run_that_is_stopped_or_late_hands_in_what_it_has(
    limit_s: float | None, job: Callable[..., Job]
) -> None:
    worker = Worker()

    def told(*_: object) -> None:
        if limit_s is None:
            worker.stop()

    long = job(duration="60s", network="embedded")
    try:
        verdict = worker.run(run_job, long, told=told, limit_s=limit_s, grace_s=20.0)
    finally:
        worker.end()
    assert verdict.outcome is Outcome.INCONCLUSIVE
    assert "was interrupted" in verdict.findings[0].reason


def test_a_worker_that_is_killed_by_another_thread_stays_dead(job: Callable[..., Job]) -> None:
    worker = Worker()
    threading.Timer(0.5, worker.kill).start()
    for _ in range(2):
        with pytest.raises(WorkerLost):
            worker.run(run_job, job("blocks"))


PARENT = """
import pickle, sys, threading, time
from chaos.running.pool.worker import Worker, fork, launch
from chaos.running.process import run_job
worker = Worker({start})
job = pickle.load(sys.stdin.buffer)
run = threading.Thread(target=lambda: worker.run(run_job, job))
run.start()
{wait}
print(worker.pid, flush=True)
time.sleep(3600)
"""


WAIT_FOR_ITS_START = "while worker.pid is None: time.sleep(0.01)\ntime.sleep(2)"


@pytest.mark.parametrize("start", ["fork", "launch"])
@pytest.mark.parametrize("idle", [True, False])
def test_a_worker_ends_when_its_parent_is_killed(
    start: str, idle: bool, job: Callable[..., Job]
) -> None:
    given = job() if idle else job("idles", "60s", "embedded")
    with subprocess.Popen(
        [
            sys.executable,
            "-c",
            PARENT.format(start=start, wait="run.join()" if idle else WAIT_FOR_ITS_START),
        ],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as parent:
        assert parent.stdin is not None
        assert parent.stdout is not None
        try:
            parent.stdin.write(pickle.dumps(given))
            parent.stdin.close()
            pid = int(parent.stdout.readline())
            os.kill(pid, 0)
        finally:
            parent.kill()
    deadline = time.monotonic() + 5
    while Path(f"/proc/{pid}").exists():
        assert time.monotonic() < deadline, "it outlived its parent"
        time.sleep(0.02)
