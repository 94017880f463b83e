"""How many seeds per second a sweep does: a short half-open scenario with every check on.

    python benchmarks/sweep.py [scenario.yaml] [seeds] [processes]

The time that processes take to start is not counted: the rate is that of the rows from the first one on. In turns
with the reference client, a client of the user's own is swept: the same one, but in a file, so that each of its runs
is made in a process of its own.
"""

from __future__ import annotations

import sys
import time
from collections import Counter
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

from chaos.api import load_scenarios
from chaos.running.environment import cores
from chaos.running.job import Job
from chaos.running.pool.crew import Workers, run_jobs
from chaos.running.process import run_seeds
from chaos.scenario.vary import Bounds

SCENARIO = Path(__file__).parents[1] / "scenarios" / "11-half-open.yaml"
SEEDS = 400
PER_JOB = 10
TURNS = 4
OWN_CLIENT = "from chaos.reference.client import client\n"


def main(arguments: list[str]) -> None:
    """Print seeds per second: of one process by its own processor time, and of all together by the clock."""
    path = Path(arguments[0]) if arguments else SCENARIO
    seeds = int(arguments[1]) if len(arguments) > 1 else SEEDS
    width = int(arguments[2]) if len(arguments) > 2 else cores()
    scenario = load_scenarios(path)[0]

    def job(seeds: range, client: str | None = None) -> Job:
        return Job(
            scenario=scenario,
            network="simulated",
            seeds=tuple(seeds),
            bounds=Bounds(),
            client=client,
        )

    run_seeds(job(range(1)))
    started_s = time.process_time()
    run_seeds(job(range(1, 21)))
    alone = 20 / (time.process_time() - started_s)
    print(
        f"one process: {alone:.1f} seeds per second of processor time ({1000 / alone:.1f} ms each)"
    )
    rates: dict[str, list[float]] = {"the reference client": [], "a client in a file": []}
    with TemporaryDirectory() as folder:
        path = Path(folder) / "mine.py"
        path.write_text(OWN_CLIENT, encoding="utf-8")
        for turn in range(TURNS):
            for name, client in zip(rates, (None, f"{path}:client"), strict=True):
                part = range(1 + turn * seeds // TURNS, 1 + (turn + 1) * seeds // TURNS)
                rates[name].append(rate(job(part, client).portions(PER_JOB), width))
    for name, found in rates.items():
        print(f"{width} processes, {name}: {median(found):.1f} seeds per second by the clock")
    reference, own = (median(found) for found in rates.values())
    print(f"a client in a file: {own / reference:.0%} of the reference's seeds per second")


def rate(jobs: list[Job], width: int) -> float:
    """Return how many seeds per second a sweep does, from its first rows on."""
    outcomes: Counter[str] = Counter()
    first_s = None
    counted = 0
    for rows in run_jobs(jobs, Workers(width)):
        outcomes.update(row.outcome.value for row in rows)
        if rows and first_s is None:
            first_s = time.monotonic()
        elif rows:
            counted += len(rows)
    if set(outcomes) != {"PASS"}:
        raise SystemExit(f"expected each run to pass, got {dict(outcomes)}")
    return counted / (time.monotonic() - (first_s or 0.0))


if __name__ == "__main__":
    main(sys.argv[1:])
