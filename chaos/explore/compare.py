"""One scenario on several networks: do verdicts agree, and how far apart are the times?"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from chaos.checks.verdict import Outcome, Verdict

TIMES = ("detected_s", "reconnected_s")
# real clocks and real sockets are late by some milliseconds: a smaller spread is not pointed out
WORTH_S = 0.1


@dataclass(frozen=True, slots=True, kw_only=True)
class Divergence:
    """A time that differs between networks: in seconds, by network."""

    check: str
    name: str
    by_network: Mapping[str, float]

    @property
    def spread_s(self) -> float:
        """How far apart they are."""
        return max(self.by_network.values()) - min(self.by_network.values())


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """One scenario's verdicts, by network."""

    title: str
    verdicts: Mapping[str, Verdict]

    @property
    def agree(self) -> bool:
        """Whether all that ran came to the same outcome."""
        ran = {v.outcome for v in self.verdicts.values() if v.outcome is not Outcome.SKIPPED}
        return len(ran) <= 1

    def times(self) -> list[Divergence]:
        """Return the measured times that every network that ran has."""
        ran = {net: v for net, v in self.verdicts.items() if v.outcome is not Outcome.SKIPPED}
        rows: dict[tuple[int, str, str], dict[str, float]] = {}
        for network, verdict in ran.items():
            for number, finding in enumerate(row for row in verdict.findings if not row.guard):
                for name in TIMES:
                    value = finding.measured.get(name)
                    if isinstance(value, int | float):
                        rows.setdefault((number, finding.check, name), {})[network] = float(value)
        return [
            Divergence(check=check, name=name, by_network=values)
            for (_, check, name), values in sorted(rows.items())
            if len(values) == len(ran) > 1
        ]

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON data."""
        return {
            "scenario": self.title,
            "agree": self.agree,
            "outcomes": {net: verdict.outcome.value for net, verdict in self.verdicts.items()},
            "times": [
                {"check": row.check, "name": row.name, "by_network": dict(row.by_network)}
                for row in self.times()
            ],
        }


def comparisons(verdicts: Iterable[Verdict]) -> list[Comparison]:
    """Return the verdicts by scenario, in the order in which scenarios come."""
    found: dict[str, dict[str, Verdict]] = {}
    for verdict in verdicts:
        found.setdefault(verdict.scenario, {})[verdict.network] = verdict
    return [Comparison(title=title, verdicts=rows) for title, rows in found.items()]


def render(comparison: Comparison) -> list[str]:
    """Return a scenario's lines: outcomes, then each time with its spread where that is worth a look."""
    outcomes = ", ".join(f"{net} {v.outcome.value}" for net, v in comparison.verdicts.items())
    lines = [f"{'same     ' if comparison.agree else 'DIFFERENT'}  {comparison.title}  {outcomes}"]
    for row in comparison.times():
        values = ", ".join(f"{network} {value:.3f} s" for network, value in row.by_network.items())
        mark = f"  apart by {row.spread_s:.3f} s" if row.spread_s >= WORTH_S else ""
        lines.append(f"  {row.check} {row.name}: {values}{mark}")
    if not comparison.agree:
        for network, verdict in comparison.verdicts.items():
            lines += [f"  {network}: {f.check}: {f.reason}" for f in verdict.deciding()]
    return lines
