"""Is a run a function of its seed? Each runs twice, under different hash seeds; the traces must agree."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from itertools import zip_longest
from queue import SimpleQueue
from typing import Any

from chaos.running.pool.child import Child, ChildLost
from chaos.running.pool.executors import cores
from chaos.running.pool.result import Row, Unit
from chaos.running.pool.units import lost_row
from chaos.scenario.model import Scenario

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
    """Runs each unit in two processes of different hash seeds. `differences` fills as they are found."""

    pairs: int
    differences: list[Difference] = field(default_factory=list)

    def run(self, units: Sequence[Unit]) -> Iterator[list[Row]]:
        """Run units and give the rows of the first twin. Closing the generator ends the processes.

        Raises:
            UsageError: a subject cannot be had, or cannot do what the scenario asks.
        """
        idle: SimpleQueue[tuple[Child, Child]] = SimpleQueue()
        with ExitStack() as stack:
            pool = stack.enter_context(ThreadPoolExecutor(self.pairs))
            for _ in range(self.pairs):
                one, other = (Child(PYTHONHASHSEED=seed) for seed in HASH_SEEDS)
                # ends before the pool is joined: a thread that waits for a child is woken by its end
                stack.callback(one.close)
                stack.callback(other.close)
                idle.put((one, other))
            stack.callback(pool.shutdown, wait=False, cancel_futures=True)
            for unit, (rows, twins) in zip(
                units, pool.map(lambda unit: _both(idle, unit), units), strict=True
            ):
                self._compare(unit, rows, twins)
                yield [row.without_trace() if unit.keep == "none" else row for row in rows]

    def _compare(self, unit: Unit, rows: Sequence[Row], twins: Sequence[Row]) -> None:
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


def _both(idle: SimpleQueue[tuple[Child, Child]], unit: Unit) -> tuple[list[Row], list[Row]]:
    pair = idle.get()
    whole = replace(unit, keep="all")
    try:
        for child in pair:
            child.send(whole)
        one, other = (child.receive() for child in pair)
    except ChildLost as error:
        lost = [lost_row(unit, seed, f"its process was lost: {error}") for seed in unit.seeds]
        return lost, lost
    finally:
        idle.put(pair)
    return one, other


def verify(
    scenarios: Sequence[Scenario],
    *,
    seeds: Iterable[int],
    processes: int | None = None,
    client: str | None = None,
    server: str | None = None,
) -> Iterator[tuple[Row, Difference | None]]:
    """Run scenarios twice per seed, as they are written, and give each run with where the two differ.

    Raises:
        UsageError: a subject cannot be had, or cannot do what a scenario asks.
    """
    units = [
        Unit(scenario=row.to_json(), seeds=(seed,), client=client, server=server)
        for row in scenarios
        for seed in seeds
    ]
    twins = Twins(pairs=max(1, (processes or cores()) // 2))
    for (row,) in twins.run(units):
        found = twins.differences.pop() if twins.differences else None
        yield row, found
