"""The hunt: the basic schedules are run, then others are drawn and run, until one fails, which is then made small.

A hunt ends by time. What it knows by then is in the `Hunt`, whatever stopped it.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from chaos.checks.verdict import Outcome, Verdict
from chaos.errors import UsageError
from chaos.explore.finds import Find, failed_checks, judged, make_find, why_unjudged
from chaos.explore.promises import compose
from chaos.explore.schedules import (
    Schedule,
    SearchSpace,
    basic_schedules,
    fitting,
)
from chaos.explore.shrink import FEW, shrink
from chaos.running.job import make_job
from chaos.running.pool.suite import Bench
from chaos.scenario.model import Scenario
from chaos.subject import abilities_of
from chaos.subjects.load import load
from chaos.vocabulary.policies import Policy

# Runs are made with the seed that `trio-chaos run` has by default: what they show, it shows.
RUN_SEED = 1
# Once something is found, making it small may take this share of the budget beyond it.
SHRINK_SHARE = 0.5
# A find is small enough once so many runs in a row have made nothing smaller.
VAIN_RUNS_MAX = 100
# A run that is under way when the time is over may take so much longer.
GRACE_S = 2.0
# and so long the run of the reference peers that is made in the end
CORRECT_S = 10.0
# With so few entries a find is kept as its own steps have left it: what is smaller has mostly been tried before.
SMALL = 2

# What draws schedules until one fails; see `draw.search`.
Search = Callable[[SearchSpace, Callable[[Schedule], bool], int, Schedule | None], Schedule | None]


class OutOfTime(BaseException):
    """The time of a part of the hunt is over. No `Exception`, so that Hypothesis lets it pass."""


@dataclass(slots=True, kw_only=True)
class Progress:
    """How far a hunt has come; what `tell` is given."""

    tried: int = 0
    inconclusive: int = 0
    unjudged: Counter[str] = field(default_factory=Counter)  # why nothing of a run could be judged
    elapsed_s: float = 0.0
    found: tuple[str, ...] = ()
    entries: int = 0


@dataclass(kw_only=True)
class Hunt:
    """A hunt in one scenario. `run` may be called once.

    Args:
        space: where to hunt, see `search_space_of`.
        bench: makes the runs; the caller closes it.
        vain_runs_max: making a find small ends after so many runs in a row in vain.
        tell: is told of progress after each run; must not take long.
        clock: gives wall time in seconds.
    """

    space: SearchSpace
    bench: Bench
    budget_s: float
    seed: int = 1
    vain_runs_max: int = VAIN_RUNS_MAX
    tell: Callable[[Progress], None] = lambda _: None
    clock: Callable[[], float] = time.monotonic
    progress: Progress = field(default_factory=Progress, init=False)
    best: Schedule | None = field(default=None, init=False)
    found_at_s: float | None = field(default=None, init=False)
    others: set[tuple[str, ...]] = field(default_factory=set, init=False)
    _best_verdict: Verdict | None = field(default=None, init=False)
    _known: dict[str, bool] = field(default_factory=dict, init=False)
    _vain_runs: int = field(default=0, init=False)
    _ends_by_time: bool = field(default=False, init=False)
    _started_s: float = field(default=0.0, init=False)
    _deadline_s: float = field(default=0.0, init=False)

    def run(self) -> Find | None:
        """Hunt until the budget is spent or something is found and small; return it.

        Raises:
            UsageError: the subjects cannot do what the scenario asks, or Hypothesis is missing.
        """
        search = _import_search()
        self._started_s = self.clock()
        self._deadline_s = self._started_s + self.budget_s
        with suppress(OutOfTime):
            if not any(map(self.fails, basic_schedules(self.space, self.seed))):
                search(self.space, self.fails, self.seed, None)
        smaller = self.best
        while smaller is not None:
            with suppress(OutOfTime):
                smaller = shrink(self.space, smaller, self.fails)
            smaller = self._relative(search)
        return self.find()

    def _relative(self, search: Search) -> Schedule | None:
        """Return a schedule with fewer entries that fails too, drawn from what stands in the smallest find.

        This is the way out of a local minimum, where no step of shrinking leads on. It ends after so many runs in
        vain, or only by time as long as the find is more than a person reads at a glance.
        """
        best, self._vain_runs = self.best, 0
        if best is None or best.size <= SMALL:
            return None
        self._ends_by_time = best.size > FEW
        found = None
        with suppress(OutOfTime):
            found = search(self.space, self.fails, self.seed, best)
        self._ends_by_time = False
        return found

    def find(self) -> Find | None:
        """Return the smallest find so far."""
        if self.best is None or self._best_verdict is None:
            return None
        scenario, base = compose(self.space, self.best), Path(self.space.scenario.path).parent
        return make_find(scenario, self._best_verdict, base, self._correct(scenario))

    def _correct(self, scenario: Scenario) -> Verdict | None:
        """Return the verdict on the reference peers in a scenario; None if there is none."""
        peers = {
            side: getattr(scenario, side).model_copy(update={"use": "reference"})
            for side in ("client", "server")
        }
        job = make_job(scenario.model_copy(update=peers), network="simulated", seed=RUN_SEED)
        try:
            verdict = self.bench.run(job, limit_s=CORRECT_S)
        except UsageError:
            return None
        return verdict if len(judged(verdict)) == len(scenario.expect) else None

    def fails(self, drawn: Schedule) -> bool:
        """Run a schedule; tell whether it fails as the first one that failed did. Raises OutOfTime."""
        schedule = fitting(drawn)
        key = repr(schedule)
        if key not in self._known:
            enough = self._vain_runs >= self.vain_runs_max and not self._ends_by_time
            left_s = self._deadline_s - self.clock()
            if enough or left_s <= 0:
                raise OutOfTime
            self._known[key] = self._judge(schedule, left_s)
        return self._known[key]

    def _judge(self, schedule: Schedule, left_s: float) -> bool:
        scenario = compose(self.space, schedule)
        job = make_job(scenario, network="simulated", seed=RUN_SEED)
        verdict = self.bench.run(job, limit_s=left_s + GRACE_S)
        now_s, why, progress = self.clock(), why_unjudged(verdict), self.progress
        if why is not None and progress.tried and now_s > self._deadline_s:
            raise OutOfTime  # the run was ended since the time was over, and says nothing
        checks = failed_checks(verdict)
        progress.tried += 1
        progress.inconclusive += verdict.outcome is Outcome.INCONCLUSIVE
        if why is not None:
            progress.unjudged[why] += 1
        progress.elapsed_s = now_s - self._started_s
        if checks and not progress.found:
            progress.found, self.found_at_s = checks, progress.elapsed_s
            shrink_s = max(self.budget_s - progress.elapsed_s, SHRINK_SHARE * self.budget_s)
            self._deadline_s = self.clock() + shrink_s
        same = bool(checks) and checks == progress.found
        if checks and not same:
            self.others.add(checks)
        self._vain_runs += self.best is not None
        if same and (self.best is None or schedule.cost() < self.best.cost()):
            self.best, self._best_verdict, self._vain_runs = schedule, verdict, 0
            progress.entries = len(scenario.timeline)
        self.tell(progress)
        return same


def _import_search() -> Search:
    try:
        from chaos.explore.draw import search  # noqa: PLC0415 - Hypothesis is an extra
    except ModuleNotFoundError as error:
        if error.name != "hypothesis":
            raise
        raise UsageError(
            "a hunt needs Hypothesis; install it with: pip install 'trio-chaos[hunt]'"
        ) from error
    return search


def search_space_of(
    scenario: Scenario, *, client: str | None = None, server: str | None = None
) -> SearchSpace:
    """Return the space to hunt in: that of the scenario with these subjects in place of its own.

    Imports the subjects, to see what they can do.

    Raises:
        UsageError: the scenario cannot run on the simulated network.
        SubjectNotFound: a subject cannot be had.
    """
    name = scenario.title
    for side, given in (("client", client), ("server", server)):
        subject = getattr(scenario, side)
        if given is not None:
            gone = {"use": given, "command": None} | ({"url": None} if side == "server" else {})
            scenario = scenario.model_copy(update={side: subject.model_copy(update=gone)})
        elif subject.use is None:
            raise UsageError(
                f"{name}: its {side} is a program of its own; expected a callable, which a hunt needs "
                f"(--{side} gives another)"
            )
    if "simulated" not in scenario.networks:
        networks = ", ".join(scenario.networks)
        raise UsageError(
            f"{name} is meant for {networks}; hunts take place on the simulated network"
        )
    base = Path(scenario.path).parent
    return SearchSpace(
        scenario=scenario,
        client=abilities_of(load(scenario.client.use or "reference", "client", base=base)),
        server=abilities_of(load(scenario.server.use or "reference", "server", base=base)),
        policy=Policy.parse(scenario.client.policy),
    )
