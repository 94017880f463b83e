"""How long detection and recovery took in the shipped scenarios, on the embedded network and on a real Toxiproxy.

Makes the Markdown of `docs/reference/measured-times.md` from the JSON of two runs:

    trio-chaos run scenarios/ --json > embedded.json
    trio-chaos run scenarios/ --network toxiproxy --json > toxiproxy.json
    python benchmarks/measured_times.py embedded.json toxiproxy.json > docs/reference/measured-times.md

With `--repeat` in the runs each cell shows the least and the greatest of the times.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from pathlib import Path

from chaos.api import load_scenarios
from chaos.checks.verdict import Finding, Outcome, Verdict
from chaos.reports.jsonout import parse_run
from chaos.scenario.model import Scenario
from chaos.scenario.rules import label, speaks_of
from chaos.vocabulary.checks import CHECKS, DetectsDeadPeer, Reconnects

NETWORKS = ("embedded", "toxiproxy")
# the check, the figure that it measured, and how the table speaks of it
FIGURES = {
    "detects_dead_peer": ("detected_s", "{by} notices `{entry}`"),
    "reconnects": ("reconnected_s", "back after `{entry}`"),
}

HEAD = """\
# Measured times

<!-- Made by `benchmarks/measured_times.py`. Do not edit. -->

How long detection and recovery took in the shipped scenarios, in seconds: on the embedded network, and with a real
Toxiproxy applying the toxics. Detection counts from the fault, recovery from the end of its window (or from the
instant), until a frame has passed again. Of several clients or repetitions of an entry the slowest counts. Waits are
drawn at random below their caps, so that recovery differs from run to run; `within` is what the scenario allows, and
`kept` means that the connection survived.

Made with {runs} run{plural} of each:

    trio-chaos run scenarios/ --json{repeat} > embedded.json
    trio-chaos run scenarios/ --network toxiproxy --json{repeat} > toxiproxy.json
    python benchmarks/measured_times.py embedded.json toxiproxy.json

| scenario | what | within | embedded | toxiproxy |
| --- | --- | ---: | ---: | ---: |
"""


def lines_of(scenario: Scenario) -> Iterator[tuple[int, str, float]]:
    """Yield what a scenario has in the table: the expectation's position, what it is about, its bound in seconds."""
    for number, expectation in enumerate(scenario.expect):
        if expectation.check not in FIGURES:
            continue
        settings = CHECKS[expectation.check].model_validate(expectation.parameters)
        assert isinstance(settings, DetectsDeadPeer | Reconnects)
        position = speaks_of(scenario, expectation)
        assert position is not None
        entry = label(scenario, position)
        by = settings.by if isinstance(settings, DetectsDeadPeer) else "client"
        yield number, FIGURES[expectation.check][1].format(by=by, entry=entry), settings.within_s


def finding_of(verdict: Verdict, scenario: Scenario, number: int) -> Finding | None:
    """Return the finding on this expectation, if it was judged."""
    expectation = scenario.expect[number]
    for finding in verdict.findings:
        if finding.check == expectation.check and finding.line == expectation.line:
            return finding
    return None


def cell(verdicts: Sequence[Verdict], scenario: Scenario, number: int) -> str:
    """Return what a cell shows: the time, or the least and the greatest, or what came in their place."""
    mine = [verdict for verdict in verdicts if verdict.scenario == scenario.title]
    figure = FIGURES[scenario.expect[number].check][0]
    times: list[float] = []
    for verdict in mine:
        finding = finding_of(verdict, scenario, number)
        if finding is None or finding.outcome is not Outcome.PASS:
            return "–" if verdict.outcome is Outcome.SKIPPED else verdict.outcome.value.lower()
        if finding.measured.get("remark"):
            return "kept"
        times.append(float(finding.measured[figure]))
    if not times:
        return "–"
    least, greatest = (f"{time_s:.2f}" for time_s in (min(times), max(times)))
    return least if least == greatest else f"{least} to {greatest}"


def render(runs: Sequence[Sequence[Verdict]], scenarios: Sequence[Scenario]) -> str:
    """Return the page."""
    repeats = max(len({verdict.seed for verdict in verdicts}) for verdicts in runs)
    repeat = f" --repeat {repeats}" if repeats > 1 else ""
    text = HEAD.format(runs=repeats, plural="s" if repeats > 1 else "", repeat=repeat)
    for scenario in scenarios:
        if not set(scenario.networks) & set(NETWORKS):
            continue
        for number, what, within_s in lines_of(scenario):
            shown = [cell(verdicts, scenario, number) for verdicts in runs]
            text += f"| {scenario.title} | {what} | {within_s:g} | {' | '.join(shown)} |\n"
    return text


def main() -> None:
    """Print the page for two runs."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("runs", nargs=2, type=Path, metavar=("EMBEDDED", "TOXIPROXY"))
    options = parser.parse_args()
    runs = [parse_run(path.read_text(encoding="utf-8")) for path in options.runs]
    files = sorted({verdict.path for verdicts in runs for verdict in verdicts})
    scenarios = [scenario for file in files for scenario in load_scenarios(Path(file))]
    print(render(runs, scenarios), end="")


if __name__ == "__main__":
    main()
