"""Who runs the jobs of a sweep: workers of this machine, or those of a Dask cluster.

Both give futures of `concurrent.futures`, so one loop serves them. What a lost worker had not handed in is run again,
seed by seed, so that the right one is blamed; a seed that loses its worker again and again gets a row that says so.
"""

from __future__ import annotations

import importlib
import logging
import threading
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, CancelledError, Future, ThreadPoolExecutor, wait
from contextlib import suppress
from dataclasses import replace
from queue import SimpleQueue
from typing import TypeAlias, TypeVar

from chaos.errors import ChaosError, UsageError
from chaos.running.environment import workers_that_fit
from chaos.running.job import Job
from chaos.running.pool.forks import Process
from chaos.running.pool.worker import Work, Worker, WorkerLost, fork, launch
from chaos.running.process import run_seeds
from chaos.running.result import Row, lost_rows

T = TypeVar("T")

# jobs that wait in the executor, per worker, so that none is idle between two
AHEAD = 2
LOSSES_MAX = 3
POLL_S = 0.2
# a cluster that is gone does not answer
CLOSE_S = 5


class CrewGone(ChaosError):
    """Those who run the jobs are gone for good, with all that they had not handed in."""


class Workers:
    """Worker processes of this machine, kept from job to job. They start as jobs come. Serves until it is closed.

    `lost` is what a job raises whose process was lost, and `gone` what it raises when all are.
    """

    lost: tuple[type[BaseException], ...] = (WorkerLost,)
    gone: tuple[type[BaseException], ...] = (OSError,)

    def __init__(self, width: int, start: Callable[[], Process] = fork) -> None:
        self.width = width = workers_that_fit(width)
        self.workers = [Worker(start) for _ in range(width)]
        self._idle: SimpleQueue[Worker] = SimpleQueue()
        for worker in self.workers:
            self._idle.put(worker)
        self._threads = ThreadPoolExecutor(width)

    def submit(self, work: Work[T], job: Job, /) -> Future[T]:
        """Give a job to the next worker that is idle."""
        return self._threads.submit(self._run, work, job)

    def close(self) -> None:
        """Kill the workers."""
        self._threads.shutdown(wait=False, cancel_futures=True)
        for worker in self.workers:
            worker.kill()
        self._threads.shutdown()
        for worker in self.workers:
            worker.end()

    def _run(self, work: Work[T], job: Job) -> T:
        worker = self._idle.get()
        try:
            return worker.run(work, job)
        finally:
            self._idle.put(worker)


class Dask:
    """The workers of a Dask cluster, each of which needs trio-chaos. Dask itself replaces those that are lost."""

    def __init__(self, address: str) -> None:
        """Connect to the scheduler.

        Raises:
            UsageError: `distributed` is not installed, or nothing answers.
        """
        try:
            distributed = importlib.import_module("distributed")
        except ImportError as error:
            raise UsageError(
                "--dask needs the package `distributed`: expected an installation with the extra "
                "`dask`, as in `pip install trio-chaos[dask]`"
            ) from error
        # what goes wrong with the cluster is said once, by whoever runs the sweep
        for name in ("distributed", "distributed.client", "distributed.core", "asyncio"):
            logging.getLogger(name).setLevel(logging.CRITICAL)
        try:
            self._client = distributed.Client(address, timeout="10s", set_as_default=False)
        except (OSError, ValueError) as error:
            raise UsageError(f"no Dask scheduler answers at {address}: {error}") from error
        self._executor = self._client.get_executor(pure=False)
        # Dask raises its own when a job has cost several of its workers
        self.lost: tuple[type[BaseException], ...] = (WorkerLost, distributed.KilledWorker)
        # and these when its scheduler has gone
        self.gone: tuple[type[BaseException], ...] = (CancelledError, TimeoutError, OSError)

    @property
    def width(self) -> int:
        """How many threads the cluster's workers have."""
        threads: dict[str, int] = self._client.nthreads()
        return max(1, sum(threads.values()))

    def submit(self, work: Work[T], job: Job, /) -> Future[T]:
        """Give the cluster a job."""
        future: Future[T] = self._executor.submit(run_in_worker, work, job)
        return future

    def close(self) -> None:
        """Take back what has not been done, and disconnect; the cluster goes on."""
        with suppress(Exception):  # a cluster that is gone cannot take anything back
            self._executor.shutdown(wait=False, cancel_futures=True)
        with suppress(Exception):
            self._client.close(timeout=CLOSE_S)


Crew: TypeAlias = Workers | Dask
_of_thread = threading.local()


def run_in_worker(work: Work[T], job: Job) -> T:
    """Do a job in a worker of this thread's own, which is kept for the next one.

    A simulated run replaces the clocks of its whole process, and a Dask worker needs its own.
    """
    if not hasattr(_of_thread, "worker"):
        _of_thread.worker = Worker(launch)
    worker: Worker = _of_thread.worker
    return worker.run(work, job)


def run_jobs(jobs: Iterable[Job], crew: Crew) -> Iterator[list[Row]]:
    """Run the seeds of jobs and give their rows as they come; an empty list now and then, so that the caller can act.

    The crew is closed in any case, also when the generator is.

    Raises:
        UsageError: a job raised it.
        CrewGone: nobody is left to run the others.
    """
    waiting, again = iter(jobs), deque[Job]()
    losses: Counter[tuple[str, str, int]] = Counter()
    running: dict[Future[list[Row]], Job] = {}
    try:
        while True:
            while len(running) < AHEAD * crew.width:
                job = again.popleft() if again else next(waiting, None)
                if job is None:
                    break
                running[crew.submit(run_seeds, job)] = job
            if not running:
                return
            done, _ = wait(running, timeout=POLL_S, return_when=FIRST_COMPLETED)
            for future in done:
                job = running.pop(future)
                try:
                    rows = future.result()
                except crew.lost as lost:
                    yield _try_again(job, again, losses, str(lost))
                else:
                    again += _left_out(job, rows)
                    yield rows
            if not done:
                yield []
    except crew.gone as error:
        why = str(error) or type(error).__name__
        raise CrewGone(f"the workers are gone ({why})") from error
    finally:
        crew.close()


def _left_out(job: Job, rows: Sequence[Row]) -> list[Job]:
    """Return the job of the seeds that have no row: those after one that had to be given up."""
    have = {row.seed for row in rows}
    seeds = tuple(seed for seed in job.seeds if seed not in have)
    return [replace(job, seeds=seeds)] if seeds else []


def _try_again(
    job: Job, again: deque[Job], losses: Counter[tuple[str, str, int]], reason: str
) -> list[Row]:
    """Put the seeds of a lost job into `again`, each alone; return the row of one that has been lost too often."""
    if len(job.seeds) == 1:
        key = job.of, job.title, job.seed
        losses[key] += 1
        if losses[key] == LOSSES_MAX:
            return lost_rows(job, f"{reason}; so it was {LOSSES_MAX} times")
    again += [replace(job, seeds=(seed,)) for seed in job.seeds]
    return []
