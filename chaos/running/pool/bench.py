"""One process beside this one that makes run after run: fast as in process, and nothing a subject does harms us.

A subject that blocks for ever, or brings its process down, costs the run it was in; the next one gets a new process.
"""

from __future__ import annotations

import multiprocessing
import signal
from contextlib import suppress
from multiprocessing.connection import Connection
from typing import Any, Self

from chaos.checks.verdict import Outcome, Verdict
from chaos.errors import ChaosError, SubjectNotFound, UsageError
from chaos.running.worker import USAGE, Job, failed_verdict, run_job

# A simulated run takes a fraction of a second; one that has not ended by then hangs.
RUN_S = 60.0


class Bench:
    """Runs jobs one after the other. A context manager: leaving it ends the process, whatever it does."""

    def __init__(self, run_s: float = RUN_S) -> None:
        self._context = multiprocessing.get_context("forkserver")
        self._context.set_forkserver_preload(["chaos.running.preload"])
        self._run_s = run_s
        self._process: Any = None
        self._pipe: Connection | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self._end()

    def run(self, job: Job) -> Verdict:
        """Run a job and return its verdict; a run that did not end in one is INCONCLUSIVE."""
        pipe = self._start()
        try:
            pipe.send(job)
            if pipe.poll(self._run_s):
                return Verdict.from_json(pipe.recv()[1])
            reason = f"the run did not end within {self._run_s:g} s of wall time"
        except (EOFError, OSError):
            reason = "the run's process ended without a verdict"
        except BaseException:
            self._end()
            raise
        self._end()
        return failed_verdict(job, Outcome.INCONCLUSIVE, "run", reason)

    def _start(self) -> Connection:
        if self._pipe is not None and self._process.is_alive() and not self._pipe.poll():
            return self._pipe
        self._end()
        self._pipe, theirs = self._context.Pipe()
        self._process = self._context.Process(target=_serve, args=(theirs,), daemon=True)
        self._process.start()
        theirs.close()
        return self._pipe

    def _end(self) -> None:
        if self._pipe is not None:
            self._pipe.close()
            self._process.kill()
            self._process.join()
        self._pipe = self._process = None


def _serve(pipe: Connection) -> None:
    """Make the runs that come over the pipe, until it is closed; the entry point of the process."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # who holds the other end decides
    with suppress(EOFError, OSError):
        while True:
            job: Job = pipe.recv()
            pipe.send(("verdict", _verdict(job, pipe).to_json()))


def _verdict(job: Job, pipe: Connection) -> Verdict:
    try:
        return run_job(job, lambda _: None, pipe)
    except (SubjectNotFound, UsageError) as error:
        return failed_verdict(job, Outcome.INCONCLUSIVE, USAGE, str(error))
    except ChaosError as error:
        return failed_verdict(job, Outcome.INCONCLUSIVE, "run", str(error))
