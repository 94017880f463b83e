"""What a person sees while a suite runs: plain lines, or a live table on a terminal."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

from chaos.checks.verdict import Outcome, Verdict
from chaos.reports.terminal import markup_verdict, render_verdict
from chaos.running.job import Job

ROWS_MAX = 12
_BAR = 18


@dataclass(slots=True, kw_only=True)
class PlainAccount:
    """Prints each verdict when it comes; for pipes, CI logs and NO_COLOR."""

    quiet: bool = False
    verbose: bool = False
    write: Callable[[str], None] = field(default=print)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        return

    def started(self, job: Job) -> None:
        """Say nothing: a line per scenario is enough."""

    def progress(self, job: Job, at_s: float, what: str, opens: int) -> None:
        """Say nothing."""

    def finished(self, job: Job, verdict: Verdict) -> None:
        """Print the verdict; when quiet, only what did not pass."""
        self.skipped(verdict)

    def skipped(self, verdict: Verdict) -> None:
        """Print a verdict that needed no run."""
        if not self.quiet or verdict.outcome not in (Outcome.PASS, Outcome.SKIPPED):
            self.write(render_verdict(verdict, verbose=self.verbose))


@dataclass(slots=True)
class _Row:
    job: Job
    started: float
    at_s: float = 0.0
    what: str = "starting"
    opens: int = 0


class LiveAccount:
    """A live table of what runs, under the verdicts that are in, over a progress bar."""

    def __init__(self, total: int, *, quiet: bool = False, verbose: bool = False) -> None:
        """Show nothing yet; use it as a context manager. `total` is the number of runs."""
        self._quiet = quiet
        self._verbose = verbose
        self._rows: dict[int, _Row] = {}
        self._console = Console(file=sys.stdout, highlight=False)
        self._bar = Progress(
            TextColumn("scenarios"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            console=self._console,
        )
        self._task = self._bar.add_task("", total=total)
        self._live = Live(
            console=self._console,
            get_renderable=self._render,
            refresh_per_second=8,
            transient=True,
        )

    def __enter__(self) -> Self:
        self._live.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._live.stop()

    def started(self, job: Job) -> None:
        """Add a row."""
        self._rows[id(job)] = _Row(job, time.monotonic())

    def progress(self, job: Job, at_s: float, what: str, opens: int) -> None:
        """Note what a row shows next."""
        row = self._rows.get(id(job))
        if row is not None:
            row.at_s, row.what, row.opens = at_s, what, opens

    def finished(self, job: Job, verdict: Verdict) -> None:
        """Take the row away and print the verdict above."""
        self._rows.pop(id(job), None)
        self._bar.advance(self._task)
        self.skipped(verdict)

    def skipped(self, verdict: Verdict) -> None:
        """Print a verdict that needed no run."""
        if not self._quiet or verdict.outcome not in (Outcome.PASS, Outcome.SKIPPED):
            text = markup_verdict(verdict, width=self._console.width, verbose=self._verbose)
            self._console.print(Text.from_markup(text))

    def _render(self) -> RenderableType:
        table = Table.grid(padding=(0, 2))
        rows = sorted(self._rows.values(), key=lambda row: row.job.title)
        for row in rows[:ROWS_MAX]:
            # a row's clock goes on between its events
            at_s = min(time.monotonic() - row.started, row.job.duration_s)
            done = int(_BAR * at_s / row.job.duration_s)
            table.add_row(
                Text("  running", style="cyan"),
                Text(row.job.title, overflow="ellipsis", no_wrap=True),
                Text("━" * done + "╺" + "─" * (_BAR - done), style="cyan"),
                Text(f"{at_s:5.1f} s of {row.job.duration_s:g} s"),
                Text(f"{row.opens} open{'s' if row.opens != 1 else ''}; {row.what}", no_wrap=True),
            )
        if len(rows) > ROWS_MAX:
            table.add_row("", Text(f"and {len(rows) - ROWS_MAX} more", style="dim"))
        return Group(table, self._bar)
