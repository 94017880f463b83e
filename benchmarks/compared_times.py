"""How long detection and recovery took in the shipped scenarios, on real sockets and clocks and on simulated ones.

Makes the Markdown of `docs/reference/compared-times.md` from what one comparison wrote:

    trio-chaos run scenarios/ --compare embedded,simulated --out compared
    python benchmarks/compared_times.py compared > docs/reference/compared-times.md
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from measured_times import FIGURES, finding_of, lines_of

from chaos.api import load_scenarios
from chaos.checks.verdict import Finding, Outcome, Verdict
from chaos.scenario.model import Scenario
from chaos.trace import Trace, parse_trace

REAL, SIMULATED = "embedded", "simulated"
# differences from here on are looked into one by one
LARGE_S = 0.05

HEAD = """\
# Compared times

<!-- Made by `benchmarks/compared_times.py`. Do not edit. -->

How long detection and recovery took in the shipped scenarios, in seconds: on the machine's own sockets and
clock (`embedded`), and on simulated sockets and virtual time (`simulated`), with the same seed. Detection
counts from the fault, recovery from the end of its window (or from the instant), until a frame has passed
again. Of several clients or repetitions of an entry the slowest counts. `kept` means that the connection
survived. The difference is positive where the real run took longer.

    trio-chaos run scenarios/ --compare embedded,simulated --out compared
    python benchmarks/compared_times.py compared > docs/reference/compared-times.md

"""

CAUSES = """\

## Where the differences come from

Each was traced in the two runs' `trace.jsonl`, the large ones first.

- **An attempt on the other side of an edge.** Waits are drawn from the same seed, so both runs draw the same
  numbers in the same order, but real time has moved on by some milliseconds. Where an attempt falls close to
  the end of a window, it is refused on one network and accepted on the other, and the whole next wait lies
  between them. In `live-updates-storm` a simulated client tries 3 ms before the server is back, is refused, and
  waits 3.8 s more; in the real run that attempt came just after it. The slowest client is then another one, and
  the difference has either sign.
- **Processing is free on virtual time.** A burst costs a real event loop time for each connection, and virtual
  time nothing. In `five-hundred-clients` the slowest client is the same on both networks and draws the same
  wait; it hears of the reset 0.3 s late because 499 others are told in the same moment, and its attempt waits
  behind theirs. The column `lag` above is what the loop was late in all.
- **The phase of heartbeats and workloads.** Detection counts from the fault to the deadline of the first ping
  that gets no answer. On virtual time the connection opens 0.2 ms after time zero and pings fall on whole
  intervals, so that in `half-open` a ping leaves just after the fault: 3.00 s, the pong timeout alone. A real
  connection opens 30 to 140 ms after time zero, once the client has been started, and each interval adds its
  round trip: the same ping leaves that much later, and the client's next attempt too. The same holds for
  `server-frees-dead-client`, `stall-outlasts-heartbeat` and `forgotten-idle-flow`, and for faults that wait for
  the next byte, such as `reset_peer`.
- **Each attempt costs some milliseconds.** A refused attempt takes 0.1 ms on virtual time and 1 to 6 ms on the
  machine; a series of five adds up.
- **Timers and steps are late by up to a millisecond or two** on a real clock, those of the timeline too. Bounds
  count from the recorded start of an entry, so that this cancels out.

