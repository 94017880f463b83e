"""What `trio-chaos recheck` does: traces to verdicts, without running anything."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from chaos.checks.judge import judge
from chaos.checks.verdict import Verdict
from chaos.commands.run import exit_code
from chaos.errors import UsageError
from chaos.reports.jsonout import render_json
from chaos.reports.terminal import render_run
from chaos.subjects.load import load_name
from chaos.trace import parse_trace


def recheck_command(traces: Sequence[Path], *, verbose: bool, as_json: bool) -> int:
    """Judge traces again and return the exit code. A folder stands for the `trace.jsonl` in it."""
    verdicts = [recheck(path) for path in traces]
    sys.stdout.write(render_json(verdicts) if as_json else render_run(verdicts, verbose=verbose))
    return exit_code(verdicts)


def recheck(path: Path) -> Verdict:
    """Return the verdict on one trace.

    Raises:
        UsageError: the file is not there or is no trace.
    """
    file = path / "trace.jsonl" if path.is_dir() else path
    try:
        with file.open(encoding="utf-8") as lines:
            trace = parse_trace(lines)
    except OSError as error:
        raise UsageError(f"cannot read {file}: {error.strerror}") from error
    except ValueError as error:
        raise UsageError(f"{file}: {error}") from error
    where = trace.header.scenario.get("path")
    base = Path(where).parent if where else None
    verdict = judge(trace, check_loader=lambda name: load_name(name, base=base))
    return replace(verdict, again=shlex.join(("trio-chaos", "replay", str(path))))
