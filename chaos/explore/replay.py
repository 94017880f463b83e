"""Runs made a second time, and the first event in which the two traces differ.

`Twins` and `verify` run each job twice, under different hash seeds: a run must be a function of its seed. `replay`
runs again what a kept trace came from: the same scenario, seed and network give the same trace on virtual time.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from concurrent.futures import Future, wait
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import zip_longest
from typing import Any

from chaos.api import judge, run_alone
from chaos.checks.verdict import Verdict
from chaos.running.environment import cores
from chaos.running.job import Job, make_job
from chaos.running.pool.crew import POLL_S, Workers
from chaos.running.pool.suite import Bench
from chaos.running.pool.worker import WorkerLost, launch
from chaos.running.process import run_seeds
from chaos.running.result import Row, digest_of, lost_rows
from chaos.scenario.model import Scenario
from chaos.trace import Trace, dump_event

HASH_SEEDS = ("1", "4242")
CONTEXT = 3
# another release of these may do another thing with the same seed
PACKAGES = ("trio-chaos", "trio", "trio-websocket", "wsproto")


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """The first event in which two traces of one run differ. `number` counts events from 1; 0 is the header."""

    title: str
    seed: int
    number: int
    first: str
    second: str
    before: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON data."""
        return {
            name: getattr(self, name) for name in ("title", "seed", "number", "first", "second")
        }

    def __str__(self) -> str:
        where = "header" if self.number == 0 else f"event {self.number}"
        lines = [f"DIFFERENT  {self.title}  seed {self.seed}  from {where} on"]
        lines += [f"    {line}" for line in self.before]
        return "\n".join([*lines, f"  - {self.first}", f"  + {self.second}"])


def first_difference(
    title: str, seed: int, one: Sequence[str], other: Sequence[str]
) -> Difference | None:
    """Return where two traces part; both are the lines of events, without their headers."""
    for number, (first, second) in enumerate(
        zip_longest(one, other, fillvalue="(nothing more)"), 1
    ):
        if first != second:
            before = tuple(one[max(0, number - 1 - CONTEXT) : number - 1])
            return Difference(
                title=title, seed=seed, number=number, first=first, second=second, before=before
            )
    return None


@dataclass(slots=True, kw_only=True)
class Twins:
    """Runs each job in two processes of different hash seeds. `differences` fills as they are found."""

    pairs: int
    differences: list[Difference] = field(default_factory=list)

    def run(self, jobs: Sequence[Job]) -> Iterator[list[Row]]:
        """Run jobs and give the rows of the first twins, in order, and an empty list now and then.

        Closing the generator ends the processes.

        Raises:
            UsageError: a subject cannot be had, or cannot do what the scenario asks.
        """
        with ExitStack() as stack:
            twins = []
            for hash_seed in HASH_SEEDS:
                crew = Workers(self.pairs, partial(launch, PYTHONHASHSEED=hash_seed))
                stack.callback(crew.close)
                whole = [replace(job, keep="all") for job in jobs]
                twins.append((crew, deque((job, crew.submit(run_seeds, job)) for job in whole)))
            for job in jobs:
                # rows are not kept once they are compared: each holds a whole trace
                pair = []
                for crew, given in twins:
                    whole_job, result = given.popleft()
                    pair.append((yield from _rows_of(whole_job, result, crew)))
                self._compare(*pair)
                yield [row.without_trace() if job.keep == "none" else row for row in pair[0]]

    def _compare(self, rows: Sequence[Row], twins: Sequence[Row]) -> None:
        for row, twin in zip(rows, twins, strict=True):
            if row.digest == twin.digest and row.digest:
                continue
            one, other = ((each.trace or "").splitlines()[1:] for each in (row, twin))
            found = first_difference(row.title, row.seed, one, other)
            if found is None:
                found = Difference(
                    title=row.title, seed=row.seed, number=0, first=row.reason, second=twin.reason
                )
            self.differences.append(found)


