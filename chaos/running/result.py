"""What runs come to: a verdict where there is no trace to judge, and the row that a sweep keeps of a run."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from functools import cache
from typing import Any

from pydantic import TypeAdapter
from pydantic_core import to_json

from chaos.checks.verdict import ROOTS, Finding, Outcome, Verdict
from chaos.running.job import Job
from chaos.scenario.model import Scenario
from chaos.trace import Trace

# the guard of a run that was asked for what cannot be had: a mistake of the user's, not a result
USAGE = "usage"


@dataclass(frozen=True, slots=True, kw_only=True)
class Time:
    """A measured time in seconds: `what` is `detected by client`, `reconnected`; `bound_s` what theory allows."""

    what: str
    took_s: float
    bound_s: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """What one seed of one scenario came to. `trace` holds the whole trace where it was asked for.

    `of` identifies the question, and `made_by` what answered it: versions, and digests of the scenario and the code.
    """

    title: str
    seed: int
    outcome: Outcome
    path: str = ""
    reason: str = ""
    times: tuple[Time, ...] = ()
    states: tuple[str, ...] = ()
    digest: str = ""
    of: str = ""
    made_by: Mapping[str, str] = field(default_factory=dict)
    trace: str | None = None

    @property
    def key(self) -> tuple[str, int]:
        """What makes a row the same run as another."""
        return self.title, self.seed

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON data."""
        return {**asdict(self), "outcome": self.outcome.value}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Row:
        """Return the row that `to_json` gave. Raises ValueError for anything else."""
        return _reader().validate_json(to_json(data), strict=True)

    def without_trace(self) -> Row:
        """Return the row as it is kept in memory and in the results file."""
        return self if self.trace is None else replace(self, trace=None)


@cache
def _reader() -> TypeAdapter[Row]:
    return TypeAdapter(Row)


def lost_rows(job: Job, reason: str) -> list[Row]:
    """Return the rows of runs that nothing is known about."""
    scenario = job.scenario
    return [
        Row(
            title=job.title,
            seed=seed,
            path=scenario.path,
            outcome=Outcome.INCONCLUSIVE,
            reason=f"run: {reason}",
            of=job.of,
        )
        for seed in job.seeds
    ]


def failed_verdict(job: Job, outcome: Outcome, check: str, reason: str) -> Verdict:
    """Return the verdict on a run that has no trace to judge."""
    return Verdict(
        scenario=job.title,
        path=job.scenario.path,
        network=job.network,
        seed=job.seed,
        outcome=outcome,
        findings=(Finding(check=check, outcome=outcome, reason=reason, guard=True),),
        options=job.overrides,
    )


def times_of(verdict: Verdict, scenario: Scenario) -> tuple[Time, ...]:
    """Return the detection and recovery times in a verdict on a scenario."""
    found = []
    judged = [finding for finding in verdict.findings if not finding.guard]
    for expectation, finding in zip(scenario.expect, judged, strict=False):
        detected, again = finding.measured.get("detected_s"), finding.measured.get("reconnected_s")
        bound = finding.measured.get("theoretical_bound_s")
        if isinstance(detected, int | float):
            by = expectation.parameters.get("by", "client")
            limit = float(bound) if isinstance(bound, int | float) else None
            found.append(Time(what=f"detected by {by}", took_s=float(detected), bound_s=limit))
        if isinstance(again, int | float):
            found.append(Time(what="reconnected", took_s=float(again)))
    return tuple(found)


def reason_of(verdict: Verdict) -> str:
    """Return in one line why a run did not pass; empty for a pass."""
    rank = {name: place for place, name in enumerate(ROOTS)}
    deciding = sorted(verdict.deciding(), key=lambda row: rank.get(row.check, len(ROOTS)))
    return f"{deciding[0].check}: {deciding[0].reason}" if deciding else ""


def digest_of(trace: Trace) -> str:
    """Return the SHA-256 of a trace: header without the environment, then every event."""
    header = trace.header
    events = [
        (row.at_s, row.kind, row.client, row.connection, row.stream, row.data)
        for row in trace.events
    ]
    # a fifth of json's time, which is much for what every run of a sweep does
    text = to_json((header.network, header.seed, header.scenario, events))
    return hashlib.sha256(text).hexdigest()
