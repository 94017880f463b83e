"""One scenario on several networks: do verdicts agree, and how far apart are the times?"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import get_args

from chaos.checks.verdict import Outcome, Verdict
from chaos.commands.live import PlainAccount
from chaos.commands.run import Options, exit_code, load_all, plan_work
from chaos.errors import EXIT_FAILED, InvalidScenario, UsageError
from chaos.running.pool.suite import Suite, default_slots, run_suite
from chaos.scenario.load import find_files
from chaos.scenario.model import Network

TIMES = ("detected_s", "reconnected_s")
# real clocks and real sockets are late by some milliseconds; below this nobody need look
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


def compare_command(options: Options, networks: Sequence[str]) -> int:
    """Run each scenario on these networks, print where they differ, and return the exit code: 1 when verdicts do.

    Raises:
        UsageError: fewer than two networks, or an unknown one.
        InvalidScenario: with the mistakes of every file.
    """
    known = get_args(Network)
    wrong = [name for name in networks if name not in known]
    if wrong or len(set(networks)) < 2:
        got = ", ".join(networks)
        raise UsageError(f"--compare takes two or more of {', '.join(known)}, got {got}")
    comparisons = _run(options, list(dict.fromkeys(networks)))
    if options.json:
        sys.stdout.write(json.dumps([_to_json(row) for row in comparisons], indent=2) + "\n")
    else:
        sys.stdout.write("\n".join(line for row in comparisons for line in render(row)) + "\n")
    if not all(row.agree for row in comparisons):
        return EXIT_FAILED
    return exit_code([verdict for row in comparisons for verdict in row.verdicts.values()])


def _run(options: Options, networks: Sequence[str]) -> list[Comparison]:
    scenarios, mistakes = load_all(find_files(options.paths, options.recursive))
    if mistakes:
        raise InvalidScenario(tuple(mistakes))
    found: dict[str, dict[str, Verdict]] = {}
    jobs = []
    for network in networks:
        out = options.out / network if options.out is not None else None
        work = plan_work(scenarios, replace(options, network=network, out=out))
        jobs += work.jobs
        for verdict in work.skipped:
            found.setdefault(verdict.scenario, {})[network] = verdict
    account = PlainAccount(quiet=True, write=lambda _: None)
    suite = Suite(jobs, account, options.jobs or default_slots())
    for verdict in run_suite(suite):
        found.setdefault(verdict.scenario, {})[verdict.network] = verdict
    if suite.interrupted:
        raise KeyboardInterrupt
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


def _to_json(comparison: Comparison) -> dict[str, object]:
    return {
        "scenario": comparison.title,
        "agree": comparison.agree,
        "outcomes": {net: verdict.outcome.value for net, verdict in comparison.verdicts.items()},
        "times": [
            {"check": row.check, "name": row.name, "by_network": dict(row.by_network)}
            for row in comparison.times()
        ],
    }
