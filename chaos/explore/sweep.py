"""A sweep: many seeds of some scenarios, spread over workers, written down as they come.

A `Question` says what is run, a `Store` keeps the results, and a `Sweep` runs what the store does not have yet. The
store is a folder: `results.jsonl` has one row per run, `failures/` a folder for each run that did not pass.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import time
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, field
from itertools import zip_longest
from pathlib import Path
from typing import Protocol

from chaos.checks.verdict import Outcome
from chaos.errors import UsageError
from chaos.explore.emit import to_yaml
from chaos.explore.tally import Tally
from chaos.running.interrupt import signals_noted
from chaos.running.job import Job, Keep
from chaos.running.log import folder_name
from chaos.running.pool.crew import Crew, CrewGone, run_jobs
from chaos.running.result import Row
from chaos.scenario.model import Scenario
from chaos.scenario.vary import Bounds
from chaos.trace import parse_trace

RESULTS = "results.jsonl"
FAILURES = "failures"
# scenario time times clients that one job may take: about a second of work
JOB_CLIENT_S = 400.0
JOB_SEEDS_MAX = 25


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """What a sweep asks: which scenarios, how many seeds, and how much `vary` may change the scenario (`bounds`).

    `shard` (k, n) takes every nth seed, from the kth on, so that n machines share the work without talking.
    """

    scenarios: Sequence[Scenario]
    seeds: int
    first_seed: int = 1
    shard: tuple[int, int] = (1, 1)
    bounds: Bounds = field(default_factory=Bounds)
    client: str | None = None
    server: str | None = None

    def seeds_of_shard(self) -> list[int]:
        """Return the seeds that this shard runs of each scenario."""
        number, count = self.shard
        return list(range(self.first_seed + number - 1, self.first_seed + self.seeds, count))

    def of(self, scenario: Scenario) -> str:
        """Return what identifies the question about one scenario, whatever its seeds: a short hash."""
        data = {**scenario.to_json(), "path": ""}
        parts = (data, asdict(self.bounds), self.client, self.server)
        return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:12]

    def jobs(self, done: Collection[tuple[str, int]], keep: Keep, width: int) -> list[Job]:
        """Return the work that is left, in portions; those of different scenarios alternate."""
        columns = []
        for scenario in self.scenarios:
            seeds = [seed for seed in self.seeds_of_shard() if (scenario.title, seed) not in done]
            whole = Job(
                scenario=scenario,
                network="simulated",
                seeds=tuple(seeds),
                bounds=self.bounds,
                client=self.client,
                server=self.server,
                keep=keep,
                of=self.of(scenario),
            )
            columns.append(whole.portions(seeds_per_job(scenario, len(seeds), width)))
        rounds = zip_longest(*columns)
        return [job for some in rounds for job in some if job is not None]


def seeds_per_job(scenario: Scenario, seeds: int, width: int) -> int:
    """Return how many seeds of a scenario make a job: a second's work, and enough jobs for everybody."""
    fair = JOB_CLIENT_S / (scenario.duration_s * scenario.client.count)
    share = math.ceil(seeds / (4 * max(1, width)))
    return max(1, min(JOB_SEEDS_MAX, int(fair), share))


class Store:
    """A folder of results. Rows are appended and flushed one by one, so that a killed sweep can be resumed."""

    def __init__(self, folder: Path, *, resume: bool) -> None:
        """Open the folder, and make it if it is not there.

        Raises:
            UsageError: it cannot be written, or it holds results and `resume` is false.
        """
        self.folder = folder
        self._file = folder / RESULTS
        if self._file.exists() and self._file.stat().st_size and not resume:
            raise UsageError(
                f"{self._file} holds results already; expected --resume to go on with them, or another --out"
            )
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._cut_torn_line()
        except OSError as error:
            raise UsageError(f"cannot write {folder}: {error.strerror}") from error

    def __str__(self) -> str:
        return str(self._file)

    def _cut_torn_line(self) -> None:
        """Take off what a killed sweep left of its last line."""
        with self._file.open("a+b") as file:
            file.seek(0)
            text = file.read()
            whole = text.rfind(b"\n") + 1
            if whole < len(text):
                os.truncate(self._file, whole)

    def rows(self) -> Iterator[Row]:
        """Give the rows that are there.

        Raises:
            UsageError: a line is not a row of a sweep.
        """
        with self._file.open(encoding="utf-8") as lines:
            for number, line in enumerate(lines, start=1):
                try:
                    yield Row.from_json(json.loads(line))
                except (ValueError, KeyError, TypeError) as error:
                    raise UsageError(
                        f"{self._file}:{number} is not a result of a sweep: {error}"
                    ) from error

    def add(self, row: Row) -> None:
        """Write a row, and the trace and scenario of a run that did not pass."""
        with self._file.open("a", encoding="utf-8") as file:
            file.write(json.dumps(row.without_trace().to_json(), ensure_ascii=False) + "\n")
        if row.trace is not None and row.outcome is not Outcome.PASS:
            self._keep(row, row.trace)

    def run_folder(self, row: Row) -> Path:
        """Return where the trace of a run is kept if it does not pass."""
        return self.folder / FAILURES / folder_name(row.title) / str(row.seed)

    def _keep(self, row: Row, trace: str) -> None:
        folder = self.run_folder(row)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "trace.jsonl").write_text(trace, encoding="utf-8")
        scenario = Scenario.from_json(parse_trace(trace.splitlines(keepends=True)).header.scenario)
        comment = (f"{row.title}, seed {row.seed} of a sweep", f"from {row.path}")
        text = to_yaml(scenario, comment=comment)
        (folder / "scenario.yaml").write_text(text, encoding="utf-8")


