"""The reconnection schedule, held against its own definition."""

from __future__ import annotations

from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chaos.reference.backoff import Backoff
from chaos.scenario.model import BackoffPlan
from chaos.vocabulary.policies import Reaction

B = Reaction.BACKOFF


def schedule(count: int, seed: int = 1, **options: object) -> list[float]:
    backoff = Backoff(BackoffPlan.model_construct(**options), Random(seed))  # type: ignore[arg-type]
    return [backoff.delay_s(B) for _ in range(count)]


def test_without_jitter_delays_double_up_to_the_maximum() -> None:
    delays = schedule(6, jitter="none", first_delay="none", initial_s=1, factor=2, max_s=8)
    assert delays == [1, 2, 4, 8, 8, 8]


def test_a_random_first_delay_takes_the_first_place_in_the_schedule() -> None:
    first, *others = schedule(4, jitter="none", initial_s=1, factor=2, max_s=8)
    assert 0 <= first < 1
    assert others == [2, 4, 8]


@given(
    jitter=st.sampled_from(["none", "full", "equal", "decorrelated"]),
    first=st.sampled_from(["random", "none"]),
    initial_s=st.floats(0.01, 60),
    factor=st.floats(1, 10),
    max_s=st.floats(0.01, 600),
    seed=st.integers(0, 2**32),
)
def test_every_delay_lies_in_its_envelope(
    jitter: str, first: str, initial_s: float, factor: float, max_s: float, seed: int
) -> None:
    delays = schedule(
        12, seed, jitter=jitter, first_delay=first, initial_s=initial_s, factor=factor, max_s=max_s
    )
    before = initial_s
    for n, delay in enumerate(delays):
        cap = min(max_s, initial_s * factor**n)
        low = {"none": cap, "full": 0.0, "equal": cap / 2, "decorrelated": min(initial_s, max_s)}
        high = cap if jitter != "decorrelated" else min(max_s, max(before, initial_s) * 3)
        lowest = 0.0 if n == 0 and first == "random" and jitter != "equal" else low[jitter]
        assert lowest <= delay <= high
        before = delay


def test_the_full_range_is_used() -> None:
    delays = [schedule(1, seed, initial_s=1)[0] for seed in range(200)]
    assert min(delays) < 0.1
    assert max(delays) > 0.9
    assert 0.4 < sum(delays) / 200 < 0.6


def test_the_same_seed_gives_the_same_delays_and_another_seed_others() -> None:
    assert schedule(8, 5) == schedule(8, 5)
    assert schedule(8, 5) != schedule(8, 6)


def test_now_is_one_attempt_at_once_and_then_backoff() -> None:
    options = BackoffPlan.model_construct(jitter="none", first_delay="none")
    backoff = Backoff(options, Random(1))
    assert [backoff.delay_s(Reaction.NOW) for _ in range(3)] == [0, 1, 2]
    backoff.reset()
    assert backoff.delay_s(Reaction.NOW) == 0


def test_long_starts_in_the_upper_half_of_the_maximum_and_stays_there() -> None:
    backoff = Backoff(BackoffPlan.model_construct(jitter="none", max_s=30), Random(1))
    assert 15 <= backoff.delay_s(Reaction.LONG) <= 30
    assert backoff.delay_s(B) == 30


@pytest.mark.parametrize(("floor", "most"), [(0.0, 0.1), (0.5, 0.6), (7.0, 7.7), (600.0, 660.0)])
def test_retry_after_is_a_floor_with_a_little_jitter_above(floor: float, most: float) -> None:
    for seed in range(50):
        backoff = Backoff(BackoffPlan.model_construct(initial_s=1e-9), Random(seed))
        assert floor <= backoff.delay_s(B, floor) <= most + 1e-6


def test_a_longer_delay_of_the_schedule_wins_over_retry_after() -> None:
    options = BackoffPlan.model_construct(initial_s=10, jitter="none", first_delay="none")
    assert 10 <= Backoff(options, Random(1)).delay_s(B, 2.0) <= 10.2


def test_attempts_are_counted_until_a_reset() -> None:
    backoff = Backoff(BackoffPlan.model_construct(attempts_max=2), Random(1))
    backoff.failed()
    assert not backoff.exhausted
    backoff.failed()
    assert backoff.exhausted
    backoff.reset()
    assert not backoff.exhausted


def test_a_very_long_outage_does_not_overflow() -> None:
    assert schedule(2_000, factor=10, jitter="none", first_delay="none")[-1] == 30
