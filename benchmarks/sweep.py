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
from chaos.running.environment import cores
from chaos.running.job import Job
from chaos.running.pool.crew import Workers, run_jobs
from chaos.running.process import run_seeds
from chaos.scenario.vary import Bounds

SCENARIO = Path(__file__).parents[1] / "scenarios" / "11-half-open.yaml"
SEEDS = 400
PER_JOB = 10


def main(arguments: list[str]) -> None:
    """Print seeds per second: of one process by its own processor time, and of all together by the clock."""
    path = Path(arguments[0]) if arguments else SCENARIO
    seeds = int(arguments[1]) if len(arguments) > 1 else SEEDS
    width = int(arguments[2]) if len(arguments) > 2 else cores()
    scenario = load_scenarios(path)[0]

    def job(seeds: range) -> Job:
        return Job(scenario=scenario, network="simulated", seeds=tuple(seeds), bounds=Bounds())

    run_seeds(job(range(1)))
    started_s = time.process_time()
    run_seeds(job(range(1, 21)))
    alone = 20 / (time.process_time() - started_s)
    print(
        f"one process: {alone:.1f} seeds per second of processor time ({1000 / alone:.1f} ms each)"
    )
    outcomes: Counter[str] = Counter()
    first_s = None
    counted = 0
    for rows in run_jobs(job(range(1, seeds + 1)).portions(PER_JOB), Workers(width)):
        outcomes.update(row.outcome.value for row in rows)
        if rows and first_s is None:
            first_s = time.monotonic()
        elif rows:
            counted += len(rows)
    spent_s = time.monotonic() - (first_s or 0.0)
    together = ", ".join(f"{count} {word}" for word, count in outcomes.items())
    print(f"{width} processes: {counted / spent_s:.1f} seeds per second by the clock ({together})")


if __name__ == "__main__":
    main(sys.argv[1:])