What does not differ: whether a peer notices, comes back, loses a message or leaks. Retransmission makes no
difference here, since on both networks these faults act in the link, above TCP: faults below it exist on the
simulated network only, and are held against real kernels in [the simulated
network](../explanation/simulation.md).
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """One scenario on one network."""

    verdict: Verdict
    trace: Trace

    def lag_s(self) -> float:
        """Return how late the event loop was in all while something was judged."""
        return sum(float(event["lag_s"]) for event in self.trace.select("lag"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """A line of the table: what was timed, and the findings on both networks."""

    scenario: Scenario
    what: str
    within_s: float
    real: Finding
    simulated: Finding
    figure: str
    lag_s: float

    def time_s(self, finding: Finding) -> float | None:
        """Return the time that a finding measured; None where the connection was kept."""
        value = finding.measured.get(self.figure)
        kept = finding.measured.get("remark") is not None
        return float(value) if value is not None and not kept else None

    @property
    def difference_s(self) -> float | None:
        """How much longer the real run took."""
        real, simulated = self.time_s(self.real), self.time_s(self.simulated)
        return real - simulated if real is not None and simulated is not None else None


def read_runs(folder: Path) -> dict[str, Run]:
    """Return the runs that a comparison wrote for one network, by the title of the scenario."""
    runs = {}
    for file in sorted(folder.glob("*/verdict.json")):
        verdict = Verdict.from_json(json.loads(file.read_text(encoding="utf-8")))
        with (file.parent / "trace.jsonl").open(encoding="utf-8") as lines:
            runs[verdict.scenario] = Run(verdict=verdict, trace=parse_trace(lines))
    return runs


def rows_of(scenario: Scenario, real: Run, simulated: Run) -> Iterator[Row]:
    """Yield the lines of a scenario."""
    for number, what, within_s in lines_of(scenario):
        ours = [finding_of(run.verdict, scenario, number) for run in (real, simulated)]
        if ours[0] is None or ours[1] is None:
            continue
        yield Row(
            scenario=scenario,
            what=what,
            within_s=within_s,
            real=ours[0],
            simulated=ours[1],
            figure=FIGURES[scenario.expect[number].check][0],
            lag_s=real.lag_s(),
        )


def cell(row: Row, finding: Finding) -> str:
    """Return what a cell shows: the time, or what came in its place."""
    if finding.outcome is not Outcome.PASS:
        return finding.outcome.value.lower()
    time_s = row.time_s(finding)
    return "kept" if time_s is None else f"{time_s:.3f}"


def render(rows: Sequence[Row], agreeing: int, compared: int) -> str:
    """Return the page."""
    text = HEAD
    text += (
        f"{agreeing} of {compared} scenarios that run on both have the same verdict on both.\n\n"
    )
    text += "| scenario | what | within | embedded | simulated | difference |\n"
    text += "| --- | --- | ---: | ---: | ---: | ---: |\n"
    for row in rows:
        apart = f"{row.difference_s:+.3f}" if row.difference_s is not None else "–"
        shown = [row.scenario.title, row.what, f"{row.within_s:g}", cell(row, row.real)]
        text += f"| {' | '.join([*shown, cell(row, row.simulated), apart])} |\n"
    return text + large(rows) + CAUSES


def large(rows: Sequence[Row]) -> str:
    """Return the table of the large differences, with what tells their causes apart."""
    found = [row for row in rows if abs(row.difference_s or 0.0) >= LARGE_S]
    found.sort(key=lambda row: -abs(row.difference_s or 0.0))
    text = f"\n## Differences of {LARGE_S:g} s and more\n\n"
    text += "The slowest client and its attempts on each network, and what the real event loop was late in all.\n\n"
    text += "| scenario | what | difference | client | attempts | lag |\n"
    text += "| --- | --- | ---: | --- | --- | ---: |\n"
    for row in found:
        pairs = [
            f"{row.real.measured.get(name, '–')} and {row.simulated.measured.get(name, '–')}"
            for name in ("client", "attempts")
        ]
        pairs = ["–" if pair == "– and –" else pair for pair in pairs]
        cells = [row.scenario.title, row.what, f"{row.difference_s:+.3f}", *pairs]
        text += f"| {' | '.join([*cells, f'{row.lag_s:.2f}'])} |\n"
    return text


def main() -> None:
    """Print the page for one comparison."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("folder", type=Path, help="what `--out` of the comparison named")
    folder = parser.parse_args().folder
    real, simulated = (read_runs(folder / network) for network in (REAL, SIMULATED))
    both = sorted(real.keys() & simulated.keys())
    files = sorted({real[title].verdict.path for title in both})
    scenarios = [row for file in files for row in load_scenarios(Path(file)) if row.title in both]
    rows = [
        line for row in scenarios for line in rows_of(row, real[row.title], simulated[row.title])
    ]
    agreeing = sum(real[name].verdict.outcome is simulated[name].verdict.outcome for name in both)
    print(render(rows, agreeing, len(both)), end="")


if __name__ == "__main__":
    main()
