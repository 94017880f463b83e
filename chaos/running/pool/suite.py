"""Jobs to verdicts: many runs side by side, each in a process of its own, or run after run in one that is kept.

Whatever a subject does, it costs its own run only: one that does not end in a verdict is INCONCLUSIVE.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import suppress
from dataclasses import dataclass, field, replace
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
from chaos.running.pool.pressure import MEASURED_EVERY_S, Pressure
from chaos.running.pool.worker import STOP_S, Worker, WorkerLost
from chaos.running.process import run_job, run_traced
from chaos.running.result import USAGE, failed_verdict
from chaos.trace import Trace

# A simulated run takes a fraction of a second; one that has not ended by then hangs.
RUN_S = 60.0
# Runs mostly wait. What bounds how many go side by side is the processor time of their clients, not their number.
SLOTS_PER_CORE = 45
CLIENTS_PER_SLOT = 25
# a run of so many clients may keep a core busy by itself: it has the machine to itself, after all others
HEAVY_CLIENTS = 100
# beyond a scenario's duration: start, stop, judging, and a busy machine
OVERTIME_S = 45.0
AGAIN = "was run again, alone, since the machine had been too busy for it the first time"


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

    def postponed(self, job: Job) -> None:
        """A run is over that the machine was too busy for: it starts again once the others are over."""


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
    again: int = 0  # how many were run a second time, alone, since the machine had been too busy
    _late: dict[int, Verdict] = field(default_factory=dict)  # what those came to the first time
    _pressure: Pressure = field(default_factory=lambda: Pressure(cores()))
    _running: dict[Future[Verdict], tuple[int, Worker]] = field(default_factory=dict)
    _news: SimpleQueue[tuple[Any, ...]] = field(
        default_factory=SimpleQueue
    )  # what to call, with what
    _is_stopping: bool = False
    _at_most: int = 1_000_000  # workers for which there are descriptors
    _kill_at_s: float | None = None  # when runs that have been asked to stop are killed

    def run(self) -> None:
        """Run all jobs; whatever happens, no process is left.

        A signal (`chaos.running.interrupt`) stops the runs, which still hand in what they have, and sets
        `interrupted`; a second one kills at once.
        """
        self._at_most = workers_that_fit(len(self.jobs))
        waiting = sorted(range(len(self.jobs)), key=lambda number: order(self.jobs[number]))
        interrupt = partial(self._news.put, (self._interrupt,))
        with signals_given_to(interrupt), ThreadPoolExecutor(max(1, self.slots)) as threads:
            try:
                while True:
                    while waiting and self._may_start(waiting[0]):
                        self._start(waiting.pop(0), threads)
                    if not self._running and not waiting:
                        waiting = self._take_late()
                    if not self._running and (not waiting or self._is_stopping):
                        return
                    if self._running:
                        self._take_news()
            finally:
                self._stop()
                wait(self._running, STOP_S)
                self._kill()
                # those that were not run again come to what they came to
                for number in self._late.keys() - self.verdicts.keys():
                    self._settle(number, self._late[number])

    def _may_start(self, number: int) -> bool:
        """Tell whether a job may start now: nothing runs, or there are slots for it and the machine carries it."""
        if self._is_stopping or not self._running:
            return not self._is_stopping
        others = [other for other, _ in self._running.values()]
        if len(others) >= self._at_most or any(self._wants_all(one) for one in (number, *others)):
            return False
        taken = sum(weight(self.jobs[other]) for other in others)
        if taken + weight(self.jobs[number]) > self.slots:
            return False
        if _is_virtual(self.jobs[number]):
            return True  # it takes longer on a busy machine, and comes to the same
        pids = (worker.pid for _, worker in self._running.values())
        return self._pressure.allows(pid for pid in pids if pid is not None)

    def _wants_all(self, number: int) -> bool:
        """Tell whether a job is to have the machine to itself."""
        return number in self._late or is_heavy(self.jobs[number])

    def _take_late(self) -> list[int]:
        """Return the jobs that are to run again, alone: those for which the machine was too busy the first time."""
        return [number for number in self._late if number not in self.verdicts]

    def _start(self, number: int, threads: ThreadPoolExecutor) -> None:
        worker = Worker()
        run = threads.submit(self._run_one, self.jobs[number], worker)
        self._running[run] = number, worker
        self._pressure.started()
        self.again += number in self._late
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
        left_s = MEASURED_EVERY_S
        if self._kill_at_s is not None:
            left_s = min(left_s, max(0.0, self._kill_at_s - time.monotonic()))
        with suppress(Empty):
            act, *content = self._news.get(timeout=left_s)
            act(*content)
        if self._kill_at_s is not None and time.monotonic() >= self._kill_at_s:
            self._kill()

    def _interrupt(self) -> None:
        if self.interrupted:
            self._kill()
        self.interrupted = True
        self._stop()

    def _finish(self, run: Future[Verdict]) -> None:
        number, _ = self._running.pop(run)
        verdict = run.result()
        if number in self._late:
            verdict = replace(verdict, warnings=(*verdict.warnings, AGAIN))
        elif verdict.was_late and not self._is_stopping and len(self.jobs) > 1:
            self._late[number] = verdict
            self.account.postponed(self.jobs[number])
            return
        self._settle(number, verdict)
        if self.fail_fast and verdict.outcome is Outcome.FAIL:
            self._stop()

    def _settle(self, number: int, verdict: Verdict) -> None:
        """Keep the verdict that a job comes to in the end."""
        self.verdicts[number] = verdict
        self.account.finished(self.jobs[number], verdict)

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


def order(job: Job) -> tuple[bool, float, float]:
    """Return what orders jobs: heavy ones last, else the longest first, so that none is left alone at the end.

    That is by the clock, or by how much happens.
    """
    return (
        is_heavy(job),
        -float(job.clients if _is_virtual(job) else job.duration_s),
        -job.duration_s,
    )


def is_heavy(job: Job) -> bool:
    """Tell whether a run may keep a core busy by itself, and is timed on a real clock."""
    return job.clients >= HEAVY_CLIENTS and not _is_virtual(job)


def _is_virtual(job: Job) -> bool:
    return job.network == "simulated"


def default_slots() -> int:
    """Return how many slots this machine has."""
    return SLOTS_PER_CORE * cores()


def run_suite(suite: Suite) -> list[Verdict]:
    """Run a suite and return its verdicts in the order of the jobs (those that were started)."""
    suite.run()
    return [suite.verdicts[number] for number in sorted(suite.verdicts)]
