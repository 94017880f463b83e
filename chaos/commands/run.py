"""What `trio-chaos run` does: files to scenarios to jobs, jobs to verdicts, verdicts to reports and an exit code."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from chaos.checks.verdict import Outcome, Verdict, skipped
from chaos.commands.live import LiveAccount, PlainAccount
from chaos.errors import (
    EXIT_FAILED,
    EXIT_INCONCLUSIVE,
    EXIT_INTERRUPTED,
    EXIT_INVALID,
    EXIT_PASSED,
    InvalidScenario,
    Mistake,
    UsageError,
)
from chaos.reports.jsonout import render_json
from chaos.reports.junit import render_junit
from chaos.reports.terminal import summary_line
from chaos.running.job import Job, make_job
from chaos.running.log import folder_name
from chaos.running.pool.suite import Suite, default_slots, run_suite
from chaos.running.result import USAGE
from chaos.scenario.load import find_files, load_scenarios
from chaos.scenario.model import Expectation, Scenario
from chaos.vocabulary.checks import CHECKS
from chaos.vocabulary.faults import PATHS_SUPPORT, SUPPORT

# What must hold of a subject that nothing happens to, whatever the scenario is about.
_BASELINE_CHECKS = ("no_false_alarm", "never_sends_before_open")


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """The options of `trio-chaos run`, as the command line gives them."""

    paths: tuple[Path, ...]
    network: str = "embedded"
    seed: int = 1
    tags: tuple[str, ...] = ()
    client: str | None = None
    server: str | None = None
    toxiproxy: str | None = None
    out: Path | None = None
    junit: Path | None = None
    json: bool = False
    recursive: bool = False
    fail_fast: bool = False
    quiet: bool = False
    verbose: bool = False
    repeat: int = 1
    baseline: bool = False
    jobs: int | None = None


@dataclass(slots=True)
class _Work:
    """What there is to run, and what will not be."""

    jobs: list[Job] = field(default_factory=list)
    skipped: list[Verdict] = field(default_factory=list)


def run_command(options: Options) -> int:
    """Run scenario files and return the exit code. Prints and writes what the options ask for."""
    files = find_files(options.paths, options.recursive)
    scenarios, mistakes = load_all(files)
    if mistakes:
        for mistake in mistakes:
            print(mistake, file=sys.stderr)
        count = len({mistake.path for mistake in mistakes})
        print(f"{count} invalid file{'s' if count > 1 else ''}; nothing was run", file=sys.stderr)
        _write_reports(options, [], mistakes)
        return EXIT_INVALID
    work = plan_work(scenarios, options)
    if not work.jobs and not work.skipped:
        raise UsageError(f"no scenario has the tag {' or '.join(options.tags)}")
    return _run_jobs(work, options)


def load_all(files: Sequence[Path]) -> tuple[list[Scenario], list[Mistake]]:
    """Load every file; mistakes of all of them are returned together."""
    scenarios: list[Scenario] = []
    mistakes: list[Mistake] = []
    for file in files:
        try:
            scenarios += load_scenarios(file)
        except InvalidScenario as error:
            mistakes += error.mistakes
    return scenarios, mistakes


def plan_work(scenarios: Sequence[Scenario], options: Options) -> _Work:
    """Return the jobs for scenarios, and verdicts for those that this network cannot run."""
    work = _Work()
    for scenario in scenarios:
        if options.tags and not set(options.tags) & set(scenario.tags):
            continue
        reason = why_not(scenario, options.network, options)
        if reason is not None:
            work.skipped.append(
                skipped(
                    scenario=scenario.title,
                    path=scenario.path,
                    network=options.network,
                    seed=options.seed,
                    reason=reason,
                )
            )
            continue
        if options.baseline:
            work.jobs.append(_job(baseline(scenario), options, 0))
        work.jobs += [_job(scenario, options, number) for number in range(options.repeat)]
    return work


def why_not(scenario: Scenario, network: str, options: Options) -> str | None:
    """Return why a scenario cannot run on a network, or None."""
    if network not in scenario.networks:
        return f"meant for {', '.join(scenario.networks)}"
    for side, subject, given in (
        ("client", scenario.client, options.client),
        ("server", scenario.server, options.server),
    ):
        if given is None and (subject.command or getattr(subject, "url", None)):
            return f"the {side} is not a callable in this process, which is all that can be run yet"
    for entry in scenario.timeline:
        support, reason = SUPPORT.get(entry.word, {}).get(network, ("exact", ""))
        if support == "unsupported":
            return f"{entry.word} on {network}: {reason}"
    support, reason = PATHS_SUPPORT[network]
    if scenario.paths is not None and support == "unsupported":
        return f"paths on {network}: {reason}"
    return None


def baseline(scenario: Scenario) -> Scenario:
    """Return a scenario without its faults: a subject that fails it is broken, not fragile."""
    kept = tuple(
        row
        for row in scenario.expect
        if row.check in ("delivers", "no_leaks", "availability", "cost")
        and "cycles" not in row.parameters
    )
    known = {row.check for row in kept}
    added = tuple(
        Expectation.model_validate({"check": name})
        for name in _BASELINE_CHECKS
        if name not in known
    )
    assert all(row.check in CHECKS for row in added)
    return scenario.model_copy(
        update={
            "name": f"{scenario.name}.baseline",
            "timeline": (),
            "expect": (*added, *kept),
            "steady_state": "default",
        }
    )


def _job(scenario: Scenario, options: Options, number: int) -> Job:
    out = None
    if options.out is not None:
        folder = options.out / folder_name(scenario.title)
        out = str(folder / f"{number + 1}" if options.repeat > 1 else folder)
    return make_job(
        scenario,
        network=options.network,
        seed=options.seed + number,
        out=out,
        client=options.client,
        server=options.server,
        toxiproxy=options.toxiproxy,
    )


def _run_jobs(work: _Work, options: Options) -> int:
    with _account(len(work.jobs), options) as account:
        for verdict in work.skipped:
            account.skipped(verdict)
        suite = Suite(
            work.jobs, account, options.jobs or default_slots(), fail_fast=options.fail_fast
        )
        done = run_suite(suite)
    verdicts = [*work.skipped, *done]
    _write_reports(options, verdicts, [])
    if not options.json:
        left = len(work.jobs) - len(done)
        print()
        print(summary_line(verdicts) + (f"; {left} not run" if left else ""))
    if suite.interrupted:
        print("interrupted; the results above are what there is", file=sys.stderr)
        return EXIT_INTERRUPTED
    return exit_code(verdicts)


def exit_code(verdicts: Sequence[Verdict]) -> int:
    """Return the exit code of a run: wrong usage, failed, inconclusive or everything skipped, passed."""
    outcomes = {verdict.outcome for verdict in verdicts}
    if any(finding.check == USAGE for verdict in verdicts for finding in verdict.findings):
        return EXIT_INVALID
    if Outcome.FAIL in outcomes:
        return EXIT_FAILED
    if Outcome.INCONCLUSIVE in outcomes or outcomes <= {Outcome.SKIPPED}:
        return EXIT_INCONCLUSIVE
    return EXIT_PASSED


def _account(total: int, options: Options) -> LiveAccount | PlainAccount:
    if options.json:
        return PlainAccount(quiet=True, write=lambda _: None)
    if sys.stdout.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb":
        return LiveAccount(total, quiet=options.quiet, verbose=options.verbose)
    return PlainAccount(
        quiet=options.quiet, verbose=options.verbose, write=lambda text: print(text, flush=True)
    )


def _write_reports(
    options: Options, verdicts: Sequence[Verdict], mistakes: Sequence[Mistake]
) -> None:
    if options.junit is not None:
        options.junit.parent.mkdir(parents=True, exist_ok=True)
        options.junit.write_text(render_junit(verdicts, mistakes), encoding="utf-8")
    if options.json:
        sys.stdout.write(render_json(verdicts, mistakes))
