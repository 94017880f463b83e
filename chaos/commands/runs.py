"""What `run` shows: the verdicts that are in, and on a terminal the runs under way with the windows in force."""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import dataclass

from chaos.checks.verdict import Outcome, Verdict
from chaos.commands.live import DisplayOwner, Row, Screen, open_display
from chaos.reports.terminal import markup_verdict
from chaos.running.job import Job
from chaos.scenario.model import Entry, Scenario

_WORDS = {
    Outcome.PASS: "passed",
    Outcome.FAIL: "failed",
    Outcome.INCONCLUSIVE: "inconclusive",
    Outcome.SKIPPED: "skipped",
}


class RunsDisplay(DisplayOwner):
    """Shows an account of runs to a person (`chaos.running.pool.suite.Account`). A context manager.

    Args:
        total: how many runs there are.
        silent: nothing is shown at all.
        mute: no verdicts are shown, only what is under way.
        quiet: only verdicts of what did not pass are shown.
        verbose: each verdict has every check.
    """

    def __init__(
        self,
        total: int,
        *,
        silent: bool = False,
        mute: bool = False,
        quiet: bool = False,
        verbose: bool = False,
    ) -> None:
        self._total = total
        self._mute = mute
        self._quiet = quiet
        self._verbose = verbose
        self._started_s = time.monotonic()
        self._running: dict[int, _Run] = {}
        self._outcomes: Counter[Outcome] = Counter()
        self._finished = 0
        # last: a terminal display asks for the screen at once
        super().__init__(open_display(self._screen, silent=silent))

    def started(self, job: Job) -> None:
        """Add a row."""
        self._running[id(job)] = _Run(job, time.monotonic())

    def progress(self, job: Job, at_s: float, what: str, opens: int) -> None:
        """Note what the row shows next."""
        if id(job) in self._running:
            self._running[id(job)] = _Run(job, time.monotonic(), at_s, opens)

    def finished(self, job: Job, verdict: Verdict) -> None:
        """Take the row away and show the verdict above."""
        self._running.pop(id(job), None)
        self._finished += 1
        self.show(verdict)

    def postponed(self, job: Job) -> None:
        """Take the row away; it will come again."""
        self._running.pop(id(job), None)

    def show(self, verdict: Verdict) -> None:
        """Show a verdict; when quiet, only of what did not pass."""
        self._outcomes[verdict.outcome] += 1
        passed = verdict.outcome in (Outcome.PASS, Outcome.SKIPPED)
        if not self._mute and not (self._quiet and passed):
            width = self._display.width
            self._display.say(markup_verdict(verdict, width=width, verbose=self._verbose))

    def _screen(self) -> Screen:
        now_s = time.monotonic()
        running = list(self._running.values())  # at once: runs come and go meanwhile
        running.sort(key=lambda row: row.job.title)
        counts = ", ".join(
            f"{self._outcomes[row]} {word}" for row, word in _WORDS.items() if self._outcomes[row]
        )
        status = f"{self._finished} of {self._total} runs, {now_s - self._started_s:.0f} s"
        return Screen(
            rows=[row.shown(now_s) for row in running],
            status=f"{status}; {counts}" if counts else status,
            done=self._finished / max(1, self._total),
        )


@dataclass(frozen=True, slots=True)
class _Run:
    """A run under way: when it last told of itself, and what."""

    job: Job
    told_s: float
    at_s: float = 0.0
    opens: int = 0

    def shown(self, now_s: float) -> Row:
        """Return its row; on a real clock it goes on between what it tells."""
        job = self.job
        since_s = 0.0 if job.network == "simulated" else now_s - self.told_s
        at_s = min(self.at_s + since_s, job.duration_s)
        notes = [f"{at_s:.1f} of {job.duration_s:g} s", *windows_at(job.scenario, at_s)]
        if self.opens:
            notes.append(f"{self.opens} open{'s' if self.opens > 1 else ''}")
        done, note = at_s / job.duration_s, "; ".join(notes)
        return Row(word="running", title=job.title, done=done, note=note)


def windows_at(scenario: Scenario, at_s: float) -> list[str]:
    """Return the windows that are in force at a time, each with how long it has been: `outage 3.2 of 6 s`."""
    return [text for entry in scenario.timeline if (text := _window_at(entry, scenario, at_s))]


def _window_at(entry: Entry, scenario: Scenario, at_s: float) -> str | None:
    if entry.at_s is None or not entry.has_window:
        return None
    for turn in range(entry.times):
        start_s = entry.at_s + turn * (entry.every_s or 0.0)
        length_s = entry.for_s if entry.for_s is not None else scenario.duration_s - start_s
        if start_s <= at_s < start_s + length_s:
            return f"{entry.name or entry.word} {at_s - start_s:.1f} of {length_s:g} s"
    return None
