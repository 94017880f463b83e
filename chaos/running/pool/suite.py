"""Jobs to verdicts: many runs side by side, each in a process of its own, or run after run in one that is kept.

Whatever a subject does, it costs its own run only: one that does not end in a verdict is INCONCLUSIVE.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any, Protocol, Self

from chaos.checks.verdict import Outcome, Verdict
from chaos.errors import UsageError
from chaos.running.environment import cores, workers_that_fit
from chaos.running.interrupt import signals_given_to
from chaos.running.job import Job
from chaos.running.log import write_verdict
from chaos.running.pool.worker import STOP_S, Worker, WorkerLost
from chaos.running.process import run_job, run_traced
from chaos.running.result import USAGE, failed_verdict
from chaos.trace import Trace

# A simulated run takes a fraction of a second; one that has not ended by then hangs.
RUN_S = 60.0
# Runs mostly wait. What bounds how many go side by side is the processor time of their clients, not their number.
SLOTS_PER_CORE = 45
CLIENTS_PER_SLOT = 25
# beyond a scenario's duration: start, stop, judging, and a busy machine
OVERTIME_S = 45.0


class Bench:
    """Runs jobs one after the other. A context manager: leaving it ends the process, whatever it does."""

    def __init__(
        self, run_s: float = RUN_S, interrupted: Callable[[], None] = lambda: None
    ) -> None:
        """Make a bench for runs of at most `run_s`; `interrupted` is called meanwhile, and may raise to end one."""
        self._run_s = run_s
        self._interrupted = interrupted
        self._worker = Worker()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self._worker.end()

    def run(self, job: Job, *, limit_s: float | None = None) -> Verdict:
        """Run a job and return its verdict; a run that did not end in one is INCONCLUSIVE.

        `limit_s` is how long it may take if that is less than usual.

        Raises:
            UsageError: a subject cannot be had, or cannot do what the scenario asks.
        """
        return self.run_traced(job, limit_s=limit_s)[0]

    def run_traced(self, job: Job, *, limit_s: float | None = None) -> tuple[Verdict, Trace | None]:
        """Do as `run`, and return the trace as well, if there is one."""
        limit_s = self._run_s if limit_s is None else min(limit_s, self._run_s)
        try:
            return self._worker.run(run_traced, job, limit_s=limit_s, interrupted=self._interrupted)
        except WorkerLost as lost:
            return failed_verdict(job, Outcome.INCONCLUSIVE, "run", lost.reason), None


class Account(Protocol):
    """Is told what happens; must not wait."""

    def started(self, job: Job) -> None:
        """A run has started."""

    def progress(self, job: Job, at_s: float, what: str, opens: int) -> None:
        """A run has come this far."""

    def finished(self, job: Job, verdict: Verdict) -> None:
        """A run is over."""


@dataclass(slots=True)
class Suite:
    """Runs jobs side by side; `verdicts` fills as they end, in the order in which they end.

    Each run has a thread that waits for its worker. What the threads have to tell comes to the main thread, and so do
    signals: it alone decides, and it alone speaks to the account.
    """

    jobs: Sequence[Job]
    account: Account
    slots: int
    fail_fast: bool = False
    verdicts: dict[int, Verdict] = field(default_factory=dict)
    interrupted: bool = False
    _running: dict[Future[Verdict], tuple[int, Worker]] = field(default_factory=dict)
    _news: SimpleQueue[tuple[Any, ...]] = field(
        default_factory=SimpleQueue
    )  # what to call, with what
    _is_stopping: bool = False
    _at_most: int = 1  # workers for which there are descriptors
    _kill_at_s: float | None = None  # when runs that have been asked to stop are killed

    def run(self) -> None:
        """Run all jobs; whatever happens, no process is left.

        A signal (`chaos.running.interrupt`) stops the runs, which still hand in what they have, and sets
        `interrupted`; a second one kills at once.
        """
        # the longest first, so that none of them is left alone at the end
        numbers = range(len(self.jobs))
        self._at_most = workers_that_fit(len(self.jobs))
        waiting = sorted(numbers, key=lambda number: effort(self.jobs[number]), reverse=True)
        interrupt = partial(self._news.put, (self._interrupt,))
        with signals_given_to(interrupt), ThreadPoolExecutor(max(1, self.slots)) as threads:
            try:
                while True:
                    while waiting and self._may_start(self.jobs[waiting[0]]):
                        self._start(waiting.pop(0), threads)
                    if not self._running:
                        return
                    self._take_news()
            finally:
                self._stop()
                wait(self._running, STOP_S)
                self._kill()

    def _may_start(self, job: Job) -> bool:
        """Return whether a job may start now: there are slots for it, or it is larger than all and they are free."""
        if self._is_stopping or len(self._running) >= self._at_most:
            return False
        taken = sum(weight(self.jobs[number]) for number, _ in self._running.values())
        return not taken or taken + weight(job) <= self.slots

    def _start(self, number: int, threads: ThreadPoolExecutor) -> None:
        worker = Worker()
        run = threads.submit(self._run_one, self.jobs[number], worker)
        self._running[run] = number, worker
        run.add_done_callback(lambda run: self._news.put((self._finish, run)))
        self.account.started(self.jobs[number])

    def _run_one(self, job: Job, worker: Worker) -> Verdict:
        """Run a job, in its thread; always return a verdict."""

        def told(*content: Any) -> None:
            self._news.put((self.account.progress, job, *content))

        limit_s = job.duration_s + OVERTIME_S
        try:
            return worker.run(run_job, job, told=told, limit_s=limit_s, grace_s=STOP_S)
        except UsageError as error:
            return failed_verdict(job, Outcome.INCONCLUSIVE, USAGE, str(error))
        except WorkerLost as lost:
            return self._lost(job, lost.reason)
        except OSError as error:
            return self._lost(job, f"no process could be started: {error.strerror or error}")
        finally:
            worker.end(STOP_S)

    def _lost(self, job: Job, reason: str) -> Verdict:
        """Return the verdict on a run whose process said nothing, and keep it where the run's results go."""
        verdict = failed_verdict(job, Outcome.INCONCLUSIVE, "run", reason)
        if job.out:
            with suppress(OSError):
                write_verdict(Path(job.out), verdict)
        return verdict

    def _take_news(self) -> None:
        """Wait until something happens, and act on it; kill the runs that have not stopped in time."""
        left_s = None if self._kill_at_s is None else max(0.0, self._kill_at_s - time.monotonic())
        try:
            act, *content = self._news.get(timeout=left_s)
        except Empty:
            self._kill()
        else:
            act(*content)

    def _interrupt(self) -> None:
        if self.interrupted:
            self._kill()
        self.interrupted = True
        self._stop()

    def _finish(self, run: Future[Verdict]) -> None:
        number, _ = self._running.pop(run)
        verdict = self.verdicts[number] = run.result()
        self.account.finished(self.jobs[number], verdict)
        if self.fail_fast and verdict.outcome is Outcome.FAIL:
            self._stop()

    def _stop(self) -> None:
        """Ask all runs to stop and to hand in what they have. No other starts."""
        if not self._is_stopping:
            self._is_stopping, self._kill_at_s = True, time.monotonic() + STOP_S
            for _, worker in self._running.values():
                worker.stop()

    def _kill(self) -> None:
        self._kill_at_s = None
        for _, worker in self._running.values():
            worker.kill()


def weight(job: Job) -> int:
    """Return how many slots a job takes: a run on virtual time never waits, and takes a whole core."""
    return SLOTS_PER_CORE if _is_virtual(job) else 1 + job.clients // CLIENTS_PER_SLOT


def effort(job: Job) -> tuple[float, float]:
    """Return what orders jobs by how long they take: by the clock, or by how much happens."""
    return (job.clients if _is_virtual(job) else job.duration_s, job.duration_s)


def _is_virtual(job: Job) -> bool:
    return job.network == "simulated"


def default_slots() -> int:
    """Return how many slots this machine has."""
    return SLOTS_PER_CORE * cores()


def run_suite(suite: Suite) -> list[Verdict]:
    """Run a suite and return its verdicts in the order of the jobs (those that were started)."""
    suite.run()
    return [suite.verdicts[number] for number in sorted(suite.verdicts)]
