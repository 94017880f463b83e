"""Who runs the units of a sweep: processes of this machine, or the workers of a Dask cluster.

Both are `concurrent.futures.Executor`, so one loop serves them. A unit whose worker was lost is run again; one that
loses its workers again and again is taken apart and its seeds are run alone, so that the right one is blamed.
"""

from __future__ import annotations

import importlib
import multiprocessing
import os
import signal
import threading
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import (
    FIRST_COMPLETED,
    BrokenExecutor,
    Executor,
    Future,
    ProcessPoolExecutor,
    wait,
)
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

from chaos.errors import UsageError
from chaos.running.pool.child import Child, ChildLost
from chaos.running.pool.result import Row, Unit
from chaos.running.pool.units import lost_row, run_unit

# units that wait in the executor, per worker, so that none is idle between two
AHEAD = 2
LOSSES_MAX = 2
POLL_S = 0.2


class Crew(Protocol):
    """Makes executors, again if one breaks."""

    @property
    def width(self) -> int:
        """How many units run side by side."""
        ...

    @property
    def lost(self) -> tuple[type[BaseException], ...]:
        """What a future raises whose worker was lost."""
        ...

    def make(self) -> Executor:
        """Return an executor; the caller ends it with `end`."""
        ...

    def submit(self, executor: Executor, unit: Unit) -> Future[list[Row]]:
        """Give the executor a unit."""
        ...

    def end(self, executor: Executor) -> None:
        """End an executor at once; units that are running are lost."""
        ...


def _ignore_interrupts() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to answer


@dataclass(frozen=True, slots=True, kw_only=True)
class Processes:
    """Processes on this machine, from a fork server that has everything imported."""

    width: int
    lost: tuple[type[BaseException], ...] = (BrokenExecutor,)

    def make(self) -> Executor:
        """Return a pool; its processes start as units come."""
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(["chaos.running.preload", "chaos.running.pool.units"])
        return ProcessPoolExecutor(self.width, context, initializer=_ignore_interrupts)

    def submit(self, executor: Executor, unit: Unit) -> Future[list[Row]]:
        """Give the pool a unit."""
        return executor.submit(run_unit, unit)

    def end(self, executor: Executor) -> None:
        """Kill the pool's processes."""
        # no public name before Python 3.14 (`kill_workers`)
        processes: Any = getattr(executor, "_processes", None) or {}
        for process in list(processes.values()):
            process.kill()
        executor.shutdown(wait=True, cancel_futures=True)


_children = threading.local()


def run_unit_apart(unit: Unit) -> list[Row]:
    """Run a unit in a child process of this thread's own, which is kept for the next one.

    A simulated run replaces the clocks of its whole process, and a Dask worker needs its own.
    """
    child: Child | None = getattr(_children, "child", None)
    if child is None:
        child = _children.child = Child()
    try:
        child.send(unit)
        return child.receive()
    except ChildLost as error:
        child.close()
        _children.child = None
        rows = [lost_row(unit, seed, f"its process was lost: {error}") for seed in unit.seeds]
        return rows if len(rows) == 1 else _one_by_one(unit)


def _one_by_one(unit: Unit) -> list[Row]:
    return [row for seed in unit.seeds for row in run_unit_apart(replace(unit, seeds=(seed,)))]


