"""What a sweep shows while it goes on, and what it came to, as text and as JSON."""

from __future__ import annotations

import shlex
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from rich.markup import escape

from chaos.checks.verdict import Outcome
from chaos.commands.live import DisplayOwner, Screen, open_display
from chaos.errors import bounded, one_line
from chaos.explore.sweep import Question, Store
from chaos.explore.tally import Tally, Times
from chaos.running.result import Row
from chaos.scenario.model import Scenario
from chaos.scenario.vary import Bounds
from chaos.vocabulary.sometimes import STATES

FORMAT_VERSION = 1
FAILURES_SHOWN = 20
LINE_EVERY_S = 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Reproducer:
    """Knows how a run of a sweep is made again."""

    question: Question
    store: Store | None = None

    def again(self, row: Row) -> str:
        """Return the one command that reproduces a run."""
        if self.store is not None and (self.store.run_folder(row) / "trace.jsonl").exists():
            return shlex.join(("trio-chaos", "replay", str(self.store.run_folder(row))))
        question, bounds = self.question, self.question.bounds
        words = ["trio-chaos", "sweep", row.path or row.title]
        words += ["--first-seed", str(row.seed), "--seeds", "1"]
        usual = Bounds()
        if bounds.time_jitter != usual.time_jitter:
            words += ["--time-jitter", f"{bounds.time_jitter:%}"]
        if bounds.duration_jitter != usual.duration_jitter:
            words += ["--duration-jitter", f"{bounds.duration_jitter:%}"]
        words += [] if bounds.swarm else ["--no-swarm"]
        for name, use in (("--client", question.client), ("--server", question.server)):
            words += [] if use is None else [name, use]
        return shlex.join(words)


def failure_lines(row: Row, reproducer: Reproducer) -> list[str]:
    """Return what is said about a run that did not pass, with the command that reproduces it."""
    return [
        f"{row.outcome.value}  {row.title}  seed {row.seed}  {row.reason}",
        f"      {reproducer.again(row)}",
    ]


def render_summary(tally: Tally, reproducer: Reproducer, *, left: int = 0, why: str = "") -> str:
    """Return the summary of a sweep, scenario by scenario."""
    lines: list[str] = []
    for scenario in reproducer.question.scenarios:
        part = tally.of_title(scenario.title)
        lines += ["", *_scenario_lines(scenario.title, part), *_missing_lines(scenario, part)]
    lines += ["", _total_line(tally, left, why)]
    return "\n".join(lines) + "\n"


def _scenario_lines(title: str, tally: Tally) -> list[str]:
    counts = tally.counts()
    parts = [
        f"{counts[outcome]} {word}"
        for outcome, word in (
            (Outcome.PASS, "passed"),
            (Outcome.FAIL, "failed"),
            (Outcome.INCONCLUSIVE, "inconclusive"),
        )
        if counts[outcome] or outcome is Outcome.PASS
    ]
    lines = [f"{title}: {len(tally)} seeds, {', '.join(parts)}"]
    lines += [f"  {_times_line(what, times)}" for what, times in tally.times().items()]
    states = tally.states()
    reached = [f"{word} {states[word]}" for word in STATES if states[word]]
    lines.append(f"  reached: {', '.join(reached) if reached else 'none of the states'}")
    if counts[Outcome.PASS] + counts[Outcome.FAIL]:
        lines.append(
            f"  with 95 % confidence at most {tally.failure_rate_at_most():.3%} of seeds fail"
        )
    return lines


def _times_line(what: str, times: Times) -> str:
    text = (
        f"{what}: p50 {times.p50_s:.3f} s, p95 {times.p95_s:.3f} s, p99 {times.p99_s:.3f} s, "
        f"max {times.max_s:.3f} s"
    )
    return text if times.bound_s is None else f"{text} (theoretical bound {times.bound_s:g} s)"


def missing_states(sometimes: Sequence[str], tally: Tally) -> list[str]:
    """Return the states that a scenario names under `sometimes` and that no run reached."""
    states = tally.states()
    return [word for word in sometimes if not states[word]]


