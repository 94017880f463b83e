"""Renders what a person reads on a terminal: a line per scenario, the causes where it did not pass, a summary.

`render_run` and `render_verdict` give plain text, `markup_verdict` the same with rich's console markup. None prints.
"""

from __future__ import annotations

import re
import shlex
import textwrap
from collections import Counter
from collections.abc import Sequence
from typing import Any, Protocol

from chaos.checks.verdict import ROOTS, Finding, Outcome, Verdict
from chaos.errors import TEXT_MAX, Mistake, bounded, escaped, shortened

WIDTH = 100
_WORD_WIDTH = len(Outcome.INCONCLUSIVE.value)
_INDENT = "  "
_STYLES = {
    Outcome.PASS: "green",
    Outcome.FAIL: "bold red",
    Outcome.INCONCLUSIVE: "yellow",
    Outcome.SKIPPED: "dim",
}
_WORDS = {
    Outcome.PASS: "passed",
    Outcome.FAIL: "failed",
    Outcome.INCONCLUSIVE: "inconclusive",
    Outcome.SKIPPED: "skipped",
}
# the figures that say most about a run, in this order, by the check they belong to
_KEY_FIGURES: dict[tuple[str, str], str] = {
    ("detects_dead_peer", "detected_s"): "detected {} s",
    ("reconnects", "reconnected_s"): "reconnected {} s",
    ("availability", "availability"): "available {}",
    ("delivers", "lost"): "lost {}",
    ("delivers", "duplicated"): "duplicated {}",
    ("herd", "peak_per_s"): "peak {}/s",
    ("cost", "bytes_per_hour"): "heartbeat {} B/h",
}
FIGURES_MAX = 3


class Paint(Protocol):
    """Makes text safe to show, and gives it the style of an outcome."""

    def __call__(self, text: str, outcome: Outcome | None = None) -> str: ...


_TAG = re.compile(r"(\\*)(\[[a-z#/@][^[]*?])")
_NUMBERED = re.compile(r"\b(client) \d+\b")


def render_verdict(verdict: Verdict, *, width: int = WIDTH, verbose: bool = False) -> str:
    """Return one scenario's lines as plain text, without a line end after the last.

    Args:
        width: columns to wrap at; 80 to 120 read well.
        verbose: also show what passed, and the harness's warnings.
    """
    return "\n".join(_verdict_lines(verdict, width, verbose, _plain))


def markup_verdict(verdict: Verdict, *, width: int = WIDTH, verbose: bool = False) -> str:
    """Return one scenario's lines with rich's console markup."""
    return "\n".join(_verdict_lines(verdict, width, verbose, _markup))


def render_run(
    verdicts: Sequence[Verdict],
    mistakes: Sequence[Mistake] = (),
    *,
    width: int = WIDTH,
    verbose: bool = False,
) -> str:
    """Return a whole run as plain text: each scenario, then the invalid files, then the counts."""
    lines = [
        *(render_verdict(verdict, width=width, verbose=verbose) for verdict in verdicts),
        *(_plain(str(mistake)) for mistake in mistakes),
        "",
        _plain(summary_line(verdicts, mistakes)),
    ]
    return "\n".join(lines) + "\n"


def summary_line(verdicts: Sequence[Verdict], mistakes: Sequence[Mistake] = ()) -> str:
    """Return the counts in one line: `12 scenarios: 10 passed, 2 failed in 34.5 s`."""
    counts = Counter(verdict.outcome for verdict in verdicts)
    parts = [f"{counts[outcome]} {word}" for outcome, word in _WORDS.items() if counts[outcome]]
    invalid = len({mistake.path for mistake in mistakes})
    if invalid:
        parts.append(f"{invalid} invalid file{'s' if invalid > 1 else ''}")
    noun = "scenario" if len(verdicts) == 1 else "scenarios"
    judged_s = sum(verdict.duration_s for verdict in verdicts)
    text = ", ".join(parts) or "nothing to run"
    return f"{len(verdicts)} {noun}: {text}; {judged_s:.1f} s of scenario time"


def skipped_lines(verdicts: Sequence[Verdict], *, width: int = WIDTH) -> list[str]:
    """Return what was not run at all, in a line for each reason with how many scenarios it holds for."""
    reasons = Counter(
        finding.reason for verdict in verdicts for finding in verdict.findings if finding.guard
    )
    lines = []
    for reason, count in reasons.items():
        word = Outcome.SKIPPED.value.ljust(_WORD_WIDTH)
        noun = "scenario" if count == 1 else "scenarios"
        first, *more = _wrapped(
            f"{count} {noun}: {reason} (--verbose names them)", 0, width - _WORD_WIDTH - 2, _plain
        )
        lines += [f"{word}  {first}", *(f"{'':{_WORD_WIDTH}}  {row}" for row in more)]
    return lines


def not_applicable_lines(verdicts: Sequence[Verdict], *, width: int = WIDTH) -> list[str]:
    """Return what did not apply, each check once, with why and in how many scenarios; an empty line first."""
    found: dict[tuple[str, str], set[str]] = {}
    for verdict in verdicts:
        for finding in verdict.findings:
            if finding.outcome is Outcome.SKIPPED and not finding.guard:
                reason = _NUMBERED.sub(r"\1", finding.reason)
                found.setdefault((finding.check, reason), set()).add(verdict.scenario)
    if not found:
        return []
    lines = ["", "not applicable, and left out:"]
    for (check, reason), titles in found.items():
        where = next(iter(titles)) if len(titles) == 1 else f"{len(titles)} scenarios"
        lines += _wrapped(f"{check} ({where}): {reason}", 2, width, _plain)
    return lines


