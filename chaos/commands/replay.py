"""The commands on runs that are over: `replay` runs them again, `recheck` only judges their traces again."""

from __future__ import annotations

import shlex
from pathlib import Path

import click

from chaos.commands import values
from chaos.commands.values import say
from chaos.errors import EXIT_FAILED, EXIT_PASSED, WORD_MAX, UsageError, listed


@click.command()
@click.argument("folder", type=values.PATH)
@click.option(
    "--anyway", is_flag=True, help="Also with other versions than those it was recorded with."
)
@click.option(
    "--trust", is_flag=True, help="Run what the trace names, though it is from somewhere else."
)
@click.option(
    "--verbose",
    "-v",
    is_flag=True,
    help="Show every check with its figures, and the trace's digest.",
)
def replay(folder: Path, anyway: bool, trust: bool, verbose: bool) -> int:
    """Run again what a folder with a trace.jsonl holds, and compare.

    This runs the subjects and checks that the trace names. A trace that no run on this machine has left needs --trust.
    """
    from dataclasses import replace as changed

    from chaos.api import read_trace
    from chaos.explore.replay import code_of_trace, version_mismatches
    from chaos.explore.replay import replay as replay_trace
    from chaos.reports.terminal import render_verdict
    from chaos.running.environment import environment
    from chaos.running.interrupt import signals_noted
    from chaos.running.mark import is_ours

    kept = read_trace(folder)
    code = code_of_trace(kept.header)
    if not trust and not is_ours(kept.header):
        runs = f"runs {listed(code, WORD_MAX)}" if code else "runs the reference peers only"
        raise UsageError(
            f"{folder} has no mark of a run on this machine, and a replay of it {runs}; "
            "expected --trust, if you trust whoever wrote it"
        )
    mismatches = version_mismatches(kept.header.environment, environment())
    if mismatches and not anyway:
        raise UsageError(
            f"{folder} was recorded with {'; '.join(mismatches)}: the same seed may mean another run; "
            "expected the same versions, or --anyway"
        )
    for mismatch in mismatches:
        say(f"other versions: {mismatch}", err=True)
    for each in code:
        say(f"about to run {each}", err=True)
    with signals_noted() as interruption:
        again = replay_trace(kept, interrupted=interruption.check)
    command = shlex.join(("trio-chaos", "replay", str(folder)))
    say(render_verdict(changed(again.verdict, again=command), verbose=verbose))
    for line in again.lines(verbose=verbose):
        say(line)
    return EXIT_PASSED if again.same else EXIT_FAILED


@click.command()
@click.argument("traces", nargs=-1, required=True, type=values.PATH)
@values.verbose
@click.option(
    "--use",
    "checks",
    multiple=True,
    metavar="FILE",
    help="Checks of your own: a file such as checks.py, or checks.py:mine; may be repeated.",
)
@values.as_json("verdicts")
def recheck(traces: tuple[Path, ...], checks: tuple[str, ...], verbose: bool, as_json: bool) -> int:
    """Judge runs again from their trace.jsonl alone. No code that a trace names is run."""
    from dataclasses import replace

    from chaos import api
    from chaos.reports.jsonout import render_json
    from chaos.reports.terminal import render_run

    verdicts = [
        replace(
            api.judge(api.read_trace(path), checks=checks),
            again=shlex.join(("trio-chaos", "replay", str(path))),
        )
        for path in traces
    ]
    say(render_json(verdicts) if as_json else render_run(verdicts, verbose=verbose), nl=False)
    return api.exit_code(verdicts)
