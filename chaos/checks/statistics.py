"""How improbable a sample is under a uniform distribution: upper bounds that hold for every sample size.

Bounds rather than asymptotic p-values, so that a right client is never called wrong: a value below `ALPHA` happens
by chance less often than that.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import combinations

ALPHA = 1e-6
SLOPE_VALUES_MAX = 100


def sum_at_most(shares: Sequence[float]) -> float:
    """Return an upper bound on the chance that as many uniform draws from [0, 1] sum to no more than these.

    The smaller of the simplex volume s^n / n! (exact for s ≤ 1, an upper bound above) and Hoeffding's
    exp(−2 t² / n) with t the distance below n / 2 (https://doi.org/10.1080/01621459.1963.10500830).
    """
    count, total = len(shares), sum(min(max(share, 0.0), 1.0) for share in shares)
    if count == 0:
        return 1.0
    if total <= 0.0:
        return 0.0
    volume = math.exp(min(0.0, count * math.log(total) - math.lgamma(count + 1)))
    below = count / 2 - total
    hoeffding = math.exp(-2 * below * below / count) if below > 0 else 1.0
    return min(volume, hoeffding)


def least_mean(count: int) -> float:
    """Return the greatest mean of so many uniform draws that `sum_at_most` would call too low; 0 where none would."""
    low, high = 0.0, 0.5
    for _ in range(40):
        middle = (low + high) / 2
        found = count > 0 and sum_at_most([middle] * count) < ALPHA
        low, high = (middle, high) if found else (low, middle)
    return low


def range_at_most(shares: Sequence[float]) -> float:
    """Return an upper bound on the chance that as many uniform draws lie as close together as these.

    The range R of n draws has P(R ≤ w) ≤ n w^(n−1): one is the least, each other lies within w above it. That holds
    for every density of at most 1, so what measuring adds to the draws does no harm, as long as nothing is clipped.
    """
    count = len(shares)
    if count < 2:
        return 1.0
    width = min(1.0, max(shares) - min(shares))
    return min(1.0, count * width ** (count - 1))


def excess_below(shares: Sequence[float]) -> float:
    """Return how far this sample is too low for uniform: the greatest excess of its distribution over x."""
    ordered, count = sorted(shares), len(shares)
    return max((rank + 1) / count - share for rank, share in enumerate(ordered))


def excess_above(shares: Sequence[float]) -> float:
    """Return how far this sample is too high for uniform: the greatest excess of x over its distribution."""
    return excess_below([1 - share for share in shares])


def distance_at_least(distance: float, count: int) -> float:
    """Return an upper bound on the chance of a Kolmogorov–Smirnov distance, both sides: 2 exp(−2 n D²).

    Massart 1990 (https://doi.org/10.1214/aop/1176990746), for every n.
    """
    return min(1.0, 2 * math.exp(-2 * count * distance * distance))


def quantile(values: Sequence[float], share: float) -> float:
    """Return the quantile of a sample, interpolated linearly."""
    ordered = sorted(values)
    position = share * (len(ordered) - 1)
    low = math.floor(position)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (ordered[high] - ordered[low]) * (position - low)


def slope(values: Sequence[float]) -> float:
    """Return the Theil–Sen slope per step: the median of the slopes between all pairs, robust against outliers.

    Of a long series, values at equal distances are taken: pairs grow with the square of their number.
    """
    last = len(values) - 1
    count = min(len(values), SLOPE_VALUES_MAX)
    places = [round(turn * last / max(1, count - 1)) for turn in range(count)]
    slopes = [
        (values[later] - values[earlier]) / (later - earlier)
        for earlier, later in combinations(places, 2)
    ]
    return quantile(slopes, 0.5) if slopes else 0.0