def key_figures(verdict: Verdict) -> list[str]:
    """Return the few figures that say most about a run, worst first where a check stands twice."""
    found: list[str] = []
    for (check, name), form in _KEY_FIGURES.items():
        values = _measured(verdict, check, name)
        numbers = [value for value in values if isinstance(value, int | float)]
        if numbers:
            value = min(numbers) if name == "availability" else max(numbers)
            shown = f"{value:.1%}" if name == "availability" else f"{value:.4g}"
            found.append(form.format(shown) + _bound_of(verdict, check, name))
    return found[:FIGURES_MAX]


def _measured(verdict: Verdict, check: str, name: str) -> list[Any]:
    """Return what the findings of a check have measured under this name."""
    rows = [finding.measured for finding in verdict.findings if finding.check == check]
    return [measured[name] for measured in rows if name in measured]


def _bound_of(verdict: Verdict, check: str, name: str) -> str:
    """Return the theoretical bound of a detection time, where the scenario gives one."""
    bounds = _measured(verdict, check, "theoretical_bound_s") if name == "detected_s" else []
    return f" (bound {bounds[0]:g} s)" if bounds else ""


def again(verdict: Verdict) -> str:
    """Return the command that runs this scenario again in the same way."""
    if verdict.again:
        return verdict.again
    where = (verdict.path or verdict.scenario,)
    options = ("--network", verdict.network, "--seed", str(verdict.seed), *verdict.options)
    return shlex.join(("trio-chaos", "run", *where, *options))


def _plain(text: str, outcome: Outcome | None = None) -> str:  # noqa: ARG001 - the markup twin needs it
    # a terminal acts on control characters; those of a subject's own text must not reach it
    return escaped(text)


def _markup(text: str, outcome: Outcome | None = None) -> str:
    """Return text as rich shows it: in the outcome's style, else as it is.

    `[beat=5s]` in a title is no style (the rule of `rich.markup.escape`).
    """
    # a backslash at the end of a line needs no care: a line end follows it, no tag
    escaped = _TAG.sub(r"\1\1\\\2", _plain(text))
    return escaped if outcome is None else f"[{_STYLES[outcome]}]{escaped}[/]"


def _verdict_lines(verdict: Verdict, width: int, verbose: bool, paint: Paint) -> list[str]:
    word = verdict.outcome.value.ljust(_WORD_WIDTH)
    figures = ", ".join(key_figures(verdict))
    tail = f"  {verdict.duration_s:.1f} s" + (f"  {figures}" if figures else "")
    title = verdict.scenario
    if len(title) + len(tail) <= width - _WORD_WIDTH - 2:
        lines = [f"{paint(word, verdict.outcome)}  {paint(title + tail)}"]
    else:
        lines = [f"{paint(word, verdict.outcome)}  {paint(title)}"]
        lines += _wrapped(tail.strip(), _WORD_WIDTH + 2, width, paint)
    shown = verdict.deciding()
    if verdict.outcome is Outcome.FAIL:
        shown = shown + [f for f in verdict.findings if f.outcome is Outcome.INCONCLUSIVE]
    hidden = 0
    if verbose:
        shown = [row for row in verdict.findings if row.outcome is not Outcome.SKIPPED]
        shown += [row for row in verdict.findings if row.outcome is Outcome.SKIPPED]
    elif verdict.outcome is Outcome.INCONCLUSIVE:
        shown, hidden = _without_what_follows(shown)
    for finding in shown:
        lines += _finding_lines(finding, verdict, width, paint)
    if hidden:
        more = f"and {hidden} more that follow{'s' if hidden == 1 else ''} from it (--verbose shows all)"
        lines += _wrapped(more, 2, width, paint)
    if shown and verdict.outcome in (Outcome.FAIL, Outcome.INCONCLUSIVE):
        # not wrapped: it is there to be copied
        lines.append(_INDENT + paint(f"again: {shortened(again(verdict), TEXT_MAX)}"))
    for warning in verdict.warnings if verbose else ():
        lines += _wrapped(f"warning: {warning}", 2, width, paint)
    return lines


def _without_what_follows(findings: list[Finding]) -> tuple[list[Finding], int]:
    """Return the findings that a person must see, and how many were left out since they follow from those.

    A network that broke, or a subject that died, explains every guard and check behind it.
    """
    for root in ROOTS:
        causes = [finding for finding in findings if finding.guard and finding.check == root]
        if causes:
            return causes, len(findings) - len(causes)
    return findings, 0


def _finding_lines(finding: Finding, verdict: Verdict, width: int, paint: Paint) -> list[str]:
    mark = "guard " if finding.guard and finding.outcome is not Outcome.SKIPPED else ""
    word = "" if finding.outcome is verdict.outcome else f"{finding.outcome.value}: "
    lines = _wrapped(f"{word}{mark}{finding.check}: {finding.reason}", 2, width, paint)
    for cause in finding.evidence:
        lines += _wrapped(cause, 6, width, paint)
    if finding.outcome is not Outcome.PASS and finding.line and verdict.path:
        lines.append(" " * 6 + paint(f"{verdict.path}:{finding.line}"))
    return lines


def _wrapped(text: str, indent: int, width: int, paint: Paint) -> list[str]:
    pad = " " * indent
    rows = textwrap.wrap(
        escaped(bounded(text)),
        width=width,
        initial_indent=pad,
        subsequent_indent=pad + _INDENT,
        break_long_words=False,
        break_on_hyphens=False,
        drop_whitespace=True,
    )
    return [paint(row) for row in rows]
