"""What hunts found: scenario files with their story above them, in a folder, replayed before the next hunt."""

from __future__ import annotations

import hashlib
import json
import os
import re
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from chaos.api import load_scenarios
from chaos.checks.guards import FELT
from chaos.checks.verdict import Finding, Outcome, Verdict
from chaos.errors import UsageError
from chaos.explore.emit import to_yaml
from chaos.scenario.model import Scenario
from chaos.scenario.rules import show_s

FOLDER = Path(".trio-chaos/finds")
NAME_MAX = 60
CAUSES_MAX = 12
_WIDTH = 108
_SUFFIX = re.compile(r"-[0-9a-f]{6}")
_HEADING = "# Found by a hunt in "


@dataclass(frozen=True, slots=True, kw_only=True)
class Find:
    """A scenario that fails, the verdict on it, and what it was made from."""

    scenario: Scenario
    verdict: Verdict
    base: Path  # what the subjects' relative paths count from
    reference_fails: bool = False  # the reference peers fail in it as well

    @property
    def checks(self) -> tuple[str, ...]:
        """The checks that failed, each once."""
        return failed_checks(self.verdict)


def failed_checks(verdict: Verdict) -> tuple[str, ...]:
    """Return the names of the checks that failed, in order; none if the run did not fail."""
    if verdict.outcome is not Outcome.FAIL:
        return ()
    return tuple(sorted({finding.check for finding in verdict.deciding()}))


def short_hash(scenario: Scenario) -> str:
    """Return six digits that tell this find from others: of its timeline, and of what it expects."""
    plain = scenario.to_json()
    told = json.dumps([plain["timeline"], plain["expect"], plain["client"]], sort_keys=True)
    return hashlib.sha256(told.encode()).hexdigest()[:6]


def make_find(
    scenario: Scenario, verdict: Verdict, base: Path, correct: Verdict | None = None
) -> Find:
    """Return a failed run as a find: named, described, and with the expectations that say something.

    `correct` is the verdict on the reference peers in the same scenario: beside what failed, only expectations are
    kept that they meet and this run met, so that a subject that is repaired passes.
    """
    right = judged(correct or verdict)
    kept = [
        row
        for row, mine, its in zip(scenario.expect, judged(verdict), right, strict=True)
        if mine.outcome is Outcome.FAIL or mine.outcome is its.outcome is Outcome.PASS
    ]
    kept.sort(key=lambda row: row.check not in failed_checks(verdict))
    found = scenario.model_copy(
        update={
            "expect": tuple(kept),
            "tags": (*(tag for tag in scenario.tags if tag != "hunt"), "hunt"),
            "description": _sentence(scenario, verdict),
            "cell": "",
        }
    )
    stem = _SUFFIX.sub("", scenario.name[:NAME_MAX])
    named = found.model_copy(update={"name": f"{stem}-{short_hash(found)}"})
    also = correct is not None and correct.outcome is Outcome.FAIL
    return Find(scenario=named, verdict=verdict, base=base, reference_fails=also)


def judged(verdict: Verdict) -> Sequence[Finding]:
    """Return the findings on what the scenario expects, without those of guards."""
    return [finding for finding in verdict.findings if not finding.guard]


def why_unjudged(verdict: Verdict) -> str | None:
    """Return why nothing of what the scenario expects could be judged in this run, or None."""
    if verdict.outcome is not Outcome.INCONCLUSIVE:
        return None
    deciding = verdict.deciding()
    vetoes = [row for row in deciding if row.guard and row.check != FELT]
    if not vetoes and any(row.outcome is Outcome.PASS for row in judged(verdict)):
        return None
    first = (vetoes or deciding)[0]
    return f"{first.check}: {first.reason}"


def _sentence(scenario: Scenario, verdict: Verdict) -> str:
    words = [entry.word for entry in scenario.timeline]
    what = " and ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)
    when = f"under {what}" if words else "with no fault at all"
    return f"A hunt found that {' and '.join(failed_checks(verdict))} fails {when}."


def text_of(find: Find, folder: Path) -> str:
    """Return the find as a scenario file in that folder, the chain of causes above it."""
    scenario = find.scenario.model_copy(
        update={
            side: subject.model_copy(update={"use": use_from(subject.use, find.base, folder)})
            for side, subject in (
                ("client", find.scenario.client),
                ("server", find.scenario.server),
            )
        }
    )
    return to_yaml(scenario, comment=_story(find), extra={"x-fails": list(find.checks)})


def _story(find: Find) -> list[str]:
    stem = _SUFFIX.sub("", find.scenario.name)
    entries = len(find.scenario.timeline)
    size = f"{entries} timeline entr{'y' if entries == 1 else 'ies'}, {show_s(find.scenario.duration_s)}"
    lines = [f"{_HEADING[2:]}{stem}, and made as small as it would go: {size}.", ""]
    for finding in find.verdict.deciding():
        lines += _wrapped(f"{finding.check}: {finding.reason}", "", "  ")
        for cause in finding.evidence[:CAUSES_MAX]:
            lines += _wrapped(cause, "    ", "      ")
    return lines


def _wrapped(text: str, first: str, later: str) -> list[str]:
    flat = " ".join(text.split())
    return textwrap.wrap(flat, _WIDTH, initial_indent=first, subsequent_indent=later)


def use_from(use: str | None, base: Path, folder: Path) -> str | None:
    """Return the name of a subject as a file in `folder` has to write it."""
    place, _, attribute = (use or "").rpartition(":")
    if not place.endswith(".py"):
        return use
    paths = [start / place for start in (base, Path.cwd())]
    found = next((path for path in paths if path.is_file()), None)
    if found is None:
        return use
    return f"{os.path.relpath(found.resolve(), folder.resolve())}:{attribute}"


def write(find: Find, path: Path) -> Path:
    """Write a find as a scenario file. Raises UsageError if that cannot be done."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text_of(find, path.parent), encoding="utf-8")
    except OSError as error:
        raise UsageError(f"cannot write {path}: {error.strerror or error}") from error
    return path


def kept_finds(folder: Path, name: str) -> list[tuple[Path, Scenario]]:
    """Return the finds of earlier hunts in the scenario of this name, the oldest first.

    Raises InvalidScenario for a file there that is not a scenario any more.
    """
    if not folder.is_dir():
        return []
    mine = re.compile(re.escape(name[:NAME_MAX]) + _SUFFIX.pattern)
    files = [path for path in folder.glob("*.yaml") if mine.fullmatch(path.stem)]
    files.sort(key=lambda path: (path.stat().st_mtime, path.name))
    return [(path, load_scenarios(path)[0]) for path in files]
