"""The command `recheck`: traces to verdicts, without running anything."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path

import click

from chaos.commands import values


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
