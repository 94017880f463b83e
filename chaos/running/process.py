"""Runs in this process: what a run needs of its process is prepared, then it is run, judged and written down.

Leak counts, garbage and the globals of libraries belong to the whole process: there is one run at a time. A run may
have a `Parent`, which hears of its progress and may stop it.
"""

from __future__ import annotations

import gc
import os
import random
import signal
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from functools import cache, partial
from pathlib import Path
from typing import Any

import trio
import trio.testing

from chaos.checks.judge import judge
from chaos.checks.verdict import Outcome, Verdict
from chaos.errors import ChaosError, NotApplicable, SubjectNotFound, UsageError
from chaos.networks import make_network
from chaos.networks.simulated.world import World
from chaos.running.environment import environment, raise_descriptors
from chaos.running.job import Job
from chaos.running.log import trace_file, warnings_told, write_verdict
from chaos.running.parent import Parent
from chaos.running.pool.forks import fork_here
from chaos.running.pool.remains import process_restored
from chaos.running.pool.worker import Worker, WorkerLost, serve
from chaos.running.result import Row, digest_of, failed_verdict, lost_rows, reason_of, times_of
from chaos.running.run import STOP_S, Run, Subject
from chaos.running.simulate import run_in_world
from chaos.running.tls import make_tls
from chaos.running.warm import warm_job
from chaos.running.watchdog import STILL_S, Watched, memory_bound
from chaos.scenario.model import Scenario
from chaos.scenario.plan import make_plan
from chaos.subjects.host import describe_error
from chaos.subjects.load import fit_workload, load, load_name
from chaos.subjects.modules import import_anew, is_shipped, modules_anew
from chaos.trace import Event, Side, Trace, dump_trace
from chaos.vocabulary.sometimes import states_reached

See = Callable[[Event], None]
# what is handed in for a run that is over: to `run_job` its verdict, to `run_seeds` the rows so far, and so on
Answer = Callable[[Verdict, Trace | None], Any]
# a simulated run replaces clocks and sockets of the whole process: one at a time
_ALONE = threading.Lock()
# A run may take so much real time beyond its own. Virtual time costs real time too, the more the more clients take
# part: hundreds of them take some seconds, a day of a scenario some ten.
OVERTIME_S = 5.0
CLIENTS_IN_THAT = 50
VIRTUAL_S_MAX = 110.0
# of a run on the machine's sockets: a server may start late, and each side stop late
OVERTIME_REAL_S = 25.0
# the modules of the subjects are imported in this time, and a trace is judged, a long one a little later
IMPORT_S = 9.0
# the process of a run may be killed by somebody else; a subject that ends its own ends it each time
LOSSES_MAX = 3
IMPORTING = "importing the subjects"
JUDGE_S = 9.0
EVENTS_PER_S = 5_000


def real_time_s(job: Job) -> float:
    """Return how much real time a run may take."""
    if job.network != "simulated":
        return job.duration_s + OVERTIME_REAL_S
    return min(job.duration_s, VIRTUAL_S_MAX) + OVERTIME_S * crowd_of(job)


def crowd_of(job: Job) -> float:
    """Return by how much the bounds on time are stretched for a run of many clients."""
    return max(1.0, job.clients / CLIENTS_IN_THAT)


def run_job(job: Job, parent: Parent | None = None) -> Verdict:
    """Run a job of one run and judge it; tell the parent of its progress.

    Raises:
        SubjectNotFound: a subject's name cannot be imported.
        UsageError: a subject cannot do what the scenario asks.
    """
    return run_again(job, parent, lambda verdict, _: verdict)[0]


def run_traced(job: Job, parent: Parent | None = None) -> tuple[Verdict, Trace | None]:
    """Run a job of one run and judge it; return its trace as well, if there is one. Raises as `run_job` does."""
    return run_again(job, parent, lambda verdict, trace: (verdict, trace))


def run_again(job: Job, parent: Parent | None, answer: Answer) -> tuple[Verdict, Trace | None]:
    """Do as `run_traced` does; `answer` makes what is handed in if the run has to be given up."""
    try:
        return run_trace(job, parent.see if parent is not None else None, parent, answer)
    except NotApplicable as error:
        outcome = Outcome.INCONCLUSIVE if job.strict else Outcome.SKIPPED
        return failed_verdict(job, outcome, "applicable", str(error)), None
    except (SubjectNotFound, UsageError):
        raise
    except ChaosError as error:
        return failed_verdict(job, Outcome.INCONCLUSIVE, "run", str(error)), None


def run_seeds(job: Job, parent: Parent | None = None) -> list[Row]:
    """Run each seed of a job, one after the other, and return a row for each. It ends early if the parent wants it.

    Runs of the reference peers follow each other in this process. Of other subjects each is made in a fork that has
    imported their modules and run nothing of them: whatever a run leaves in its process, no other sees it.

    Raises:
        SubjectNotFound: a subject's name cannot be imported; so it is for every seed.
        UsageError: a subject cannot do what the scenario asks.
    """
    rows: list[Row] = []
    with _ALONE, _ready(job, parent) as run_one:
        for seed in job.seeds:
            if parent is not None and parent.wants_end():
                break
            rows += run_one(job.alone(seed), rows)
    return rows