class Watcher(Protocol):
    """A watcher is told what comes in. It must not wait."""

    def row(self, row: Row, tally: Tally) -> None:
        """A run is over."""

    def tick(self) -> None:
        """Some time has passed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Stops:
    """When a sweep ends before its last seed: after so many failures, after so many seconds of real time."""

    failures: int | None = None
    budget_s: float | None = None


@dataclass(slots=True)
class Sweep:
    """Runs a question. `rows` fills as results come; `why` says why it stopped early."""

    question: Question
    stops: Stops
    watcher: Watcher
    store: Store | None = None
    rows: dict[tuple[str, int], Row] = field(default_factory=dict)
    why: str = ""
    interrupted: bool = False
    abandoned: bool = False  # by those who were to run it
    _failures: int = 0

    def __post_init__(self) -> None:
        wanted = {
            scenario.title: self.question.of(scenario) for scenario in self.question.scenarios
        }
        if len(wanted) < len(self.question.scenarios):
            raise UsageError(
                "two scenarios of this sweep have the same name; expected a name of its own for each"
            )
        for row in self.store.rows() if self.store is not None else ():
            if wanted.get(row.title) == row.of:
                self._count(row)
            elif row.title in wanted:
                raise UsageError(
                    f"{self.store} holds results of {row.title} from another sweep (other bounds, another "
                    "scenario or subject); expected another --out"
                )

    @property
    def tally(self) -> Tally:
        """What there is so far."""
        return Tally(self.rows)

    def left(self) -> int:
        """Return how many runs of this shard have no result."""
        seeds = self.question.seeds_of_shard()
        return sum(
            (scenario.title, seed) not in self.rows
            for scenario in self.question.scenarios
            for seed in seeds
        )

    def jobs(self, width: int) -> list[Job]:
        """Return the work that is left."""
        return self.question.jobs(
            self.rows, "failures" if self.store is not None else "none", width
        )

    def run(self, crew: Crew) -> None:
        """Run what is left on these workers; see `take`. The crew is closed then."""
        self.take(run_jobs(self.jobs(crew.width), crew))

    def take(self, results: Iterator[list[Row]]) -> None:
        """Take results in until they end, it is enough or a signal comes; closes them.

        A second signal raises KeyboardInterrupt.
        """
        started_s = time.monotonic()
        with signals_noted() as interruption, closing(results):  # type: ignore[type-var]
            try:
                for rows in results:
                    self._take(rows)
                    if interruption.has_come:
                        self.interrupted, self.why = True, "interrupted"
                        return
                    if self._enough(time.monotonic() - started_s):
                        return
            except CrewGone as error:
                self.abandoned, self.why = True, str(error)

    def _take(self, rows: Iterable[Row]) -> None:
        for row in rows:
            if row.key in self.rows:
                continue
            if self.store is not None:
                self.store.add(row)
            self._count(row)
            self.watcher.row(row, Tally(self.rows))
        self.watcher.tick()

    def _count(self, row: Row) -> None:
        self.rows[row.key] = row.without_trace()
        self._failures += row.outcome is Outcome.FAIL

    def _enough(self, spent_s: float) -> bool:
        if self.stops.failures is not None and self._failures >= self.stops.failures:
            self.why = f"stopped after {self._failures} failures"
        elif self.stops.budget_s is not None and spent_s >= self.stops.budget_s and self.left():
            self.why = f"stopped after {self.stops.budget_s:g} s"
        return bool(self.why)
