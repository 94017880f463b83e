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
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from types import FrameType
from typing import TypeVar

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
from chaos.running.result import Row, digest_of, failed_verdict, lost_rows, reason_of, times_of
from chaos.running.run import STOP_S, Run
from chaos.running.simulate import run_in_world
from chaos.running.tls import make_tls
from chaos.scenario.model import Scenario
from chaos.scenario.plan import make_plan
from chaos.subjects.host import describe_error
from chaos.subjects.load import fit_workload, load, load_name
from chaos.subjects.modules import import_anew, modules_anew
from chaos.trace import Event, Side, Trace, dump_trace
from chaos.vocabulary.sometimes import states_reached

See = Callable[[Event], None]
T = TypeVar("T")
# a simulated run replaces clocks and sockets of the whole process: one at a time
_ALONE = threading.Lock()
# Virtual time stands still while a subject computes for ever, so that the real time of a simulated run has a limit. A
# day of a scenario takes some ten seconds; hundreds of clients take some seconds.
REAL_TIME_S = 120.0
CLIENTS_IN_THAT = 50


class TookTooLong(ChaosError):
    """A run had not ended when its real time was over."""


class _TimeIsOver(BaseException):
    """Interrupts whatever runs. No `Exception`, so that subjects rarely catch it."""


def run_job(job: Job, parent: Parent | None = None) -> Verdict:
    """Run a job of one run and judge it; tell the parent of its progress.

    Raises:
        SubjectNotFound: a subject's name cannot be imported.
        UsageError: a subject cannot do what the scenario asks.
    """
    try:
        return run_trace(job, parent.see if parent is not None else None, parent)[0]
    except NotApplicable as error:
        outcome = Outcome.INCONCLUSIVE if job.strict else Outcome.SKIPPED
        return failed_verdict(job, outcome, "applicable", str(error))
    except (SubjectNotFound, UsageError):
        raise
    except ChaosError as error:
        return failed_verdict(job, Outcome.INCONCLUSIVE, "run", str(error))


def run_seeds(job: Job, parent: Parent | None = None) -> list[Row]:
    """Run each seed of a job, one after the other, and return a row for each. It ends early if the parent wants it.

    Raises:
        SubjectNotFound: a subject's name cannot be imported; so it is for every seed.
        UsageError: a subject cannot do what the scenario asks.
    """
    rows: list[Row] = []
    with _ALONE:
        for seed in job.seeds:
            if parent is not None and parent.wants_end():
                break
            rows += _run_seed(job.alone(seed))
    return rows


def _run_seed(job: Job) -> list[Row]:
    limit_s = REAL_TIME_S * max(1.0, job.clients / CLIENTS_IN_THAT)
    try:
        verdict, trace = call_within(limit_s, lambda: run_trace(job))
    except (SubjectNotFound, UsageError):
        raise
    except ChaosError as error:
        return lost_rows(job, str(error))
    kept = job.keep == "all" or (job.keep == "failures" and verdict.outcome is not Outcome.PASS)
    row = Row(
        title=job.title,
        seed=job.seed,
        path=job.scenario.path,
        outcome=verdict.outcome,
        reason=reason_of(verdict),
        times=times_of(verdict, job.scenario),
        states=states_reached(trace),
        digest=digest_of(trace),
        of=job.of,
        trace=dump_trace(trace) if kept else None,
    )
    return [row]


def call_within(limit_s: float, function: Callable[[], T]) -> T:
    """Call a function and return what it returns; interrupt it once this much real time has passed.

    Only the main thread can be interrupted; in any other the function is just called.

    Raises:
        TookTooLong: the time was over. Whatever the function raised or returned after that is not its own.
    """
    if threading.current_thread() is not threading.main_thread():
        return function()
    is_over = False

    def interrupt(_number: int, _frame: FrameType | None) -> None:
        nonlocal is_over
        is_over = True
        raise _TimeIsOver

    late = TookTooLong(f"took longer than {limit_s:g} s of real time")
    previous = signal.signal(signal.SIGALRM, interrupt)
    signal.setitimer(signal.ITIMER_REAL, limit_s)
    try:
        returned = function()
    except BaseException:
        if is_over:
            raise late from None
        raise
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, previous)
    if is_over:  # a subject has caught the interruption
        raise late
    return returned


def run_trace(
    job: Job, see: See | None = None, parent: Parent | None = None
) -> tuple[Verdict, Trace]:
    """Run a job of one run and judge it; return its trace as well. `see` is shown each event as it is recorded.

    Raises:
        ChaosError: the subjects cannot be had, or cannot do what the scenario asks.
    """
    scenario = job.cast()
    if job.network != "simulated":  # simulated sockets are no files
        raise_descriptors(scenario.client.count)
    uses: dict[Side, str] = {
        "server": scenario.server.use or "reference",
        "client": scenario.client.use or "reference",
    }
    with modules_anew(uses.values()):
        gc.collect()
        # What is here before the run is not what a subject leaks. What is frozen is never collected again: all that
        # belongs to the run, from the modules of its subjects to the variables of functions, is made after this, or
        # a sweep would fill the memory.
        gc.freeze()
        return _run_scenario(job, scenario, uses, see, parent)


def _run_scenario(
    job: Job, scenario: Scenario, uses: Mapping[Side, str], see: See | None, parent: Parent | None
) -> tuple[Verdict, Trace]:
    base = Path(scenario.path).parent if scenario.path else None
    server, client = import_anew(
        lambda: (
            load(uses["server"], "server", base=base),
            load(uses["client"], "client", base=base),
        )
    )
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
        return _run_and_judge(job, run, base, see, parent)
    finally:
        run.dissolve()


def _run_and_judge(
    job: Job, run: Run, base: Path | None, see: See | None, parent: Parent | None
) -> tuple[Verdict, Trace]:
    """Run what `run_trace` has prepared, and judge it. `base` is the scenario's folder."""
    folder = Path(job.out) if job.out else None

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
        verdict, _ = conclude()
        if parent is not None:
            parent.send("answer", verdict)
        os._exit(0)

    random.seed(job.seed)
    with ExitStack() as stack:
        write = None
        if folder is not None:
            write = stack.enter_context(trace_file(folder, run.trace.header))
        stack.enter_context(warnings_told(run.warn))
        run.sink = _each(write, see)
        run.on_stuck = give_up
        # a system task that shields itself outlives its cancellation, and trio waits for it without end
        watchdog = threading.Timer(STOP_S, give_up)
        watchdog.daemon = True
        run.on_left = watchdog.start
        try:
            if run.world is None:
                trio.run(_supervise, run, parent)
            else:
                run_in_world(run.world, _supervise, run, parent)
        except trio.TrioInternalError as error:
            # trio goes down with a system task that fails, and so would the subject's process
            run.warn(
                f"a system task of a subject failed: {describe_error(error.__cause__ or error)}"
            )
        finally:
            watchdog.cancel()
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
