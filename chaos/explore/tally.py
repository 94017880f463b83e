"""The results of a sweep as a value, and what they say: counts, times, states, a bound on the failure rate. Pure."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from chaos.checks.statistics import quantile
from chaos.checks.verdict import Outcome
from chaos.running.result import Row, Time

SHARES = (0.5, 0.95, 0.99, 1.0)
CONFIDENCE = 0.95
_HALVINGS = 100  # far below what a float can tell apart


@dataclass(frozen=True, slots=True, kw_only=True)
class Times:
    """The distribution of a measured time in seconds. `bound_s` is the largest theoretical bound among its runs."""

    count: int
    p50_s: float
    p95_s: float
    p99_s: float
    max_s: float
    bound_s: float | None


@dataclass(frozen=True)
class Tally:
    """Rows by scenario and seed, without their traces: a tally is kept in memory."""

    rows: Mapping[tuple[str, int], Row] = field(default_factory=dict)

    def __iter__(self) -> Iterator[Row]:
        return iter(sorted(self.rows.values(), key=lambda row: row.key))

    def __len__(self) -> int:
        return len(self.rows)

    def of_title(self, title: str) -> Tally:
        """Return the part that is about one scenario."""
        return Tally({key: row for key, row in self.rows.items() if key[0] == title})

    def counts(self) -> Counter[Outcome]:
        """Return how many runs ended how."""
        return Counter(row.outcome for row in self.rows.values())

    def not_passed(self) -> list[Row]:
        """Return the rows that did not pass, failures first."""
        order = {Outcome.FAIL: 0, Outcome.INCONCLUSIVE: 1}
        rows = [row for row in self.rows.values() if row.outcome in order]
        return sorted(rows, key=lambda row: (order[row.outcome], row.key))

    def times(self) -> dict[str, Times]:
        """Return the distribution of each measured time."""
        samples: dict[str, list[Time]] = defaultdict(list)
        for row in self:
            for time in row.times:
                samples[time.what].append(time)
        return {what: _times(rows) for what, rows in sorted(samples.items())}

    def states(self) -> Counter[str]:
        """Return how many runs reached each state."""
        return Counter(state for row in self.rows.values() for state in row.states)

    def failure_rate_at_most(self) -> float:
        """Return the upper 95 % bound of the failure rate. Inconclusive runs say nothing and do not count."""
        counts = self.counts()
        judged = counts[Outcome.FAIL] + counts[Outcome.PASS]
        return failure_rate_at_most(counts[Outcome.FAIL], judged) if judged else 1.0


def _times(rows: list[Time]) -> Times:
    p50, p95, p99, most = (quantile([row.took_s for row in rows], share) for share in SHARES)
    bound_s = max((row.bound_s for row in rows if row.bound_s is not None), default=None)
    return Times(count=len(rows), p50_s=p50, p95_s=p95, p99_s=p99, max_s=most, bound_s=bound_s)


def at_most(rate: float, failures: int, runs: int) -> float:
    """Return the probability of at most this many failures in so many runs at this rate (binomial)."""
    if rate <= 0.0 or failures >= runs:
        return 1.0
    if rate >= 1.0:
        return 0.0
    terms = (
        math.lgamma(runs + 1)
        - math.lgamma(count + 1)
        - math.lgamma(runs - count + 1)
        + count * math.log(rate)
        + (runs - count) * math.log1p(-rate)
        for count in range(failures + 1)
    )
    return min(1.0, math.fsum(math.exp(term) for term in terms))


def failure_rate_at_most(failures: int, runs: int, confidence: float = CONFIDENCE) -> float:
    """Return the upper Clopper–Pearson bound of the failure rate: it is no higher, with this confidence.

    One-sided. Without failures it is 1 - (1 - confidence) ** (1 / runs), about 3 / runs; with some, the rate at
    which so few would come out with probability 1 - confidence, found by bisection (Clopper and Pearson 1934,
    https://doi.org/10.1093/biomet/26.4.404). No runs say nothing: 1.

    Raises:
        ValueError: more failures than runs, or a confidence outside (0, 1).
    """
    if not 0 <= failures <= runs or not 0 < confidence < 1:
        raise ValueError(f"expected 0 <= failures <= runs, got {failures} of {runs}")
    if failures == runs:
        return 1.0
    if failures == 0:
        return -math.expm1(math.log(1 - confidence) / runs)
    low, high = failures / runs, 1.0
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        low, high = (
            (middle, high) if at_most(middle, failures, runs) > 1 - confidence else (low, middle)
        )
    return high
