"""The command `run`: scenario files to verdicts, reports and an exit code."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

import click

from chaos.commands import values
from chaos.commands.values import say
from chaos.errors import (
    EXIT_FAILED,
    EXIT_INCONCLUSIVE,
    EXIT_INVALID,
    EXIT_PASSED,
    InvalidScenario,
    Mistake,
    UsageError,
    listed,
)

if TYPE_CHECKING:
    from chaos.api import Selection
    from chaos.checks.verdict import Verdict

_NAMES = ": my.module:{0} or file.py:{0}"


@click.command()
@values.paths
@click.option(
    "--network",
    type=click.Choice(["embedded", "toxiproxy", "simulated"]),
    default="embedded",
    show_default=True,
    help="What stands between the subjects and applies the toxics.",
)
@values.subject("client", names=_NAMES.format("client"))
@values.subject("server", names=_NAMES.format("serve"))
@click.option(
    "--seed", type=int, default=1, show_default=True, help="Every random choice derives from it."
)
@values.tag
@values.recursive
@click.option(
    "--out",
    type=values.PATH,
    metavar="DIR",
    help="Keep trace.jsonl and verdict.json of each scenario here.",
)
@click.option("--junit", type=values.PATH, metavar="FILE", help="Write JUnit XML.")
@values.as_json("verdicts")
@click.option(
    "--repeat",
    type=click.IntRange(1, 10_000),
    default=1,
    metavar="N",
    help="Run each scenario N times, each with the next seed.",
)
@click.option("--baseline", is_flag=True, help="First run each scenario without its faults.")
@click.option(
    "--strict",
    is_flag=True,
    help="A check that does not apply to these subjects is INCONCLUSIVE; else it is left out.",
)
@click.option("--fail-fast", is_flag=True, help="Stop at the first failure.")
@click.option("--quiet", "-q", is_flag=True, help="Show only what did not pass.")
@click.option(
    "--verbose", "-v", is_flag=True, help="Show every check with its figures, and warnings."
)
@click.option(
    "--jobs", type=click.IntRange(1, 10_000), metavar="N", help="At most N scenarios side by side."
)
@click.option(
    "--toxiproxy",
    metavar="URL",
    help="A Toxiproxy that is already running, such as http://127.0.0.1:8474.",
)
@click.option(
    "--compare",
    metavar="NETWORKS",
    help="Run on each of these, such as embedded,simulated, and show where they differ.",
)
@click.option(
    "--verify-determinism",
    is_flag=True,
    help="Run twice, in two processes, and compare the traces; needs --network simulated.",
)
def run(compare: str | None, verify_determinism: bool, **options: Any) -> int:
    """Run scenario files; a folder stands for the scenario files directly in it."""
    from chaos.api import Selection
    from chaos.running.folder import taken

    selection = Selection.taken_from(options)
    values.require_output(options["junit"], options["as_json"])
    if verify_determinism:
        return _verify(selection, **options)
    with taken(options["out"]):
        if compare is not None:
            return _compare(selection, compare.split(","), **options)
        return _run(selection, **options)


def _run(
    selection: Selection,
    *,
    seed: int,
    out: Path | None,
    junit: Path | None,
    as_json: bool,
    repeat: int,
    baseline: bool,
    fail_fast: bool,
    quiet: bool,
    verbose: bool,
    jobs: int | None,
) -> int:
    from chaos.api import exit_code, run_jobs, select
    from chaos.commands.runs import RunsDisplay
    from chaos.reports.terminal import WIDTH, not_applicable_lines, skipped_lines, summary_line

    try:
        selected = select(selection)
    except InvalidScenario as error:
        say(str(error), err=True)
        count = len({mistake.path for mistake in error.mistakes})
        say(f"{count} invalid file{'s' if count > 1 else ''}; nothing was run", err=True)
        _write_reports(junit, as_json, [], error.mistakes)
        return EXIT_INVALID
    work = selected.jobs(seed, repeat=repeat, baseline=baseline, out=out)
    skipped = selected.skipped_verdicts(seed)
    with RunsDisplay(len(work), silent=as_json, quiet=quiet, verbose=verbose) as display:
        for verdict in skipped if verbose else ():
            display.show(verdict)
        done = run_jobs(work, display, at_most=jobs, fail_fast=fail_fast)
    verdicts = [*skipped, *done.verdicts]
    _write_reports(junit, as_json, verdicts, ())
    if not as_json:
        left = len(work) - len(done.verdicts)
        width = min(WIDTH, shutil.get_terminal_size((WIDTH, 24)).columns)
        if not verbose and not quiet:
            for line in skipped_lines(skipped, width=width):
                say(line)
        for line in not_applicable_lines(verdicts, width=width):
            say(line)
        say(f"\n{summary_line(verdicts)}" + (f"; {left} not run" if left else ""))
        if done.again:
            say(
                f"the machine was busy: {done.again} of them {'was' if done.again == 1 else 'were'} run again, alone"
            )
        _tell_warnings(verdicts)
    if done.interrupted:
        return values.interrupted()
    return exit_code(verdicts)


def _tell_warnings(verdicts: Sequence[Verdict]) -> None:
    """Say what cannot work in the files of scenarios that could not be judged: it may be why."""
    from chaos.api import warnings_of
    from chaos.checks.verdict import Outcome

    unsure = [row for row in verdicts if row.outcome is Outcome.INCONCLUSIVE and row.path]
    for path in dict.fromkeys(row.path for row in unsure):
        for warning in warnings_of(Path(path)):
            say(values.warning_line(warning))


def _write_reports(
    junit: Path | None, as_json: bool, verdicts: Sequence[Verdict], mistakes: Sequence[Mistake]
) -> None:
    from chaos.reports.jsonout import render_json
    from chaos.reports.junit import render_junit

    if junit is not None:
        junit.parent.mkdir(parents=True, exist_ok=True)
        junit.write_text(render_junit(verdicts, mistakes), encoding="utf-8")
    if as_json:
        say(render_json(verdicts, mistakes), nl=False)


def _compare(
    selection: Selection,
    networks: Sequence[str],
    *,
    seed: int,
    out: Path | None,
    as_json: bool,
    repeat: int,
    baseline: bool,
    jobs: int | None,
    **_: object,
) -> int:
    """Run each scenario on these networks, print where they differ, and return the exit code: 1 when verdicts do."""
    from chaos.api import exit_code, run_jobs, select
    from chaos.commands.runs import RunsDisplay
    from chaos.explore.compare import comparisons, render
    from chaos.reports.jsonout import json_text
    from chaos.vocabulary.word import Network

    known = get_args(Network)
    if len(set(networks)) < 2 or not set(networks) <= set(known):
        raise UsageError(
            f"--compare takes two or more of {', '.join(known)}, got {listed(networks)}"
        )
    work, verdicts = [], []
    for network in dict.fromkeys(networks):
        selected = select(replace(selection, network=network))  # type: ignore[arg-type] # a known one
        folder = None if out is None else out / network
        work += selected.jobs(seed, repeat=repeat, baseline=baseline, out=folder)
        verdicts += selected.skipped_verdicts(seed)
    with RunsDisplay(len(work), silent=as_json, mute=True) as display:
        done = run_jobs(work, display, at_most=jobs)
    verdicts += done.verdicts
    if done.interrupted:
        return values.interrupted()
    found = comparisons(verdicts)
    if as_json:
        say(json_text([row.to_json() for row in found]), nl=False)
    else:
        say("\n".join(line for row in found for line in render(row)))
    return exit_code(verdicts) if all(row.agree for row in found) else EXIT_FAILED


def _verify(
    selection: Selection,
    *,
    seed: int,
    repeat: int,
    quiet: bool,
    verbose: bool,
    jobs: int | None,
    **_: object,
) -> int:
    """Run each scenario twice per seed, as written; return 0 when all traces agree, 2 when some are not there."""
    from chaos.commands.sweep import select_sweepable
    from chaos.explore.replay import verify

    if selection.network != "simulated":
        raise UsageError(
            f"real clocks and sockets are never the same twice: --verify-determinism needs "
            f"--network simulated, got {selection.network}"
        )
    runs = different = unknown = 0
    selected = select_sweepable(selection)
    for row, difference in verify(selected.jobs(seed, repeat=repeat), processes=jobs):
        runs += 1
        different += difference is not None
        if difference is not None:
            say(str(difference))
        elif not row.digest:
            unknown += 1
            say(f"not compared  {row.title}  seed {row.seed}: {row.reason}")
        elif not quiet:
            say(f"same  {row.title}  seed {row.seed}" + (f"  {row.digest}" if verbose else ""))
    left_out = f"; {unknown} could not be compared" if unknown else ""
    say(f"{runs} runs, {different} of them different the second time{left_out}")
    if different:
        return EXIT_FAILED
    return EXIT_INCONCLUSIVE if unknown else EXIT_PASSED
