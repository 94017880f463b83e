"""What a worker does with a unit: each of its seeds, one after the other, in this process."""

from __future__ import annotations

import threading
from collections.abc import Sequence

from chaos.checks.verdict import Outcome
from chaos.errors import ChaosError, SubjectNotFound, UsageError
from chaos.running.pool.patience import allowed_s, limited
from chaos.running.pool.result import Row, Unit, digest_of, reason_of, times_of
from chaos.running.worker import make_job, run_trace
from chaos.scenario.model import Scenario
from chaos.scenario.vary import vary
from chaos.trace import dump_trace
from chaos.vocabulary.sometimes import states_reached

NETWORK = "simulated"
# a simulated run replaces clocks and sockets of the whole process: one at a time
_ALONE = threading.Lock()


def run_unit(unit: Unit) -> list[Row]:
    """Run the seeds of a unit and return a row for each.

    Raises:
        SubjectNotFound: a subject's name cannot be imported; so it is for every seed.
        UsageError: a subject cannot do what the scenario asks.
    """
    scenario = Scenario.from_json(unit.scenario)
    with _ALONE:
        return [run_seed(unit, scenario, seed) for seed in unit.seeds]


def run_seed(unit: Unit, scenario: Scenario, seed: int) -> Row:
    """Run one seed of a unit."""
    varied = vary(scenario, seed, unit.bounds) if unit.bounds is not None else scenario
    job = make_job(varied, network=NETWORK, seed=seed, client=unit.client, server=unit.server)
    limit_s = allowed_s(scenario.client.count)
    late = f"took longer than {limit_s:g} s of real time"
    with limited(limit_s) as patience:
        try:
            verdict, trace = run_trace(job, lambda _: None)
        except (SubjectNotFound, UsageError):
            raise
        except ChaosError as error:
            return lost_row(unit, seed, str(error))
        except BaseException:
            if not patience.over:
                raise
            return lost_row(unit, seed, late)
    if patience.over:  # a subject has swallowed it
        return lost_row(unit, seed, late)
    wanted = unit.keep == "all" or (unit.keep == "failures" and verdict.outcome is not Outcome.PASS)
    return Row(
        title=scenario.title,
        seed=seed,
        path=scenario.path,
        outcome=verdict.outcome,
        reason=reason_of(verdict),
        times=times_of(verdict, varied),
        states=states_reached(trace),
        digest=digest_of(trace),
        of=unit.of,
        trace=dump_trace(trace) if wanted else None,
    )


def lost_row(unit: Unit, seed: int, reason: str) -> Row:
    """Return the row of a run that nothing is known about."""
    scenario = unit.scenario
    cell = scenario.get("cell")
    title = f"{scenario['name']}[{cell}]" if cell else str(scenario["name"])
    return Row(
        title=title,
        seed=seed,
        path=str(scenario.get("path", "")),
        outcome=Outcome.INCONCLUSIVE,
        reason=f"run: {reason}",
        of=unit.of,
    )


def split(unit_size: int, seeds: Sequence[int]) -> list[tuple[int, ...]]:
    """Return the seeds in portions of at most this size."""
    return [tuple(seeds[at : at + unit_size]) for at in range(0, len(seeds), unit_size)]
