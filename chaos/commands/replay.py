"""A run again, from what it left behind: the same scenario, seed and network; on virtual time, the same trace."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from chaos.checks.judge import judge
from chaos.checks.verdict import Verdict
from chaos.errors import EXIT_FAILED, EXIT_PASSED, UsageError
from chaos.explore.determinism import Difference, first_difference
from chaos.reports.terminal import render_verdict
from chaos.running.environment import environment
from chaos.running.job import Job, make_job
from chaos.running.pool.suite import Suite, run_suite
from chaos.running.process import run_trace
from chaos.running.result import digest_of
from chaos.scenario.model import Scenario
from chaos.subjects.load import load_name
from chaos.trace import Trace, dump_event, parse_trace

# another release of these may do another thing with the same seed
PACKAGES = ("trio-chaos", "trio", "trio-websocket", "wsproto")


def replay_command(folder: Path, *, anyway: bool, verbose: bool) -> int:
    """Run again what a folder holds, compare, and return the exit code: 0 when it came out the same, else 1.

    Raises:
        UsageError: the folder holds no trace, or one of other versions and `anyway` is false.
    """
    kept = read_trace(folder)
    mismatches = version_mismatches(kept.header.environment, environment())
    if mismatches and not anyway:
        raise UsageError(
            f"{folder} was recorded with {'; '.join(mismatches)}: the same seed may mean another run; "
            "expected the same versions, or --anyway"
        )
    for mismatch in mismatches:
        print(f"other versions: {mismatch}", file=sys.stderr)
    again = Replay(kept).run()
    command = shlex.join(("trio-chaos", "replay", str(folder)))
    print(render_verdict(replace(again.verdict, again=command), verbose=verbose))
    for line in again.lines(verbose=verbose):
        print(line)
    return EXIT_PASSED if again.same else EXIT_FAILED


def read_trace(path: Path) -> Trace:
    """Return the trace in a run's folder, or in a file. Raises UsageError when there is none."""
    file = path / "trace.jsonl" if path.is_dir() else path
    try:
        with file.open(encoding="utf-8") as lines:
            return parse_trace(lines)
    except OSError as error:
        raise UsageError(f"cannot read {file}: {error.strerror}") from error
    except ValueError as error:
        raise UsageError(f"{file}: {error}") from error


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
class Outcome:
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


@dataclass(frozen=True, slots=True)
class Replay:
    """Runs a kept trace's scenario again."""

    kept: Trace

    def run(self) -> Outcome:
        """Run and compare. Raises UsageError when a subject cannot be had."""
        before = judge_kept(self.kept)
        job = job_of(self.kept)
        if job.network != "simulated":
            return Outcome(verdict=run_apart(job), before=before)
        verdict, trace = run_trace(job)
        old, new = ([dump_event(event) for event in each.events] for each in (self.kept, trace))
        difference = first_difference(job.title, job.seed, old, new)
        return Outcome(
            verdict=verdict,
            before=before,
            digest=digest_of(trace),
            difference=difference,
            compared=True,
        )


def judge_kept(trace: Trace) -> Verdict:
    """Return the verdict on a kept trace."""
    where = trace.header.scenario.get("path")
    base = Path(where).parent if where else None
    return judge(trace, check_loader=lambda name: load_name(name, base=base))


def job_of(trace: Trace) -> Job:
    """Return the job that a trace came from. Its scenario names the subjects that really ran."""
    scenario = Scenario.from_json(trace.header.scenario)
    return make_job(scenario, network=trace.header.network, seed=trace.header.seed)


class _Silent:
    """An account that says nothing: one run needs none."""

    def started(self, job: Job) -> None:
        """Say nothing."""

    def progress(self, job: Job, at_s: float, what: str, opens: int) -> None:
        """Say nothing."""

    def finished(self, job: Job, verdict: Verdict) -> None:
        """Say nothing."""


def run_apart(job: Job) -> Verdict:
    """Run one job in a process of its own, on any network, and return its verdict."""
    return run_suite(Suite([job], _Silent(), slots=1))[0]