def _missing_lines(scenario: Scenario, tally: Tally) -> list[str]:
    return [
        f"  never reached, though `sometimes` names it: {word} ({STATES[word].what})"
        for word in missing_states(scenario.sometimes, tally)
    ]


def _total_line(tally: Tally, left: int, why: str) -> str:
    counts = tally.counts()
    text = (
        f"{len(tally)} runs: {counts[Outcome.PASS]} passed, {counts[Outcome.FAIL]} failed, "
        f"{counts[Outcome.INCONCLUSIVE]} inconclusive"
    )
    text += f"; {why}" if why else ""
    return text + (f"; {left} not run" if left else "")


def sweep_to_json(tally: Tally, reproducer: Reproducer, *, left: int, why: str) -> dict[str, Any]:
    """Return a sweep as plain JSON data, with every row that did not pass."""
    return {
        "sweep": FORMAT_VERSION,
        "stopped": why,
        "not_run": left,
        "counts": _counts(tally),
        "scenarios": {
            scenario.title: _scenario_json(scenario, tally.of_title(scenario.title))
            for scenario in reproducer.question.scenarios
        },
        "not_passed": [
            {**row.to_json(), "again": reproducer.again(row)} for row in tally.not_passed()
        ],
        "digests": {f"{row.title} {row.seed}": row.digest for row in tally},
    }


def _scenario_json(scenario: Scenario, tally: Tally) -> Mapping[str, Any]:
    return {
        "seeds": len(tally),
        "counts": _counts(tally),
        "times": {what: asdict(times) for what, times in tally.times().items()},
        "states": dict(tally.states()),
        "never_reached": missing_states(scenario.sometimes, tally),
        "failure_rate_at_most": tally.failure_rate_at_most(),
    }


def _counts(tally: Tally) -> dict[str, int]:
    counts = tally.counts()
    judged = (Outcome.PASS, Outcome.FAIL, Outcome.INCONCLUSIVE)
    return {outcome.value: counts[outcome] for outcome in judged}


class SweepDisplay(DisplayOwner):
    """Shows how far a sweep is: what did not pass as it comes, and the rate in seeds per second."""

    def __init__(self, reproducer: Reproducer, *, silent: bool = False) -> None:
        """Show nothing yet; use it as a context manager."""
        self._reproducer = reproducer
        self._shown = 0
        self._before = self._done = self._total = self._failed = 0
        self._started_s = time.monotonic()
        # last: a terminal display asks for the screen at once
        super().__init__(open_display(self._screen, silent=silent, every_s=LINE_EVERY_S))

    def begin(self, done: int, total: int, notes: Sequence[str] = ()) -> None:
        """Say how much there is, how much of it is done already, and what was not taken over."""
        self._before, self._done, self._total = done, done, total
        count = len(self._reproducer.question.scenarios)
        self._display.say(f"sweeping {count} scenario{'s' if count > 1 else ''}: {total} runs")
        if done:
            self._display.say(f"{done} of {total} were done before")
        for note in notes:
            self._display.say(escape(note))

    def row(self, row: Row, tally: Tally) -> None:
        """Count a run; show it if it did not pass."""
        self._done = len(tally)
        self._failed += row.outcome is Outcome.FAIL
        if row.outcome is Outcome.PASS:
            return
        self._shown += 1
        if self._shown <= FAILURES_SHOWN:
            for line in failure_lines(row, self._reproducer):
                self._display.say(escape(bounded(one_line(line))))
        elif self._shown == FAILURES_SHOWN + 1:
            self._display.say("further ones are counted only; --out keeps them all")

    def tick(self) -> None:
        """Show how far it is now and then."""
        self._display.tick()

    def _screen(self) -> Screen:
        spent_s = max(1e-3, time.monotonic() - self._started_s)
        rate = (self._done - self._before) / spent_s
        return Screen(
            status=f"{self._done}/{self._total}  {rate:.1f} seeds/s, {self._failed} failed",
            done=self._done / max(1, self._total),
        )
