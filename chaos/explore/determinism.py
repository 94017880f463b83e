"""Is a run a function of its seed? Each runs twice, under different hash seeds; the traces must agree."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import zip_longest
from typing import Any

from chaos.running.environment import cores
from chaos.running.job import Job
from chaos.running.pool.crew import Workers
from chaos.running.pool.worker import WorkerLost, launch
from chaos.running.process import run_seeds
from chaos.running.result import Row, lost_rows

HASH_SEEDS = ("1", "4242")
CONTEXT = 3


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
        """Run jobs and give the rows of the first twins, in order. Closing the generator ends the processes.

        Raises:
            UsageError: a subject cannot be had, or cannot do what the scenario asks.
        """
        with ExitStack() as stack:
            queues = []
            for hash_seed in HASH_SEEDS:
                crew = Workers(self.pairs, partial(launch, PYTHONHASHSEED=hash_seed))
                stack.callback(crew.close)
                queues.append(
                    deque(crew.submit(run_seeds, replace(job, keep="all")) for job in jobs)
                )
            for job in jobs:
                # what has been compared is let go: each row holds a whole trace
                one, other = (_rows_of(job, queue.popleft()) for queue in queues)
                self._compare(one, other)
                yield [row.without_trace() if job.keep == "none" else row for row in one]

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


def _rows_of(job: Job, twin: Future[list[Row]]) -> list[Row]:
    try:
        return twin.result()
    except WorkerLost as lost:
        return lost_rows(job, f"its process was lost: {lost}")


def verify(
    jobs: Sequence[Job], *, processes: int | None = None
) -> Iterator[tuple[Row, Difference | None]]:
    """Run each job twice, and give each run with where the two differ.

    Raises:
        UsageError: a subject cannot be had, or cannot do what a scenario asks.
    """
    twins = Twins(pairs=max(1, (processes or cores()) // 2))
    for (row,) in twins.run(jobs):
        yield row, twins.differences.pop() if twins.differences else None
