"""The commands on runs that are over: `replay` runs them again, `recheck` only judges their traces again."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path

import click

from chaos.commands import values
from chaos.errors import EXIT_FAILED, EXIT_PASSED, UsageError


@click.command()
@click.argument("folder", type=values.PATH)
@click.option(
    "--anyway", is_flag=True, help="Also with other versions than those it was recorded with."
)
@click.option(
    "--verbose",
    "-v",
    is_flag=True,
    help="Show every check with its figures, and the trace's digest.",
)
def replay(folder: Path, anyway: bool, verbose: bool) -> int:
    """Run again what a folder with a trace.jsonl holds, and compare."""
    from dataclasses import replace as changed

    from chaos.api import read_trace
    from chaos.explore.replay import replay as replay_trace
    from chaos.explore.replay import version_mismatches
    from chaos.reports.terminal import render_verdict
    from chaos.running.environment import environment
    from chaos.running.interrupt import signals_noted

    kept = read_trace(folder)
    mismatches = version_mismatches(kept.header.environment, environment())
    if mismatches and not anyway:
        raise UsageError(
            f"{folder} was recorded with {'; '.join(mismatches)}: the same seed may mean another run; "
            "expected the same versions, or --anyway"
        )
    for mismatch in mismatches:
        click.echo(f"other versions: {mismatch}", err=True)
    with signals_noted() as interruption:
        again = replay_trace(kept, interrupted=interruption.check)
    command = shlex.join(("trio-chaos", "replay", str(folder)))
    click.echo(render_verdict(changed(again.verdict, again=command), verbose=verbose))
    for line in again.lines(verbose=verbose):
        click.echo(line)
    return EXIT_PASSED if again.same else EXIT_FAILED


@click.command()
@click.argument("traces", nargs=-1, required=True, type=values.PATH)
@values.verbose
@values.as_json("verdicts")
def recheck(traces: tuple[Path, ...], verbose: bool, as_json: bool) -> int:
    """Judge runs again from their trace.jsonl alone."""
    from dataclasses import replace

    from chaos import api
    from chaos.reports.jsonout import render_json
    from chaos.reports.terminal import render_run

    verdicts = [
        replace(
            api.judge(api.read_trace(path)), again=shlex.join(("trio-chaos", "replay", str(path)))
        )
        for path in traces
    ]
    sys.stdout.write(render_json(verdicts) if as_json else render_run(verdicts, verbose=verbose))
    return api.exit_code(verdicts)
