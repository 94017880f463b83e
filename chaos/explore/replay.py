"""Runs made a second time, and the first event in which the two traces differ.

`Twins` and `verify` run each job twice, under different hash seeds: a run must be a function of its seed. `replay`
runs again what a kept trace came from: the same scenario, seed and network give the same trace on virtual time.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from concurrent.futures import wait
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import zip_longest
from pathlib import Path
from typing import Any

from chaos.api import judge, run_alone, why_not
from chaos.checks.verdict import Verdict
from chaos.errors import UsageError
from chaos.explore.order import (
    CAUSES,
    HASH_SEEDS,
    Cause,
    find_cause,
    layouts_for,
    run_shuffled,
)
from chaos.running.environment import cores
from chaos.running.job import Job, make_job
from chaos.running.pool.crew import POLL_S, Workers
from chaos.running.pool.suite import Bench
from chaos.running.pool.worker import WorkerLost, launch
from chaos.running.process import run_seeds
from chaos.running.result import Row, digest_of, lost_rows
from chaos.scenario.model import Scenario
from chaos.subjects.load import code_of
from chaos.trace import Header, Trace, dump_event

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
    cause: Cause | None = None  # None if nobody has looked for it

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON data."""
        names = ("title", "seed", "number", "first", "second", "cause")
        return {name: getattr(self, name) for name in names}

    def __str__(self) -> str:
        where = "header" if self.number == 0 else f"event {self.number}"
        lines = [f"DIFFERENT  {self.title}  seed {self.seed}  from {where} on"]
        lines += [f"    {line}" for line in self.before]
        cause = [] if self.cause is None else [f"  cause: {CAUSES[self.cause]}"]
        return "\n".join([*lines, f"  - {self.first}", f"  + {self.second}", *cause])


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
    """Runs each job in two processes: of different hash seeds, and in one of them with objects elsewhere in memory.

    `differences` fills as they are found. Of each scenario the cause of the first one is looked for.
    """

    pairs: int
    differences: list[Difference] = field(default_factory=list)
    _explained: set[str] = field(default_factory=set)

    def run(self, jobs: Sequence[Job]) -> Iterator[list[Row]]:
        """Run jobs and give the rows of the first twins, in order, and an empty list now and then.

        Closing the generator ends the processes.

        Raises:
            UsageError: a subject cannot be had, or cannot do what the scenario asks.
        """
        with ExitStack() as stack:
            twins = []
            whole = [replace(job, keep="all") for job in jobs]
            for hash_seed, is_shuffled in zip(HASH_SEEDS, (False, True), strict=True):
                crew = Workers(self.pairs, partial(launch, PYTHONHASHSEED=hash_seed))
                stack.callback(crew.close)
                twins.append(deque(_Twin(job, crew, is_shuffled) for job in whole))
            for job in jobs:
                # rows are not kept once they are compared: each holds a whole trace
                one = yield from twins[0].popleft().rows()
                other = yield from twins[1].popleft().rows()
                self._compare(job, one, other)
                yield [row.without_trace() if job.keep == "none" else row for row in one]

    def _compare(self, job: Job, rows: Sequence[Row], twins: Sequence[Row]) -> None:
        """Compare each row with the one or two of its seed."""
        for row in rows:
            others = [twin for twin in twins if twin.seed == row.seed]
            other = next((twin for twin in others if twin.digest != row.digest), others[0])
            if row.digest == other.digest:
                continue  # or neither came to anything that could be compared
            found = _difference(row, other)
            if found.number and row.title not in self._explained:
                self._explained.add(row.title)
                found = replace(found, cause=find_cause(job.alone(row.seed)))
            self.differences.append(found)


class _Twin:
    """A job that is being run for the first or the second time: with memory laid out anew, or as it comes."""

    def __init__(self, job: Job, crew: Workers, is_shuffled: bool) -> None:
        layouts = partial(run_shuffled, layouts=layouts_for(job))
        self._job, self._crew = job, crew
        self._work = layouts if is_shuffled else run_seeds
        self._result = crew.submit(self._work, job)

    def rows(self) -> Generator[list[Row], None, list[Row]]:
        """Return the rows once they are there, and give an empty list now and then meanwhile.

        The seeds that were lost with their process are run again, each alone: one of them is to blame, and no other.
        """
        waiting, rows = deque([(self._job, self._result)]), list[Row]()
        while waiting:
            part, future = waiting.popleft()
            while not wait([future], POLL_S).done:
                yield []
            try:
                found = future.result()
            except WorkerLost as lost:
                found = lost_rows(part, str(lost)) if len(part.seeds) == 1 else []
            rows += found
            done = {row.seed for row in rows}
            alone = [replace(part, seeds=(seed,)) for seed in part.seeds if seed not in done]
            waiting += [(one, self._crew.submit(self._work, one)) for one in alone]
        return sorted(rows, key=lambda row: self._job.seeds.index(row.seed))


def _difference(row: Row, other: Row) -> Difference:
    one, two = ((each.trace or "").splitlines()[1:] for each in (row, other))
    return first_difference(row.title, row.seed, one, two) or Difference(
        title=row.title, seed=row.seed, number=0, first=row.reason, second=other.reason
    )


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


def code_of_trace(header: Header) -> list[str]:
    """Return which files, modules and commands a replay runs that are not shipped, each with who it is."""
    scenario = Scenario.from_json(header.scenario)
    return code_of(scenario, base=Path(scenario.path).parent if scenario.path else None)


def replay(kept: Trace, *, interrupted: Callable[[], None] = lambda: None) -> Again:
    """Run what a trace came from again, and compare. This runs the code that the trace names.

    `interrupted` is called meanwhile, and may raise to end it.

    Raises:
        UsageError: a subject cannot be had, or this scenario cannot run on this network.
        KeyboardInterrupt: it was interrupted.
    """
    # its scenario names the subjects that really ran
    scenario = Scenario.from_json(kept.header.scenario)
    reason = why_not(scenario, kept.header.network)
    if reason is not None:
        raise UsageError(f"{scenario.title} cannot run: {reason}")
    before = judge(kept, trusted=True)
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
