"""Many runs side by side, each in a process of its own, with a live account of them.

Processes come from a fork server that has everything imported: a run costs some 20 ms to start.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from typing import Any, Protocol

import trio

from chaos.checks.verdict import Outcome, Verdict
from chaos.running.worker import Job, failed_verdict, work

# Runs mostly wait. What bounds how many go side by side is the processor time of their clients, not their number.
UNITS_PER_CORE = 45
CLIENTS_PER_UNIT = 25
# beyond a scenario's duration: start, stop, judging, and a busy machine
OVERTIME_S = 45.0
STOP_S = 8.0


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
    """Runs jobs; `verdicts` fills as they end, in the order in which they end."""

    jobs: Sequence[Job]
    account: Account
    units: int
    fail_fast: bool = False
    verdicts: dict[int, Verdict] = field(default_factory=dict)
    interrupted: bool = False
    _processes: set[Any] = field(default_factory=set)
    _stop: trio.Event = field(default_factory=trio.Event)

    async def run(self) -> None:
        """Run all jobs. Cancelling stops the runs and kills stragglers.

        SIGINT and SIGTERM stop the runs, which still hand in what they have, and set `interrupted`; a second one
        kills at once.
        """
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._watch_signals)
            await self._run_all()
            nursery.cancel_scope.cancel()

    async def _watch_signals(self) -> None:
        with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
            async for _ in signals:
                if self.interrupted:
                    for process in self._processes:
                        process.kill()
                self.interrupted = True
                self._stop.set()

    async def _run_all(self) -> None:
        limiter = _Units(self.units)
        # the longest first, so that none of them is left alone at the end
        order = sorted(range(len(self.jobs)), key=lambda i: effort(self.jobs[i]), reverse=True)
        async with trio.open_nursery() as nursery:
            for number in order:
                size = min(weight(self.jobs[number]), self.units)
                await limiter.take(size)
                if self._stop.is_set():
                    return
                nursery.start_soon(self._run_one, number, size, limiter)

    async def _run_one(self, number: int, size: int, limiter: _Units) -> None:
        job = self.jobs[number]
        try:
            verdict = await self._run_process(job)
        finally:
            limiter.give(size)
        self.verdicts[number] = verdict
        self.account.finished(job, verdict)
        if self.fail_fast and verdict.outcome is Outcome.FAIL:
            self._stop.set()

    async def _run_process(self, job: Job) -> Verdict:
        ours, theirs = _CONTEXT.Pipe()
        process = _CONTEXT.Process(target=work, args=(job, theirs), name=job.title)
        process.start()
        theirs.close()
        self._processes.add(process)
        self.account.started(job)
        verdict: Verdict | None = None
        last = failed_verdict(job, Outcome.INCONCLUSIVE, "run", "it was not seen to its end")
        try:
            with trio.move_on_after(job.duration_s + OVERTIME_S) as scope:
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(self._cancel_on_stop, scope)
                    verdict = await self._listen(job, ours)
                    nursery.cancel_scope.cancel()
        finally:
            with trio.CancelScope(shield=True):
                last = await self._end(job, process, ours, verdict)
        return last

    async def _cancel_on_stop(self, scope: trio.CancelScope) -> None:
        await self._stop.wait()
        scope.cancel()

    async def _listen(self, job: Job, ours: Connection) -> Verdict | None:
        """Return the verdict when it comes; None when the process ends without one."""
        while True:
            await trio.lowlevel.wait_readable(ours.fileno())
            try:
                kind, content = ours.recv()
            except (EOFError, OSError):
                return None
            if kind == "verdict":
                return Verdict.from_json(content)
            self.account.progress(job, *content)

    async def _end(
        self, job: Job, process: Any, ours: Connection, verdict: Verdict | None
    ) -> Verdict:
        """See the process off, asking first and killing then; always returns a verdict."""
        if verdict is None and process.is_alive():
            with suppress(OSError):
                ours.send("stop")
            with trio.move_on_after(STOP_S):
                verdict = await self._listen(job, ours)
        ours.close()
        with trio.move_on_after(STOP_S):
            await trio.lowlevel.wait_readable(process.sentinel)
        if process.is_alive():
            process.kill()
            await trio.lowlevel.wait_readable(process.sentinel)
        process.join()
        self._processes.discard(process)
        return verdict or failed_verdict(job, Outcome.INCONCLUSIVE, "run", _death(process.exitcode))


class _Units:
    """How much may run at once, in units of about 25 clients. First come, first served."""

    def __init__(self, units: int) -> None:
        self._free = units
        self._changed = trio.Event()

    async def take(self, size: int) -> None:
        """Wait until that much is free, and take it."""
        while self._free < size:
            self._changed = trio.Event()
            await self._changed.wait()
        self._free -= size

    def give(self, size: int) -> None:
        """Give back what was taken."""
        self._free += size
        self._changed.set()


def weight(job: Job) -> int:
    """Return how many units a job takes: a run on virtual time never waits, and takes a whole core."""
    return UNITS_PER_CORE if _virtual(job) else 1 + job.clients // CLIENTS_PER_UNIT


def effort(job: Job) -> tuple[float, float]:
    """Return what orders jobs by how long they take: by the clock, or by how much happens."""
    return (job.clients if _virtual(job) else job.duration_s, job.duration_s)


def _virtual(job: Job) -> bool:
    return job.network == "simulated"


def default_units() -> int:
    """Return how many units this machine carries at once."""
    return UNITS_PER_CORE * len(
        os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else [0, 1]
    )


def _death(exitcode: int | None) -> str:
    if exitcode is not None and exitcode < 0:
        with suppress(ValueError):
            return f"the run's process was killed by {signal.Signals(-exitcode).name}"
    return f"the run's process did not hand in a verdict (exit code {exitcode}); its trace has what there is"


def _context() -> Any:
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["chaos.running.preload"])
    return context


_CONTEXT = _context()


def run_suite(suite: Suite) -> list[Verdict]:
    """Run a suite and return its verdicts in the order of the jobs (those that were started)."""
    trio.run(suite.run)
    return [suite.verdicts[number] for number in sorted(suite.verdicts)]
