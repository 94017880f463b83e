"""Renders a whole run as JSON, for programs, and reads it back, so that its verdicts can be judged again."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from chaos.checks.verdict import Outcome, Verdict
from chaos.errors import Mistake

FORMAT_VERSION = 1


def run_to_json(verdicts: Sequence[Verdict], mistakes: Sequence[Mistake] = ()) -> dict[str, Any]:
    """Return a run as plain JSON data: `run` (format version), `counts`, `verdicts`, `invalid`."""
    counts = Counter(verdict.outcome.value for verdict in verdicts)
    return {
        "run": FORMAT_VERSION,
        "counts": {outcome.value: counts[outcome.value] for outcome in Outcome},
        "verdicts": [verdict.to_json() for verdict in verdicts],
        "invalid": [
            {
                "path": mistake.path,
                "line": mistake.line,
                "column": mistake.column,
                "message": str(mistake),
            }
            for mistake in mistakes
        ],
    }


def render_json(verdicts: Sequence[Verdict], mistakes: Sequence[Mistake] = ()) -> str:
    """Return a run as indented JSON text with a line end."""
    return json_text(run_to_json(verdicts, mistakes))


def json_text(data: Any) -> str:
    """Return data as indented JSON with a line end: readable text as it is, what a terminal could act on escaped."""
    text = json.dumps(data, indent=2, ensure_ascii=False)
    if text.isascii():
        return text + "\n"
    # outside of strings all is ASCII, and what is not printable there is an escape already
    return (
        "".join(
            json.dumps(letter)[1:-1] if letter != "\n" and not letter.isprintable() else letter
            for letter in text
        )
        + "\n"
    )


def parse_run(text: str) -> tuple[Verdict, ...]:
    """Return the verdicts of a run that `render_json` gave.

    Raises:
        ValueError: the text is no JSON, or not a run of this format.
    """
    try:
        data = json.loads(text)
    except RecursionError as error:
        raise ValueError("expected a run, got JSON that is nested too deeply") from error
    if not isinstance(data, Mapping) or data.get("run") != FORMAT_VERSION:
        raise ValueError(f"expected a run of format {FORMAT_VERSION}, got something else")
    try:
        return tuple(Verdict.from_json(row) for row in data["verdicts"])
    except (KeyError, TypeError) as error:
        raise ValueError(f"expected the verdicts of a run, got a row that lacks {error}") from error
