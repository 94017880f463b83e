"""What n runs say about the next one: the exact upper bound of a failure rate. Pure, without scipy."""

from __future__ import annotations

import math

CONFIDENCE = 0.95
_STEPS = 100  # halvings: far below what a float can tell apart


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
    for _ in range(_STEPS):
        middle = (low + high) / 2
        low, high = (
            (middle, high) if at_most(middle, failures, runs) > 1 - confidence else (low, middle)
        )
    return high
