"""What a lost worker costs: its own run, never another's; on this machine and on a Dask cluster."""

from __future__ import annotations

import os
import signal
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import pytest

from chaos.checks.verdict import Outcome
from chaos.running.job import Job
from chaos.running.pool.crew import CrewGone, Dask, Workers, run_jobs
from chaos.running.pool.worker import WorkerLost
from chaos.running.result import Row, lost_rows
from chaos.scenario.load import load_text
from chaos.scenario.vary import Bounds

SCENARIO = """
version: 1
name: a-few-seconds
duration: 9s
workload: [{from: server, every: 500ms}]
timeline: [{at: 3s, for: 2500ms, fault: blackhole, name: outage}]
server: {heartbeat: {interval: 500ms, timeout: 1s}}
client: {heartbeat: {interval: 500ms, timeout: 1s}, backoff: {initial: 200ms, max: 500ms}, connect_timeout: 1s}
expect:
  - detects_dead_peer: {by: client, during: outage, within: 1500ms}
  - reconnects: {after: outage, within: 2s}
"""
DIES = """
import os
from chaos import subject

@subject(sends=True)
async def client(url, **options):
    os._exit(1)
"""

# the seed of its own generator tells it which run it is in
BUSY = """
import trio
from chaos import subject

@subject(sends=True)
async def client(url, *, seed, **options):
    while seed == 2:
        pass
    await trio.sleep_forever()
"""


def job(*seeds: int, client: str | None = None) -> Job:
    (scenario,) = load_text(SCENARIO, "seconds.yaml")
    return Job(scenario=scenario, network="simulated", seeds=seeds, bounds=Bounds(), client=client)


@pytest.mark.slow
def test_a_seed_that_kills_its_process_is_named_and_the_others_are_not(tmp_path: Path) -> None:
    path = tmp_path / "dies.py"
    path.write_text(DIES)
    jobs = [job(1, 2, 3), job(4, client=f"{path}:client")]
    rows = [row for some in run_jobs(jobs, Workers(2)) for row in some]
    assert sorted(row.seed for row in rows) == [1, 2, 3, 4]
    outcome = {row.seed: row.outcome for row in rows}
    assert outcome[4] is Outcome.INCONCLUSIVE
    assert {outcome[seed] for seed in (1, 2, 3)} == {Outcome.PASS}
    assert [row.reason for row in rows if row.seed == 4] == [
        "run: the run's process did not hand in a verdict (exit code 1); its trace has what there is"
    ]


@pytest.mark.slow
def test_a_seed_that_computes_for_ever_is_named_and_the_others_are_not(tmp_path: Path) -> None:
    path = tmp_path / "busy.py"
    path.write_text(BUSY)
    rows = [
        row
        for some in run_jobs([job(1, 2, 3, client=f"{path}:client")], Workers(1))
        for row in some
    ]
    assert {row.seed: row.outcome for row in rows} == {
        1: Outcome.INCONCLUSIVE,
        2: Outcome.INCONCLUSIVE,
        3: Outcome.INCONCLUSIVE,
    }
    given_up = [row.seed for row in rows if row.reason.startswith("complete: the run was given up")]
    assert given_up == [2]


@pytest.mark.slow
def test_the_seeds_of_a_worker_that_is_stopped_are_run_again() -> None:
    crew = Workers(2)
    found: list[Row] = []
    is_stopped = False
    for rows in run_jobs(job(*range(60)).portions(5), crew):
        found += rows
        pid = crew.workers[0].pid
        if rows and not is_stopped and pid is not None:
            is_stopped = True
            os.kill(pid, signal.SIGSTOP)
    assert is_stopped
    assert sorted(row.seed for row in found) == list(range(60))
    assert {row.outcome for row in found} == {Outcome.PASS}


@pytest.mark.slow
def test_the_seeds_of_a_worker_that_is_killed_are_run_again() -> None:
    crew = Workers(2)
    found: list[Row] = []
    first = None
    for rows in run_jobs(job(*range(60)).portions(5), crew):
        if rows and first is None:
            first = crew.workers[0].pid
            assert first is not None
            os.kill(first, signal.SIGKILL)
        elif first is not None and crew.workers[0].pid not in (None, first):
            first = -1  # another has taken its place
        found += rows
    assert first == -1
    assert sorted(row.seed for row in found) == list(range(60))
    assert {row.outcome for row in found} == {Outcome.PASS}


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_dask_runs_a_sweep_though_a_worker_is_killed() -> None:
    distributed = pytest.importorskip("distributed")
    options = {"n_workers": 2, "threads_per_worker": 1, "dashboard_address": ":0"}
    with distributed.LocalCluster(processes=True, **options) as cluster:
        found: list[Row] = []
        killed = False
        for rows in run_jobs(job(*range(60)).portions(5), Dask(cluster.scheduler_address)):
            found += rows
            if rows and not killed:
                killed = True
                os.kill(next(iter(cluster.workers.values())).process.process.pid, signal.SIGKILL)
    assert killed
    assert sorted(row.seed for row in found) == list(range(60))
    assert {row.outcome for row in found} == {Outcome.PASS}


class Gone:
    """A crew whose jobs are done until it goes away."""

    width = 1
    lost = (WorkerLost,)
    gone = (ConnectionError,)

    def __init__(self) -> None:
        self.is_closed = False
        self._jobs = 0

    def submit(self, work: Any, job: Job) -> Future[list[Row]]:
        future: Future[list[Row]] = Future()
        self._jobs += 1
        if self._jobs == 1:
            future.set_result(lost_rows(job, "so"))
        else:
            future.set_exception(ConnectionError("refused"))
        return future

    def close(self) -> None:
        self.is_closed = True


def test_a_crew_that_is_gone_ends_the_work_with_what_there_is() -> None:
    crew: Any = Gone()
    found: list[Row] = []
    with pytest.raises(CrewGone, match="refused"):
        for rows in run_jobs(job(1, 2, 3).portions(1), crew):
            found += rows
    assert crew.is_closed
    assert len(found) <= 1


def test_the_seeds_that_a_job_left_out_are_run() -> None:
    class Partial(Gone):
        def submit(self, work: Any, job: Job) -> Future[list[Row]]:
            future: Future[list[Row]] = Future()
            future.set_result(lost_rows(job, "so")[:1])
            return future

    crew: Any = Partial()
    found = [row.seed for rows in run_jobs(job(1, 2, 3, 4).portions(2), crew) for row in rows]
    assert sorted(found) == [1, 2, 3, 4]
