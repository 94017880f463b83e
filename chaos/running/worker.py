"""One scenario in a process of its own: run it, write its trace as it grows, judge it, tell the parent.

Leak counts, crashes and library globals stay apart that way. The parent speaks over one pipe: it hears progress and
then the verdict; when it closes its end, or is gone, the run stops and what there is is written.
"""

from __future__ import annotations

import gc
import os
import platform
import random
import resource
import signal
import ssl
import sys
import warnings
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, TextIO
from urllib.parse import quote

import trio
import trio.testing
import trustme

from chaos.checks.judge import judge
from chaos.checks.verdict import Finding, Outcome, Verdict
from chaos.errors import ChaosError, SubjectNotFound, UsageError
from chaos.networks import make_network
from chaos.networks.base import Tls
from chaos.networks.simulated.clock import VirtualClock, check_scheduler, seed_scheduler
from chaos.networks.simulated.collector import collect_by_turns
from chaos.networks.simulated.hosts import LINK
from chaos.networks.simulated.world import World
from chaos.running.run import HOST, Run
from chaos.scenario.model import Scenario
from chaos.scenario.plan import make_plan
from chaos.subjects.load import load, load_name
from chaos.trace import Event, Header, Trace, dump_event, dump_header

# A client, its link and the server take four sockets per connection; reconnects overlap.
DESCRIPTORS_PER_CLIENT = 8
DESCRIPTORS_BASE = 256
PROGRESS_S = 0.1
# the guard of a run that was asked for what cannot be had: a mistake of the user's, not a result
USAGE = "usage"
_PACKAGES = ("trio-chaos", "trio", "trio-websocket", "wsproto", "toxiproxy-python")
_NEWS = frozenset({"open", "apply", "attempt", "refused", "steady", "closed"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """One run: a scenario cell, where it runs, and where its results go. Crosses process borders as it is."""

    scenario: Scenario
    network: str
    seed: int
    title: str
    clients: int
    duration_s: float
    out: str | None = None  # folder for trace.jsonl and verdict.json
    client: str | None = None  # put in place of the scenario's own
    server: str | None = None
    toxiproxy: str | None = None  # URL of a Toxiproxy that is already running


def make_job(scenario: Scenario, **rest: Any) -> Job:
    """Return the job of a scenario."""
    return Job(
        scenario=scenario,
        title=scenario.title,
        clients=scenario.client.count,
        duration_s=scenario.duration_s,
        **rest,
    )


def folder_name(title: str) -> str:
    """Return a folder name for a scenario's title: percent-encoded, so that any cell is one segment."""
    return quote(title, safe="=,-_.")


def work(job: Job, parent: Connection) -> None:
    """Run a job in this process and send the verdict; the entry point of a worker process."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent tells when to stop
    try:
        verdict = run_job(job, _Progress(parent).see, parent)
    except (SubjectNotFound, UsageError) as error:
        verdict = failed_verdict(job, Outcome.INCONCLUSIVE, USAGE, str(error))
    except ChaosError as error:
        verdict = failed_verdict(job, Outcome.INCONCLUSIVE, "run", str(error))
    _hand_in(parent, verdict)


def _hand_in(parent: Connection | None, verdict: Verdict) -> None:
    if parent is not None:
        with suppress(OSError):
            parent.send(("verdict", verdict.to_json()))


def failed_verdict(job: Job, outcome: Outcome, check: str, reason: str) -> Verdict:
    """Return the verdict on a run that has no trace to judge."""
    finding = Finding(check=check, outcome=outcome, reason=reason, guard=True)
    return Verdict(
        scenario=job.title,
        path=job.scenario.path,
        network=job.network,
        seed=job.seed,
        outcome=outcome,
        findings=(finding,),
        options=_overrides(job),
    )


def run_job(job: Job, see: Callable[[Event], None], parent: Connection | None = None) -> Verdict:
    """Run a job and judge it; see `run_trace`."""
    return run_trace(job, see, parent)[0]


def run_trace(
    job: Job, see: Callable[[Event], None], parent: Connection | None = None
) -> tuple[Verdict, Trace]:
    """Run a job and judge it; return its trace as well.

    Raises:
        ChaosError: the subjects cannot be had, or cannot do what the scenario asks.
    """
    scenario = job.scenario
    raise_descriptors(scenario.client.count)
    base = Path(scenario.path).parent if scenario.path else None
    server = load(job.server or scenario.server.use or "reference", "server", base=base)
    client = load(job.client or scenario.client.use or "reference", "client", base=base)
    gc.collect()
    # What is here before the run is not what a subject leaks. What is frozen is never collected again: all that
    # belongs to the run, down to the variables of functions, is made after this, or a sweep would fill the memory.
    gc.freeze()
    world = World() if job.network == "simulated" else None
    run = _make_run(job, (server, client), world)
    try:
        return _run_and_judge(job, run, base, see, parent)
    finally:
        run.dissolve()


def _make_run(
    job: Job, subjects: tuple[Callable[..., Any], Callable[..., Any]], world: World | None
) -> Run:
    """Return the run of a job with these subjects, server and client."""
    return Run(
        plan=make_plan(job.scenario, job.seed),
        server=subjects[0],
        client=subjects[1],
        make_network=make_network(job.network, job.toxiproxy, world),
        network_name=job.network,
        environment=environment(),
        tls=make_tls() if job.scenario.server.tls else None,
        world=world,
    )


def _run_and_judge(
    job: Job,
    run: Run,
    base: Path | None,
    see: Callable[[Event], None],
    parent: Connection | None,
) -> tuple[Verdict, Trace]:
    """Run a job and judge it; `run_trace` has prepared the process. `base` is the scenario's folder."""
    world = run.world
    overrides = _overrides(job)
    random.seed(job.seed)
    with _Log(job, run) as log, _recorded_warnings(run):

        def conclude() -> tuple[Verdict, Trace]:
            trace = with_overrides(run.trace, job)
            verdict = judge(
                trace,
                check_loader=lambda name: load_name(name, base=base),
                scenario=None if overrides else job.scenario.redacted(),
            )
            if overrides:
                verdict = replace(verdict, options=overrides)
            log.conclude(verdict)
            return verdict, trace

        def give_up() -> None:
            # a subject that cannot be cancelled holds the event loop's end back for ever
            _hand_in(parent, conclude()[0])
            os._exit(0)

        run.sink = see if job.out is None else _both(log.write, see)
        run.on_stuck = give_up
        if world is None:
            trio.run(_supervise, run, parent)
        else:
            check_scheduler()  # here, before trio makes a group of what is raised
            clock = VirtualClock(world.fabric)
            with collect_by_turns(clock, world.sockets.__len__):
                trio.run(_supervise, run, parent, clock=clock)
        return conclude()


def _overrides(job: Job) -> tuple[str, ...]:
    """Return the options by which this run differs from its scenario file, as the command line writes them."""
    given = (("--client", job.client), ("--server", job.server), ("--toxiproxy", job.toxiproxy))
    return tuple(word for name, value in given if value is not None for word in (name, value))


def with_overrides(trace: Trace, job: Job) -> Trace:
    """Return the trace with `--client` and `--server` noted in its scenario, as the checks must know them."""
    if job.client is None and job.server is None:
        return trace
    scenario = dict(trace.header.scenario)
    for side, use in (("client", job.client), ("server", job.server)):
        if use is not None:
            scenario[side] = {**scenario[side], "use": use}
    return Trace(replace(trace.header, scenario=scenario), trace.events)


def _both(
    first: Callable[[Event], None], second: Callable[[Event], None]
) -> Callable[[Event], None]:
    def see(event: Event) -> None:
        first(event)
        second(event)

    return see


async def _supervise(run: Run, parent: Connection | None) -> None:
    if parent is None:  # whoever called sees to signals
        await _start(run)
        return
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_stop_with_parent, parent, nursery.cancel_scope)
        nursery.start_soon(_stop_on_signal, nursery.cancel_scope)
        await trio.testing.wait_all_tasks_blocked()
        await _start(run)
        nursery.cancel_scope.cancel()


async def _start(run: Run) -> None:
    if run.world is not None:
        # not before: who supervises must not make a difference to what the seed draws
        seed_scheduler(run.plan.seed)
    await run.run()


async def _stop_with_parent(parent: Connection, scope: trio.CancelScope) -> None:
    """Stop the run when the parent says anything or is gone: there is nothing else that it could say."""
    await trio.lowlevel.wait_readable(parent.fileno())
    scope.cancel()


async def _stop_on_signal(scope: trio.CancelScope) -> None:
    with trio.open_signal_receiver(signal.SIGTERM) as signals:
        async for _ in signals:
            scope.cancel()


@dataclass(slots=True)
class _Progress:
    """Sends the parent what a person may want to see, not more often than it can be read."""

    parent: Connection
    opens: int = 0
    last_s: float = -1.0

    def see(self, event: Event) -> None:
        self.opens += event.kind == "open"
        if event.kind in _NEWS and event.at_s >= self.last_s + PROGRESS_S:
            self.last_s = event.at_s
            what = f"{event['what']} {event['change']}" if event.kind == "apply" else event.kind
            with suppress(OSError):
                self.parent.send(("progress", (event.at_s, what, self.opens)))


class _Log:
    """Writes `trace.jsonl` line by line, so that a killed run leaves what it has, and `verdict.json` at the end."""

    def __init__(self, job: Job, run: Run) -> None:
        self._folder = Path(job.out) if job.out else None
        self._job = job
        self._run = run
        self._file: TextIO | None = None

    def __enter__(self) -> _Log:
        if self._folder is not None:
            self._folder.mkdir(parents=True, exist_ok=True)
            self._file = (self._folder / "trace.jsonl").open("w", encoding="utf-8", buffering=1)
            header: Header = with_overrides(self._run.trace, self._job).header
            self._file.write(dump_header(header) + "\n")
        return self

    def __exit__(self, *exc: object) -> None:
        if self._file is not None:
            self._file.close()

    def write(self, event: Event) -> None:
        if self._file is not None:
            self._file.write(dump_event(event) + "\n")

    def conclude(self, verdict: Verdict) -> None:
        if self._folder is not None:
            write_verdict(self._folder, verdict)


def write_verdict(folder: Path, verdict: Verdict) -> None:
    """Write `verdict.json` into a run's folder."""
    import json  # noqa: PLC0415 - only runs that keep results need it

    folder.mkdir(parents=True, exist_ok=True)
    text = json.dumps(verdict.to_json(), indent=2, ensure_ascii=False)
    (folder / "verdict.json").write_text(text + "\n", encoding="utf-8")


@dataclass(slots=True)
class _recorded_warnings:  # noqa: N801 - used as a context manager, like warnings.catch_warnings
    """Turns Python's warnings, also those of destructors, into events of the trace."""

    run: Run
    _previous: Any = field(default=None, init=False)
    _hook: Any = field(default=None, init=False)

    def __enter__(self) -> None:
        self._previous, self._hook = warnings.showwarning, sys.unraisablehook
        warnings.simplefilter("always", ResourceWarning)
        warnings.showwarning = self._show
        sys.unraisablehook = lambda args: self.run.warn(
            f"{args.err_msg or ''} {args.exc_value!r}".strip()
        )

    def __exit__(self, *exc: object) -> None:
        warnings.showwarning, sys.unraisablehook = self._previous, self._hook

    def _show(self, message: Warning | str, category: type[Warning], *_: Any, **__: Any) -> None:
        self.run.warn(f"{category.__name__}: {message}")


def make_tls() -> Tls:
    """Return contexts for wss on loopback, with a certificate authority made for this run only."""
    authority = trustme.CA(key_type=trustme.KeyType.RSA)
    server = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert(HOST, "localhost", LINK, key_type=trustme.KeyType.RSA).configure_cert(
        server
    )
    client = ssl.create_default_context()
    authority.configure_trust(client)
    return Tls(server=server, client=client, name=HOST)


def raise_descriptors(clients: int) -> None:
    """Raise the soft limit of open files as far as this many clients need it.

    Raises:
        ChaosError: the hard limit is below that; the message says what to do.
    """
    needed = DESCRIPTORS_BASE + clients * DESCRIPTORS_PER_CLIENT
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < needed:
        raise ChaosError(
            f"{clients} clients need {needed} open files and the hard limit is {hard}; "
            "expected a higher one: see `ulimit -Hn` and limits.conf, or use fewer clients"
        )
    if soft != resource.RLIM_INFINITY and soft < needed:
        resource.setrlimit(resource.RLIMIT_NOFILE, (needed, hard))


def environment() -> dict[str, Any]:
    """Return versions and the machine: what a reader needs who gets other results."""
    return {
        "pid": os.getpid(),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "versions": dict(_versions()),
    }


@cache
def _versions() -> tuple[tuple[str, str], ...]:
    """Return the versions of what takes part; looked up once, since each lookup parses a package's metadata."""
    found = []
    for package in _PACKAGES:
        with suppress(PackageNotFoundError):
            found.append((package, version(package)))
    return tuple(found)
