"""The bounds hold: against exact values, and against simulation."""

from __future__ import annotations

from random import Random

import pytest

from chaos.checks import statistics as s


def test_small_sums_have_the_volume_of_a_simplex():
    assert s.sum_at_most([0.1, 0.2, 0.1]) == pytest.approx(0.4**3 / 6)
    assert s.sum_at_most([0.0, 0.0]) == 0.0
    assert s.sum_at_most([]) == 1.0


def test_no_bound_is_below_what_chance_gives():
    random = Random(5)
    rounds = 4000
    for count in (2, 3, 5, 20):
        samples = [[random.random() for _ in range(count)] for _ in range(rounds)]
        for bound in (
            s.sum_at_most,
            s.range_at_most,
            lambda row, n=count: s.distance_at_least(
                max(s.excess_below(row), s.excess_above(row)), n
            ),
        ):
            chances = [bound(row) for row in samples]
            for level in (0.5, 0.1, 0.01):
                # a valid bound is below `level` at most that often; five deviations of room
                allowed = level * rounds + 5 * (level * rounds) ** 0.5
                assert sum(chance <= level for chance in chances) <= allowed


def test_an_even_sample_is_near_uniform_and_a_point_is_not():
    even = [(i + 0.5) / 20 for i in range(20)]
    assert [s.excess_below(even), s.excess_above(even)] == pytest.approx([0.025, 0.025])
    assert s.excess_above([1.0] * 20) == s.excess_below([0.0] * 20) == 1.0
    assert s.range_at_most([0.5] * 3) == 0.0


def test_quantiles_and_slopes():
    assert s.quantile([1, 2, 3, 4, 5], 0.5) == 3
    assert s.quantile([0, 10], 0.25) == 2.5
    assert s.slope([1, 2, 3, 4]) == 1
    assert s.slope([1, 1, 1, 9, 1]) == 0
    assert s.slope([4]) == 0


def test_a_sum_above_its_mean_is_nothing_special_and_far_below_it_is():
    assert s.sum_at_most([0.9] * 30) == 1.0
    assert s.sum_at_most([0.1] * 40) < 1e-7
