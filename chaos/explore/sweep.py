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
from dataclasses import asdict, dataclass, field, replace
from itertools import zip_longest
from pathlib import Path
from typing import Any, Protocol

from chaos.checks.verdict import Outcome
from chaos.errors import UsageError
from chaos.explore.emit import to_yaml
from chaos.explore.tally import Tally
from chaos.running.environment import environment
from chaos.running.interrupt import signals_noted
from chaos.running.job import Job, Keep
from chaos.running.log import folder_name
from chaos.running.mark import mark_of
from chaos.running.pool.crew import Crew, CrewGone, run_jobs
from chaos.running.result import Row
from chaos.scenario.model import Scenario
from chaos.scenario.vary import Bounds
from chaos.subjects.sources import digest_of_sources
from chaos.trace import FORMAT_VERSION, dump_header, parse_trace

RESULTS = "results.jsonl"
FAILURES = "failures"
# the files of a run that did not pass
TRACE, SCENARIO = "trace.jsonl", "scenario.yaml"
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
        """Return what identifies the question about one scenario, whatever its seeds and text: a short hash."""
        return _short_hash((scenario.title, asdict(self.bounds), self.client, self.server))

    def made_by(self, scenario: Scenario) -> dict[str, str]:
        """Return what answers the question about one scenario now: versions, and digests of scenario and code."""
        uses = [self.client or scenario.client.use, self.server or scenario.server.use]
        uses += [row.use for row in scenario.expect]
        own = [use for use in uses if use not in (None, "reference")]
        base = Path(scenario.path).parent if scenario.path else None
        return {
            "trio-chaos": environment()["versions"].get("trio-chaos", ""),
            "trace": str(FORMAT_VERSION),
            "scenario": _short_hash({**scenario.to_json(), "path": ""}),
            "code": digest_of_sources(own, base),
        }

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


def _short_hash(data: Any) -> str:
    return hashlib.sha256(json.dumps(data, sort_keys=True).encode()).hexdigest()[:12]


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

    def rows(self) -> Iterator[Row | None]:
        """Give the rows that are there; None for a line that is damaged."""
        with self._file.open("rb") as lines:
            for line in lines:
                try:
                    yield Row.from_json(json.loads(line))
                except (ValueError, RecursionError):
                    yield None

    def add(self, row: Row) -> None:
        """Write the trace and scenario of a run that did not pass, then its row: a row has its evidence.

        Raises:
            UsageError: it cannot be written.
        """
        try:
            if row.trace is not None and row.outcome is not Outcome.PASS:
                self._keep(row, row.trace)
            else:
                self._forget(row)
            # JSON in ASCII: half a surrogate pair in a reason does no harm
            line = json.dumps(row.without_trace().to_json()) + "\n"
            with self._file.open("ab") as file:
                file.write(line.encode())
        except OSError as error:
            raise UsageError(f"cannot write {self.folder}: {error.strerror}") from error

    def run_folder(self, row: Row) -> Path:
        """Return where the trace of a run is kept if it does not pass."""
        return self.folder / FAILURES / folder_name(row.title) / str(row.seed)

    def _forget(self, row: Row) -> None:
        """Take away what an earlier run of the same seed has left, which other code may have made."""
        folder = self.run_folder(row)
        for name in (TRACE, SCENARIO) if folder.is_dir() else ():
            (folder / name).unlink(missing_ok=True)

    def _keep(self, row: Row, trace: str) -> None:
        folder = self.run_folder(row)
        folder.mkdir(parents=True, exist_ok=True)
        first, _, events = trace.partition("\n")
        header = parse_trace([first + "\n"]).header
        marked = dump_header(replace(header, mark=mark_of(header)))
        (folder / TRACE).write_text(f"{marked}\n{events}", encoding="utf-8")
        scenario = Scenario.from_json(header.scenario)
        comment = (f"{row.title}, seed {row.seed} of a sweep", f"from {row.path}")
        text = to_yaml(scenario, comment=comment)
        (folder / SCENARIO).write_text(text, encoding="utf-8")


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
    damaged: int = 0
    outdated: int = 0
    _failures: int = 0
    _made_by: dict[str, dict[str, str]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        scenarios = self.question.scenarios
        wanted = {scenario.title: self.question.of(scenario) for scenario in scenarios}
        if len(wanted) < len(scenarios):
            raise UsageError(
                "two scenarios of this sweep have the same name; expected a name of its own for each"
            )
        if self.store is None:
            return
        self._made_by = {row.title: self.question.made_by(row) for row in scenarios}
        newest: dict[tuple[str, int], Row] = {}
        for row in self.store.rows():
            if row is None:
                self.damaged += 1
            elif wanted.get(row.title, row.of) != row.of:
                raise UsageError(
                    f"{self.store} holds results of {row.title} from another sweep (other bounds, another "
                    "subject); expected another --out"
                )
            elif row.title in wanted:
                newest[row.key] = row
        for row in newest.values():
            if row.made_by == self._made_by[row.title]:
                self._count(row)
            else:
                self.outdated += 1

    def notes(self) -> list[str]:
        """Return what was not taken over from the store, and why."""
        found = []
        if self.outdated:
            found.append(
                f"{self.outdated} results are of another release, scenario or code: they are made again"
            )
        if self.damaged:
            found.append(f"{self.damaged} lines of {self.store} are damaged: left out")
        return found

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
                self.store.add(replace(row, made_by=self._made_by[row.title]))
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