def _rows_of(
    job: Job, result: Future[list[Row]], crew: Workers
) -> Generator[list[Row], None, list[Row]]:
    """Return the rows of a job once they are there, and give an empty list now and then meanwhile.

    The seeds that were lost with their process are run again, each alone: one of them is to blame, and no other.
    """
    waiting, rows = deque([(job, result)]), dict[int, Row]()
    while waiting:
        part, future = waiting.popleft()
        while not wait([future], POLL_S).done:
            yield []
        try:
            found = future.result()
        except WorkerLost as lost:
            found = lost_rows(part, str(lost)) if len(part.seeds) == 1 else []
        rows |= {row.seed: row for row in found}
        alone = [replace(part, seeds=(seed,)) for seed in part.seeds if seed not in rows]
        waiting += [(one, crew.submit(run_seeds, one)) for one in alone]
    return [rows[seed] for seed in job.seeds]


def verify(
    jobs: Sequence[Job], *, processes: int | None = None
) -> Iterator[tuple[Row, Difference | None]]:
    """Run each job twice, and give each run with where the two differ.

    Raises:
        UsageError: a subject cannot be had, or cannot do what a scenario asks.
    """
    twins = Twins(pairs=max(1, (processes or cores()) // 2))
    for row in (row for rows in twins.run(jobs) for row in rows):
        yield row, twins.differences.pop() if twins.differences else None


def version_mismatches(then: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """Return the differences between two environments that may change what a seed means."""
    found = []
    minor_then, minor_now = (_minor(str(row.get("python", ""))) for row in (then, now))
    if minor_then != minor_now:
        found.append(f"Python {minor_then or 'unknown'}, here is {minor_now}")
    old, new = then.get("versions", {}), now.get("versions", {})
    found += [
        f"{package} {old.get(package, 'unknown')}, here is {new.get(package)}"
        for package in PACKAGES
        if old.get(package) != new.get(package)
    ]
    return found


def _minor(python: str) -> str:
    return ".".join(python.split(".")[:2])


@dataclass(frozen=True, slots=True, kw_only=True)
class Again:
    """What came out: the new verdict, the old one's outcome, and on virtual time where the traces part."""

    verdict: Verdict
    before: Verdict
    digest: str = ""
    difference: Difference | None = None
    compared: bool = False

    @property
    def same(self) -> bool:
        """Whether the run came out as before."""
        return self.difference is None and self.verdict.outcome is self.before.outcome

    def lines(self, *, verbose: bool = False) -> list[str]:
        """Return what is said about the comparison."""
        if self.difference is not None:
            return [
                str(self.difference),
                "the same seed gave another run: something in it is not deterministic",
            ]
        if self.verdict.outcome is not self.before.outcome:
            return [
                f"came out as {self.verdict.outcome.value}; before it was {self.before.outcome.value}"
            ]
        if not self.compared:
            return [f"{self.verdict.outcome.value} again; traces of real networks are not compared"]
        return ["identical, event by event", *([f"digest {self.digest}"] if verbose else [])]


def replay(kept: Trace, *, interrupted: Callable[[], None] = lambda: None) -> Again:
    """Run what a trace came from again, and compare; `interrupted` is called meanwhile, and may raise to end it.

    Raises:
        UsageError: a subject cannot be had.
        KeyboardInterrupt: it was interrupted.
    """
    before = judge(kept)
    # its scenario names the subjects that really ran
    scenario = Scenario.from_json(kept.header.scenario)
    job = make_job(scenario, network=kept.header.network, seed=kept.header.seed)
    if job.network != "simulated":
        return Again(verdict=run_alone(job), before=before)
    with Bench(interrupted=interrupted) as bench:
        verdict, trace = bench.run_traced(job)
    if trace is None:
        return Again(verdict=verdict, before=before)
    old, new = ([dump_event(event) for event in each.events] for each in (kept, trace))
    return Again(
        verdict=verdict,
        before=before,
        digest=digest_of(trace),
        difference=first_difference(job.title, job.seed, old, new),
        compared=True,
    )