@contextmanager
def _ready(job: Job, parent: Parent | None) -> Iterator[Callable[[Job, list[Row]], list[Row]]]:
    """Prepare this process for the seeds of a job, and give what runs one, which is also told of the rows before."""
    scenario = job.cast()
    uses = _uses(scenario)
    if parent is None or all(is_shipped(use) for use in uses.values()):
        yield lambda one, before: _run_seed(one, parent, before)
        return
    _warm_up()
    with process_restored(), modules_anew(uses.values()):
        with _Guard(job, parent, lambda verdict, _: [row_of(job, verdict)]).watching(
            IMPORTING, IMPORT_S
        ):
            _import(scenario, uses)
        gc.collect()
        gc.freeze()  # no fork needs to walk, and so to copy, what is here
        yield lambda one, _before: _run_in_fork(one)


@cache
def _warm_up() -> None:
    """Run something once per process, so that its forks find what every run makes; see `chaos.running.warm`."""
    job = warm_job()
    for seed in job.seeds:
        run_trace(job.alone(seed))


def _run_in_fork(job: Job) -> list[Row]:
    """Return the row of a run that is made in a fork; one whose process dies is made again, a few times."""
    worker, losses = Worker(lambda: fork_here(serve)), 0
    try:
        while True:
            try:
                return worker.run(_run_forked, job)
            except WorkerLost as lost:
                losses += 1
                if lost.is_late or losses == LOSSES_MAX:
                    return lost_rows(job, str(lost))
    finally:
        worker.end()


def _run_forked(job: Job, parent: Parent) -> list[Row]:
    return _run_seed(job, parent, [])


def _run_seed(job: Job, parent: Parent | None, before: list[Row]) -> list[Row]:
    """Return the row of a run; those `before` it are handed in with it if it has to be given up."""

    def answer(verdict: Verdict, trace: Trace | None) -> list[Row]:
        return [*before, row_of(job, verdict, trace)]

    try:
        return [row_of(job, *run_trace(job, None, parent, answer))]
    except (SubjectNotFound, UsageError):
        raise
    except ChaosError as error:
        return lost_rows(job, str(error))


def row_of(job: Job, verdict: Verdict, trace: Trace | None = None) -> Row:
    """Return what a sweep keeps of a run."""
    kept = job.keep == "all" or (job.keep == "failures" and verdict.outcome is not Outcome.PASS)
    return Row(
        title=job.title,
        seed=job.seed,
        path=job.scenario.path,
        outcome=verdict.outcome,
        reason=reason_of(verdict),
        times=times_of(verdict, job.scenario),
        states=states_reached(trace) if trace is not None else (),
        digest=digest_of(trace) if trace is not None else "",
        of=job.of,
        trace=dump_trace(trace) if kept and trace is not None else None,
    )


def run_trace(
    job: Job,
    see: See | None = None,
    parent: Parent | None = None,
    answer: Answer = lambda verdict, _: verdict,
) -> tuple[Verdict, Trace]:
    """Run a job of one run and judge it; return its trace as well. `see` is shown each event as it is recorded.

    A run that does not end, or takes too much, is given up if there is a parent: it is handed what `answer` makes of
    what there is, and this process ends.

    Raises:
        ChaosError: the subjects cannot be had, or cannot do what the scenario asks.
    """
    scenario = job.cast()
    if job.network != "simulated":  # simulated sockets are no files
        raise_descriptors(scenario.client.count)
    uses = _uses(scenario)
    with process_restored(), modules_anew(uses.values()):
        gc.collect()
        # What is here before the run is not what a subject leaks. What is frozen is never collected again: all that
        # belongs to the run, from the modules of its subjects to the variables of functions, is made after this, or
        # a sweep would fill the memory.
        gc.freeze()
        return _run_scenario(job, scenario, uses, see, _Guard(job, parent, answer))


def _uses(scenario: Scenario) -> dict[Side, str]:
    return {
        "server": scenario.server.use or "reference",
        "client": scenario.client.use or "reference",
    }


def _import(scenario: Scenario, uses: Mapping[Side, str]) -> tuple[Subject, Subject]:
    """Return the server and the client. Raises SubjectNotFound."""
    base = Path(scenario.path).parent if scenario.path else None
    return import_anew(
        lambda: (
            load(uses["server"], "server", base=base),
            load(uses["client"], "client", base=base),
        )
    )


