"""A run again, from what it left behind: the same scenario, seed and network; on virtual time, the same trace."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from chaos.api import judge, run_alone
from chaos.checks.verdict import Verdict
from chaos.explore.determinism import Difference, first_difference
from chaos.running.job import make_job
from chaos.running.process import run_trace
from chaos.running.result import digest_of
from chaos.scenario.model import Scenario
from chaos.trace import Trace, dump_event

# another release of these may do another thing with the same seed
PACKAGES = ("trio-chaos", "trio", "trio-websocket", "wsproto")


def version_mismatches(then: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """Return the differences between two environments that may change what a seed means."""
    found = []
    minor_then, minor_now = (_minor(str(row.get("python", ""))) for row in (then, now))
    if minor_then != minor_now:
        found.append(f"Python {minor_then or 'unknown'}, here is {minor_now}")
    old, new = then.get("versions", {}), now.get("versions", {})
    found += [
        f"{package} {old.get(package, 'unknown')}, here is {new.get(package)}"
        for package in PACKAGES
        if old.get(package) != new.get(package)
    ]
    return found


def _minor(python: str) -> str:
    return ".".join(python.split(".")[:2])


@dataclass(frozen=True, slots=True, kw_only=True)
class Again:
    """What came out: the new verdict, the old one's outcome, and on virtual time where the traces part."""

    verdict: Verdict
    before: Verdict
    digest: str = ""
    difference: Difference | None = None
    compared: bool = False

    @property
    def same(self) -> bool:
        """Whether the run came out as before."""
        return self.difference is None and self.verdict.outcome is self.before.outcome

    def lines(self, *, verbose: bool = False) -> list[str]:
        """Return what is said about the comparison."""
        if self.difference is not None:
            return [
                str(self.difference),
                "the same seed gave another run: something in it is not deterministic",
            ]
        if self.verdict.outcome is not self.before.outcome:
            return [
                f"came out as {self.verdict.outcome.value}; before it was {self.before.outcome.value}"
            ]
        if not self.compared:
            return [f"{self.verdict.outcome.value} again; traces of real networks are not compared"]
        return ["identical, event by event", *([f"digest {self.digest}"] if verbose else [])]


def replay(kept: Trace) -> Again:
    """Run what a trace came from again, and compare. Raises UsageError when a subject cannot be had."""
    before = judge(kept)
    # its scenario names the subjects that really ran
    scenario = Scenario.from_json(kept.header.scenario)
    job = make_job(scenario, network=kept.header.network, seed=kept.header.seed)
    if job.network != "simulated":
        return Again(verdict=run_alone(job), before=before)
    verdict, trace = run_trace(job)
    old, new = ([dump_event(event) for event in each.events] for each in (kept, trace))
    return Again(
        verdict=verdict,
        before=before,
        digest=digest_of(trace),
        difference=first_difference(job.title, job.seed, old, new),
        compared=True,
    )
