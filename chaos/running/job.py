"""What is asked of a process: some runs of one scenario. Plain data, which crosses process borders as it is."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Literal

from chaos.scenario.model import Scenario
from chaos.scenario.vary import Bounds, vary

Keep = Literal["none", "failures", "all"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """Runs of one scenario: with which seeds, on which network, between whom, and where results go.

    Without `bounds` the scenario runs as it is written, whatever the seed; with them each seed varies it. `of`
    identifies the question that the job is a part of, so that results of another one are not taken for its own.
    """

    scenario: Scenario
    network: str
    seeds: tuple[int, ...]
    bounds: Bounds | None = None
    client: str | None = None  # takes the place of the scenario's own
    server: str | None = None
    toxiproxy: str | None = None  # URL of a Toxiproxy that is already running
    out: str | None = None  # folder for trace.jsonl and verdict.json
    strict: bool = False  # whether what is not applicable is INCONCLUSIVE
    keep: Keep = "none"  # whose traces come back with the rows
    of: str = ""

    @property
    def seed(self) -> int:
        """The only seed of a job of one run, or else the first."""
        return self.seeds[0]

    @property
    def title(self) -> str:
        """Name and matrix cell of the scenario."""
        return self.scenario.title

    @property
    def clients(self) -> int:
        """How many clients each run has."""
        return self.scenario.client.count

    @property
    def duration_s(self) -> float:
        """How long the scenario is."""
        return self.scenario.duration_s

    @property
    def overrides(self) -> tuple[str, ...]:
        """The options by which the runs differ from the scenario's file, as the command line writes them."""
        given = (
            ("--client", self.client),
            ("--server", self.server),
            ("--toxiproxy", self.toxiproxy),
        )
        words = [word for name, value in given if value is not None for word in (name, value)]
        return (*words, *(("--strict",) if self.strict else ()))

    def alone(self, seed: int) -> Job:
        """Return the job of one of the seeds, with the scenario as that seed varies it."""
        varied = vary(self.scenario, seed, self.bounds) if self.bounds else self.scenario
        return replace(self, scenario=varied, seeds=(seed,), bounds=None)

    def portions(self, size: int) -> list[Job]:
        """Return jobs of at most so many of the seeds each."""
        starts = range(0, len(self.seeds), size)
        return [replace(self, seeds=self.seeds[at : at + size]) for at in starts]

    def cast(self) -> Scenario:
        """Return the scenario with the given subjects in place of its own."""
        scenario = self.scenario
        for side, use in (("client", self.client), ("server", self.server)):
            if use is not None:
                subject = getattr(scenario, side).model_copy(update={"use": use})
                scenario = scenario.model_copy(update={side: subject})
        return scenario


def make_job(scenario: Scenario, *, seed: int, **rest: Any) -> Job:
    """Return the job of one run of a scenario."""
    return Job(scenario=scenario, seeds=(seed,), **rest)
