"""How many seeds per second a sweep does: a short half-open scenario with every check on.

    python benchmarks/sweep.py [scenario.yaml] [seeds] [processes]

The time that processes take to start is not counted: the rate is that of the rows from the first one on.
"""

from __future__ import annotations

import sys
import time
from collections import Counter
from pathlib import Path

from chaos.api import load_scenarios
from chaos.running.pool.executors import Processes, cores, run_units
from chaos.running.pool.result import Unit
from chaos.running.pool.units import run_unit, split
from chaos.scenario.vary import Bounds

SCENARIO = Path(__file__).parents[1] / "scenarios" / "11-half-open.yaml"
SEEDS = 400
PER_UNIT = 10


def main(arguments: list[str]) -> None:
    """Print seeds per second: of one process by its own processor time, and of all together by the clock."""
    path = Path(arguments[0]) if arguments else SCENARIO
    seeds = int(arguments[1]) if len(arguments) > 1 else SEEDS
    jobs = int(arguments[2]) if len(arguments) > 2 else cores()
    scenario = load_scenarios(path)[0]
    data = scenario.to_json()
    run_unit(Unit(scenario=data, seeds=(0,), bounds=Bounds()))
    started_s = time.process_time()
    run_unit(Unit(scenario=data, seeds=tuple(range(1, 21)), bounds=Bounds()))
    alone = 20 / (time.process_time() - started_s)
    print(
        f"one process: {alone:.1f} seeds per second of processor time ({1000 / alone:.1f} ms each)"
    )
    units = [
        Unit(scenario=data, seeds=portion, bounds=Bounds())
        for portion in split(PER_UNIT, range(1, seeds + 1))
    ]
    outcomes: Counter[str] = Counter()
    first_s = None
    counted = 0
    for rows in run_units(units, Processes(width=jobs)):
        outcomes.update(row.outcome.value for row in rows)
        if rows and first_s is None:
            first_s = time.monotonic()
        elif rows:
            counted += len(rows)
    spent_s = time.monotonic() - (first_s or 0.0)
    together = ", ".join(f"{count} {word}" for word, count in outcomes.items())
    print(f"{jobs} processes: {counted / spent_s:.1f} seeds per second by the clock ({together})")


if __name__ == "__main__":
    main(sys.argv[1:])