@dataclass(slots=True, kw_only=True)
class Dask:
    """The workers of a Dask cluster, which needs trio-chaos on each of them. Dask itself replaces lost workers.

    Close it with `close`.
    """

    address: str
    _client: Any = field(default=None, init=False)

    def connect(self) -> None:
        """Connect to the scheduler.

        Raises:
            UsageError: `distributed` is not installed, or nothing answers.
        """
        try:
            distributed = importlib.import_module("distributed")
        except ImportError as error:
            raise UsageError(
                "--dask needs the package `distributed`: expected an installation with the extra "
                "`dask`, as in `pip install trio-chaos[dask]`"
            ) from error
        try:
            self._client = distributed.Client(self.address, timeout="10s", set_as_default=False)
        except (OSError, ValueError) as error:
            raise UsageError(f"no Dask scheduler answers at {self.address}: {error}") from error

    def close(self) -> None:
        """Disconnect; the cluster goes on."""
        if self._client is not None:
            self._client.close()

    @property
    def width(self) -> int:
        """How many threads the cluster's workers have."""
        threads: dict[str, int] = self._client.nthreads()
        return max(1, sum(threads.values()))

    @property
    def lost(self) -> tuple[type[BaseException], ...]:
        """What Dask raises when a unit has cost several workers."""
        distributed = importlib.import_module("distributed")
        return (distributed.KilledWorker,)

    def make(self) -> Executor:
        """Return an executor on the cluster."""
        executor: Executor = self._client.get_executor(pure=False)
        return executor

    def submit(self, executor: Executor, unit: Unit) -> Future[list[Row]]:
        """Give the cluster a unit."""
        return executor.submit(run_unit_apart, unit)

    def end(self, executor: Executor) -> None:
        """Take back what has not been done."""
        with suppress(Exception):  # a cluster that is gone cannot take anything back
            executor.shutdown(wait=False, cancel_futures=True)


@dataclass(slots=True)
class _Loop:
    crew: Crew
    waiting: Iterator[Unit]
    again: deque[Unit] = field(default_factory=deque)
    suspects: deque[Unit] = field(default_factory=deque)
    losses: dict[tuple[Any, ...], int] = field(default_factory=dict)
    flying: dict[Future[list[Row]], Unit] = field(default_factory=dict)
    dry: bool = False

    def next(self) -> Unit | None:
        """Return the unit to start now, if any: suspects only when nothing else runs."""
        if self.again:
            return self.again.popleft()
        unit = next(self.waiting, None) if not self.dry else None
        if unit is None:
            self.dry = True
            if self.suspects and not self.flying:
                return self.suspects.popleft()
        return unit

    def lose(self, unit: Unit) -> list[Row]:
        """Note that a unit lost its worker; return rows once there is no point in another try."""
        key = (unit.of, unit.scenario["name"], unit.scenario.get("cell"), unit.seeds)
        count = self.losses[key] = self.losses.get(key, 0) + 1
        if count < LOSSES_MAX:
            self.again.append(unit)
        elif len(unit.seeds) > 1 or count == LOSSES_MAX:
            self.suspects.extend(replace(unit, seeds=(seed,)) for seed in unit.seeds)
        else:
            why = "its process ended without a result, three times"
            return [lost_row(unit, seed, why) for seed in unit.seeds]
        return []


def run_units(units: Iterable[Unit], crew: Crew) -> Iterator[list[Row]]:
    """Run units and give their rows as they come; an empty list now and then, so that the caller can act.

    Closing the generator ends everything that runs. Raises what a unit raised: UsageError, SubjectNotFound.
    """
    loop = _Loop(crew, iter(units))
    executor = crew.make()
    try:
        while True:
            while len(loop.flying) < AHEAD * crew.width and (unit := loop.next()) is not None:
                loop.flying[crew.submit(executor, unit)] = unit
            if not loop.flying:
                return
            done, _ = wait(loop.flying, timeout=POLL_S, return_when=FIRST_COMPLETED)
            broken = False
            for future in done:
                unit = loop.flying.pop(future)
                try:
                    yield future.result()
                except crew.lost:
                    broken = True
                    yield loop.lose(unit)
            if broken:
                crew.end(executor)
                yield from _salvage(loop)
                executor = crew.make()
            if not done:
                yield []
    finally:
        crew.end(executor)


def _salvage(loop: _Loop) -> Iterator[list[Row]]:
    """After a breakdown, take what was finished before it and note the rest as lost."""
    for future, unit in list(loop.flying.items()):
        del loop.flying[future]
        if future.done() and not future.cancelled() and future.exception() is None:
            yield future.result()
        else:
            yield loop.lose(unit)


def cores() -> int:
    """Return how many processors this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
