"""What `trio-chaos sweep` does: options to a question, workers, a live account, a summary and an exit code."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.text import Text

from chaos.checks.verdict import Outcome
from chaos.commands.run import Options as RunOptions
from chaos.commands.run import load_all, why_not
from chaos.commands.sweep_report import (
    FAILURES_SHOWN,
    Context,
    failure_lines,
    missing_states,
    render_summary,
    sweep_to_json,
)
from chaos.errors import (
    EXIT_FAILED,
    EXIT_INCONCLUSIVE,
    EXIT_INTERRUPTED,
    EXIT_PASSED,
    InvalidScenario,
    UsageError,
)
from chaos.explore.determinism import Difference, Twins
from chaos.explore.store import Store
from chaos.explore.sweep import Question, Stops, Sweep
from chaos.explore.tally import Tally
from chaos.running.environment import cores
from chaos.running.pool.crew import Crew, Dask, Workers
from chaos.running.result import Row
from chaos.scenario.load import find_files
from chaos.scenario.model import Scenario
from chaos.scenario.vary import Bounds

LINE_EVERY_S = 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """The options of `trio-chaos sweep`, as the command line gives them."""

    paths: tuple[Path, ...]
    seeds: int = 1000
    first_seed: int = 1
    jobs: int | None = None
    shard: tuple[int, int] = (1, 1)
    out: Path | None = None
    resume: bool = False
    stop_after_failures: int | None = None
    budget_s: float | None = None
    json: bool = False
    client: str | None = None
    server: str | None = None
    swarm: bool = True
    time_jitter: float = 0.2
    duration_jitter: float = 0.2
    dask: str | None = None
    tags: tuple[str, ...] = ()
    recursive: bool = False
    verify_determinism: bool = False


def sweep_command(options: Options) -> int:
    """Sweep and return the exit code. Prints and writes what the options ask for."""
    question = _question(options)
    store = Store(options.out, resume=options.resume) if options.out is not None else None
    context = Context(question=question, store=store)
    with _account(context, options) as account:
        sweep = Sweep(
            question=question,
            stops=Stops(failures=options.stop_after_failures, budget_s=options.budget_s),
            watcher=account,
            store=store,
        )
        account.begin(len(sweep.rows), len(sweep.rows) + sweep.left())
        differences = _run(sweep, options)
    return _conclude(sweep, context, options, differences)


def _question(options: Options) -> Question:
    if options.resume and options.out is None:
        raise UsageError("--resume goes on with the results in --out; expected --out DIR")
    try:
        bounds = Bounds(
            time_jitter=options.time_jitter,
            duration_jitter=options.duration_jitter,
            swarm=options.swarm,
        )
    except ValueError as error:
        raise UsageError(str(error)) from error
    return Question(
        scenarios=load_sweepable(options),
        seeds=options.seeds,
        first_seed=options.first_seed,
        shard=options.shard,
        bounds=bounds,
        client=options.client,
        server=options.server,
    )


def load_sweepable(options: Options) -> list[Scenario]:
    """Return the scenarios that can run on the simulated network; the others are named on standard error.

    Raises:
        InvalidScenario: with the mistakes of every file.
        UsageError: nothing is left.
    """
    scenarios, mistakes = load_all(find_files(options.paths, options.recursive))
    if mistakes:
        raise InvalidScenario(tuple(mistakes))
    given = RunOptions(paths=options.paths, client=options.client, server=options.server)
    kept = []
    for scenario in scenarios:
        if options.tags and not set(options.tags) & set(scenario.tags):
            continue
        reason = why_not(scenario, "simulated", given)
        if reason is None:
            kept.append(scenario)
        else:
            print(f"SKIPPED  {scenario.title}  {reason}", file=sys.stderr)
    if not kept:
        raise UsageError("no scenario is left that can run on the simulated network")
    return kept


def _run(sweep: Sweep, options: Options) -> list[Difference]:
    jobs = options.jobs or cores()
    if options.verify_determinism:
        if options.dask is not None:
            raise UsageError(
                "--verify-determinism compares processes of this machine; expected no --dask"
            )
        twins = Twins(pairs=max(1, jobs // 2))
        sweep.take(twins.run(sweep.jobs(jobs)))
        return twins.differences
    crew: Crew = Workers(jobs) if options.dask is None else Dask(options.dask)
    sweep.run(crew)
    return []


def _conclude(
    sweep: Sweep, context: Context, options: Options, differences: Sequence[Difference]
) -> int:
    tally, left = sweep.tally, sweep.left()
    if options.json:
        data = sweep_to_json(tally, context, left=left, why=sweep.why)
        if options.verify_determinism:
            data["differences"] = [difference.to_json() for difference in differences]
        sys.stdout.write(json.dumps(data, indent=2, ensure_ascii=False) + "\n")
    else:
        sys.stdout.write(render_summary(tally, context, left=left, why=sweep.why))
        for difference in differences:
            sys.stdout.write(f"\n{difference}\n")
        if options.verify_determinism and not differences:
            sys.stdout.write(f"deterministic: {len(tally)} runs gave the same trace twice\n")
    if sweep.interrupted:
        return EXIT_INTERRUPTED
    if differences:
        return EXIT_FAILED
    return _exit_code(sweep, tally)


def _exit_code(sweep: Sweep, tally: Tally) -> int:
    counts = tally.counts()
    if counts[Outcome.FAIL]:
        return EXIT_FAILED
    whole = sweep.question.shard == (1, 1)
    missing = whole and any(
        missing_states(scenario.sometimes, tally.of_title(scenario.title))
        for scenario in sweep.question.scenarios
    )
    if counts[Outcome.INCONCLUSIVE] or missing or not len(tally):
        return EXIT_INCONCLUSIVE
    return EXIT_PASSED


class Account:
    """Shows how far a sweep is: what did not pass as it comes, and the rate in seeds per second."""

    def __init__(self, context: Context, write: Callable[[str], None]) -> None:
        """Print through `write`, line by line."""
        self._context = context
        self._write = write
        self._shown = 0
        self._before = self._done = self._total = self._failed = 0
        self._started_s = self._said_s = time.monotonic()

    def __enter__(self) -> Account:
        return self

    def __exit__(self, *exc: object) -> None:
        return

    def begin(self, done: int, total: int) -> None:
        """Say how much there is, and how much of it is done already."""
        self._before = self._done = done
        self._total = total
        if done:
            self._write(f"{done} of {total} were done before")

    def row(self, row: Row, tally: Tally) -> None:
        """Count a run; print it if it did not pass."""
        self._done = len(tally)
        self._failed += row.outcome is Outcome.FAIL
        if row.outcome is Outcome.PASS:
            return
        self._shown += 1
        if self._shown <= FAILURES_SHOWN:
            for line in failure_lines(row, self._context):
                self._write(line)
        elif self._shown == FAILURES_SHOWN + 1:
            self._write("further ones are counted only; --out keeps them all")

    def tick(self) -> None:
        """Print a line now and then."""
        now_s = time.monotonic()
        if now_s - self._said_s >= LINE_EVERY_S:
            self._said_s = now_s
            self._write(f"{self._done}/{self._total}  {self._rate()}")

    def _rate(self) -> str:
        spent_s = max(1e-3, time.monotonic() - self._started_s)
        rate = (self._done - self._before) / spent_s
        return f"{rate:.1f} seeds/s, {self._failed} failed"


class LiveAccount(Account):
    """The same with a progress bar, on a terminal."""

    def __init__(self, context: Context) -> None:
        """Show nothing yet; use it as a context manager."""
        self._console = Console(file=sys.stdout, highlight=False)
        super().__init__(context, lambda text: self._console.print(Text(text), soft_wrap=True))
        self._bar = Progress(
            TextColumn("seeds"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("{task.description}"),
            console=self._console,
            transient=True,
        )
        self._task = self._bar.add_task("")

    def __enter__(self) -> LiveAccount:
        self._bar.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._bar.stop()

    def begin(self, done: int, total: int) -> None:
        """Set the bar."""
        super().begin(done, total)
        self._bar.update(self._task, completed=done, total=total)

    def tick(self) -> None:
        """Move the bar."""
        self._bar.update(self._task, completed=self._done, description=self._rate())


def _account(context: Context, options: Options) -> Account:
    if options.json:
        return Account(context, lambda _: None)
    if sys.stdout.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb":
        return LiveAccount(context)
    return Account(context, lambda text: print(text, flush=True))
