"""What a run amounts to: outcomes, judgements, findings and verdicts.

A check gives a `Judgement`, often the worst of several: one for each client or occurrence. `chaos.checks.judge` makes
a `Finding` of it, and a `Verdict` of all findings. Findings and verdicts go to JSON and back.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import KW_ONLY, dataclass, field
from enum import Enum
from functools import partial
from typing import Any, Literal

Measure = float | int | str
# guards that explain the others, the deepest cause first
ROOTS = ("usage", "run", "complete", "subject_alive", "connected", "steady_state")
# the figure of a failure that rests on what could not be decoded
UNDECODED_AT = "undecoded_at_byte"
# the figure of what cannot be judged since the harness may have been late by so much
LATE = "harness_late_s"
Culprit = Literal["", "client", "server"]


class Outcome(Enum):
    """The four ways a scenario can end. A SKIPPED finding is not applicable: it has nothing to judge."""

    PASS = "PASS"  # noqa: S105  # a verdict, not a password
    FAIL = "FAIL"
    INCONCLUSIVE = "INCONCLUSIVE"
    SKIPPED = "SKIPPED"


WORST_FIRST = (Outcome.FAIL, Outcome.INCONCLUSIVE, Outcome.PASS, Outcome.SKIPPED)


@dataclass(frozen=True, slots=True)
class Judgement:
    """What a check says, or one part of it (one client, one occurrence).

    `badness` compares parts with the same outcome. `evidence` is the chain of causes, each with its time; `measured`
    the figures behind the outcome. `culprit` is who broke the rule, where that is known.
    """

    outcome: Outcome
    reason: str
    _: KW_ONLY
    badness: float = 0.0
    culprit: Culprit = ""
    evidence: tuple[str, ...] = ()
    measured: Mapping[str, Measure] = field(default_factory=dict)


passed = partial(Judgement, Outcome.PASS)
failed = partial(Judgement, Outcome.FAIL)
undecided = partial(Judgement, Outcome.INCONCLUSIVE)
# the reason says what would make the check apply
not_applicable = partial(Judgement, Outcome.SKIPPED)


def worst(parts: Iterable[Judgement | None], *, nothing: str) -> Judgement:
    """Return the worst of these parts; a None among them says nothing.

    INCONCLUSIVE parts matter only where nothing failed, and parts that are not applicable only where nothing else is
    there; with no parts at all the answer is INCONCLUSIVE, for the reason `nothing`.
    """
    return min(
        (part for part in parts if part is not None),
        key=lambda part: (WORST_FIRST.index(part.outcome), -part.badness),
        default=undecided(nothing),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """What one check or one guard says about a trace.

    `evidence` is the chain of causes, each with its time; `measured` the figures behind the outcome; `line` where
    the expectation stands in its file (0: nowhere). A `guard` says whether the run may be judged, not how it went.
    `culprit` is who broke the rule of a failure, where that is known.
    """

    check: str
    outcome: Outcome
    reason: str
    evidence: tuple[str, ...] = ()
    measured: Mapping[str, Measure] = field(default_factory=dict)
    line: int = 0
    guard: bool = False
    culprit: Culprit = ""

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON data."""
        return {
            "check": self.check,
            "outcome": self.outcome.value,
            "reason": self.reason,
            "evidence": list(self.evidence),
            "measured": dict(self.measured),
            "line": self.line,
            "guard": self.guard,
            "culprit": self.culprit,
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Finding:
        """Return the finding that `to_json` gave. Raises KeyError or ValueError for anything else."""
        return cls(
            check=data["check"],
            outcome=Outcome(data["outcome"]),
            reason=data["reason"],
            evidence=tuple(data["evidence"]),
            measured=dict(data["measured"]),
            line=data["line"],
            guard=data["guard"],
            culprit=data.get("culprit", ""),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """The outcome of one scenario in one run; `scenario` is its title, `duration_s` the judged time in seconds.

    `warnings` are shown and never judged. `options` are those of the command line by which the run differed from its
    file (`--client my.py:client`), for the line that reproduces it;
    `again` is that line itself where the run did not come from `trio-chaos run`. It is not kept in files.
    """

    scenario: str
    path: str
    network: str
    seed: int
    outcome: Outcome
    findings: tuple[Finding, ...] = ()
    duration_s: float = 0.0
    warnings: tuple[str, ...] = ()
    options: tuple[str, ...] = ()
    again: str = ""

    @property
    def was_late(self) -> bool:
        """Whether the machine, not the subjects, is why nothing can be said: another run may tell."""
        late = any(LATE in finding.measured for finding in self.findings)
        return self.outcome is Outcome.INCONCLUSIVE and late

    def deciding(self) -> list[Finding]:
        """Return the findings that made the outcome what it is; none for a pass or a skip without reason."""
        if self.outcome is Outcome.PASS:
            return []
        return [finding for finding in self.findings if finding.outcome is self.outcome]

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON data."""
        return {
            "scenario": self.scenario,
            "path": self.path,
            "network": self.network,
            "seed": self.seed,
            "outcome": self.outcome.value,
            "duration_s": self.duration_s,
            "findings": [finding.to_json() for finding in self.findings],
            "warnings": list(self.warnings),
            "options": list(self.options),
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Verdict:
        """Return the verdict that `to_json` gave. Raises KeyError or ValueError for anything else."""
        return cls(
            scenario=data["scenario"],
            path=data["path"],
            network=data["network"],
            seed=data["seed"],
            outcome=Outcome(data["outcome"]),
            findings=tuple(Finding.from_json(row) for row in data["findings"]),
            duration_s=data["duration_s"],
            warnings=tuple(data.get("warnings", ())),
            options=tuple(data.get("options", ())),
        )


def combine(findings: Iterable[Finding]) -> Outcome:
    """Return what these findings add up to: FAIL beats INCONCLUSIVE beats PASS; nothing judged is INCONCLUSIVE.

    Guards come first: `chaos.checks.judge` has by then turned each failure that a guard forbids into INCONCLUSIVE.
    What is not applicable is left out; where that is all there is, the scenario is SKIPPED.
    """
    rows = list(findings)
    outcomes = {finding.outcome for finding in rows}
    checks = {finding.outcome for finding in rows if not finding.guard}
    if outcomes <= {Outcome.PASS, Outcome.SKIPPED} and checks == {Outcome.SKIPPED}:
        return Outcome.SKIPPED
    return next((outcome for outcome in WORST_FIRST if outcome in outcomes), Outcome.INCONCLUSIVE)


def skipped(*, scenario: str, path: str, network: str, seed: int, reason: str) -> Verdict:
    """Return the verdict on a scenario that this network cannot run."""
    finding = Finding(check="network", outcome=Outcome.SKIPPED, reason=reason, guard=True)
    return Verdict(
        scenario=scenario,
        path=path,
        network=network,
        seed=seed,
        outcome=Outcome.SKIPPED,
        findings=(finding,),
    )
