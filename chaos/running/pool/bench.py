"""One worker that makes run after run: fast as in process, and nothing that a subject does harms us.

A subject that blocks for ever, or brings its process down, costs the run it was in; the next one gets a new process.
"""

from __future__ import annotations

from typing import Self

from chaos.checks.verdict import Outcome, Verdict
from chaos.running.job import Job
from chaos.running.pool.worker import Worker, WorkerLost
from chaos.running.process import run_job
from chaos.running.result import failed_verdict

# A simulated run takes a fraction of a second; one that has not ended by then hangs.
RUN_S = 60.0


class Bench:
    """Runs jobs one after the other. A context manager: leaving it ends the process, whatever it does."""

    def __init__(self, run_s: float = RUN_S) -> None:
        self._run_s = run_s
        self._worker = Worker()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self._worker.end()

    def run(self, job: Job) -> Verdict:
        """Run a job and return its verdict; a run that did not end in one is INCONCLUSIVE.

        Raises:
            UsageError: a subject cannot be had, or cannot do what the scenario asks.
        """
        try:
            return self._worker.run(run_job, job, limit_s=self._run_s)
        except WorkerLost as lost:
            late = f"the run did not end within {self._run_s:g} s of wall time"
            reason = late if lost.is_late else "the run's process ended without a verdict"
            return failed_verdict(job, Outcome.INCONCLUSIVE, "run", reason)