@dataclass(slots=True)
class _Guard:
    """Watches the parts of a run on behalf of its parent, and hands in what there is when one is given up."""

    job: Job
    parent: Parent | None
    answer: Answer

    @contextmanager
    def watching(
        self,
        what: str,
        real_s: float,
        conclude: Callable[[str], tuple[Verdict, Trace | None]] | None = None,
        **settings: Any,
    ) -> Iterator[None]:
        """Watch what happens inside; `conclude` gives what there is by then, given the reason."""
        if self.parent is None:
            yield
            return
        give_up = partial(self._give_up, conclude or self._without_trace)
        watched = Watched(what=what, real_s=real_s, give_up=give_up, **settings)
        with self.parent.watchdog.watching(watched):
            yield

    def leave_with(self, verdict: Verdict, trace: Trace | None) -> None:
        """Hand in a verdict and end this process."""
        if self.parent is None:
            os._exit(0)
        self.parent.answer_and_leave(self.answer(verdict, trace))

    def _without_trace(self, why: str) -> tuple[Verdict, None]:
        verdict = failed_verdict(
            self.job, Outcome.INCONCLUSIVE, "run", f"the run was given up: {why}"
        )
        if self.job.out:
            write_verdict(Path(self.job.out), verdict)
        return verdict, None

    def _give_up(self, conclude: Callable[[str], tuple[Verdict, Trace | None]], why: str) -> None:
        try:
            verdict, trace = conclude(why)
        except BaseException:
            verdict, trace = self._without_trace(why)  # a subject has broken what it stands on
        self.leave_with(verdict, trace)


def _run_scenario(
    job: Job, scenario: Scenario, uses: Mapping[Side, str], see: See | None, guard: _Guard
) -> tuple[Verdict, Trace]:
    base = Path(scenario.path).parent if scenario.path else None
    with guard.watching(IMPORTING, IMPORT_S):
        server, client = _import(scenario, uses)
    scenario, notes = fit_workload(scenario, server, client)
    world = World() if job.network == "simulated" else None
    run = Run(
        plan=make_plan(scenario, job.seed),
        server=server,
        client=client,
        make_network=make_network(job.network, job.toxiproxy, world),
        network_name=job.network,
        environment=environment(),
        tls=make_tls() if scenario.server.tls else None,
        world=world,
        notes=notes,
    )
    try:
        return _run_and_judge(job, run, base, see, guard)
    finally:
        run.dissolve()


def _run_and_judge(
    job: Job, run: Run, base: Path | None, see: See | None, guard: _Guard
) -> tuple[Verdict, Trace]:
    """Run what `run_trace` has prepared, and judge it. `base` is the scenario's folder."""
    # absolute: a subject may change the folder of its process
    folder = Path(job.out).absolute() if job.out else None

    def conclude() -> tuple[Verdict, Trace]:
        trace, scenario = run.trace, run.plan.scenario.redacted()
        verdict = judge(
            trace,
            check_loader=lambda name: load_name(name, base=base),
            scenario=scenario,
            strict=job.strict,
        )
        verdict = replace(verdict, options=job.overrides)
        if folder is not None:
            write_verdict(folder, verdict)
        return verdict, trace

    def give_up() -> None:
        # a subject that cannot be cancelled holds the event loop's end back for ever
        guard.leave_with(*conclude())

    def cut(why: str) -> tuple[Verdict, Trace]:
        run.cut(why)
        return conclude()

    random.seed(job.seed)
    watched = guard.watching(
        "it",
        real_time_s(job),
        cut,
        progress=run.progress,
        still_s=STILL_S * crowd_of(job),
        memory_bytes=memory_bound(),
    )
    with ExitStack() as stack:
        write = None
        if folder is not None:
            write = stack.enter_context(trace_file(folder, run.trace.header))
        stack.enter_context(warnings_told(run.warn))
        run.sink = _each(write, see)
        run.on_stuck = give_up
        # a system task that shields itself outlives its cancellation, and trio waits for it without end
        timer = threading.Timer(STOP_S, give_up)
        timer.daemon = True
        run.on_left = timer.start
        try:
            with watched, process_restored():
                if run.world is None:
                    trio.run(_supervise, run, guard.parent)
                else:
                    run_in_world(run.world, _supervise, run, guard.parent)
        except trio.TrioInternalError as error:
            # trio goes down with a system task that fails, and so would the subject's process
            run.warn(
                f"a system task of a subject failed: {describe_error(error.__cause__ or error)}"
            )
        finally:
            timer.cancel()
        judge_s = JUDGE_S * crowd_of(job) + run.events / EVENTS_PER_S
        with guard.watching("judging the run", judge_s):
            return conclude()


def _each(first: See | None, second: See | None) -> See | None:
    """Return what shows an event to both, as far as they are there."""
    if first is None or second is None:
        return first or second

    def see(event: Event) -> None:
        first(event)
        second(event)

    return see


async def _supervise(run: Run, parent: Parent | None) -> None:
    """Run; stop when the parent says anything or is gone, and on SIGTERM. Without a parent nothing stops a run."""
    if parent is None:
        await run.run()
        return
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_stop_with_parent, parent, nursery.cancel_scope)
        nursery.start_soon(_stop_on_sigterm, nursery.cancel_scope)
        await trio.testing.wait_all_tasks_blocked()
        await run.run()
        nursery.cancel_scope.cancel()


async def _stop_with_parent(parent: Parent, scope: trio.CancelScope) -> None:
    await trio.lowlevel.wait_readable(parent.connection.fileno())
    scope.cancel()


async def _stop_on_sigterm(scope: trio.CancelScope) -> None:
    with trio.open_signal_receiver(signal.SIGTERM) as signals:
        async for (
            _
        ) in signals:  # none of them kills the process, which is about to hand in what it has
            scope.cancel()
