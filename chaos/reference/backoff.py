"""When to try again: the reconnection schedule. Pure: randomness is an argument, and nothing here sleeps.

Delay n (counted from 0 since the last reset) has the cap `min(max_s, initial_s × factor^n)`:

    none           exactly the cap
    full           uniform in [0, cap]
    equal          uniform in [cap / 2, cap]
    decorrelated   min(max_s, uniform in [initial_s, 3 × the delay before])

The names are those of "Exponential Backoff And Jitter" (https://aws.amazon.com/blogs/architecture/
exponential-backoff-and-jitter/). With `first_delay: random` delay 0 is uniform in [0, initial_s] whatever the
jitter, as RFC 6455 §7.2.3 asks, except that `equal` keeps its own lower half, which is random within it as well.
"""

from __future__ import annotations

from dataclasses import dataclass
from random import Random

from chaos.scenario.model import BackoffPlan
from chaos.vocabulary.policies import Reaction

# factor^n leaves the range of a float near n = 300; every useful schedule has met its maximum long before
_EXPONENT_MAX = 64
# What a Retry-After is exceeded by, at random, so that the clients that were refused together do not return together.
_RETRY_AFTER_JITTER = 0.1
_RETRY_AFTER_JITTER_S_MIN = 0.1


@dataclass(slots=True)
class Backoff:
    """The schedule of one client: how many delays it has given and how many attempts have failed since a reset.

    The owner calls `failed` after each attempt that brought no stable connection, `delay_s` for the pause before
    the next one, and `reset` once a connection was open long enough to count as a success.
    """

    options: BackoffPlan
    random: Random
    delays: int = 0
    failures: int = 0
    previous_s: float | None = None
    jumped: bool = False

    def reset(self) -> None:
        """Start over: the last connection was stable."""
        self.delays = 0
        self.failures = 0
        self.previous_s = None
        self.jumped = False

    def failed(self) -> None:
        """Count an attempt that was refused, or whose connection ended before it was stable."""
        self.failures += 1

    @property
    def exhausted(self) -> bool:
        """Whether as many attempts in a row have failed as `attempts_max` allows."""
        limit = self.options.attempts_max
        return limit is not None and self.failures >= limit

    @property
    def cap_s(self) -> float:
        """The cap of the next delay."""
        growth = self.options.factor ** min(self.delays, _EXPONENT_MAX)
        return min(self.options.max_s, self.options.initial_s * growth)

    def delay_s(self, reaction: Reaction, retry_after_s: float | None = None) -> float:
        """Return the seconds to wait before the next attempt, and advance the schedule.

        NOW is no delay at all, once between two resets, and backoff after that. LONG is drawn between half the
        maximum and the maximum. Retry-After is a floor, with up to 10 % (at least 0.1 s) above it.
        """
        assert reaction is not Reaction.NEVER, "who never tries again needs no delay"
        delay_s = self._draw(reaction)
        if retry_after_s is None:
            return delay_s
        spread_s = max(_RETRY_AFTER_JITTER_S_MIN, retry_after_s * _RETRY_AFTER_JITTER)
        return max(delay_s, retry_after_s) + self.random.uniform(0.0, spread_s)

    def _draw(self, reaction: Reaction) -> float:
        if reaction is Reaction.NOW and not self.jumped:
            self.jumped = True
            return 0.0
        if reaction is Reaction.LONG:
            # below half the maximum it would not be long; later delays stay at the maximum
            self.delays = max(self.delays, _EXPONENT_MAX)
            self.previous_s = self.options.max_s
            return self.random.uniform(self.options.max_s / 2, self.options.max_s)
        delay_s = self._jittered()
        self.previous_s = delay_s
        self.delays += 1
        return delay_s

    def _jittered(self) -> float:
        cap_s, jitter = self.cap_s, self.options.jitter
        if jitter == "equal":
            return self.random.uniform(cap_s / 2, cap_s)
        if jitter == "full" or (self.delays == 0 and self.options.first_delay == "random"):
            return self.random.uniform(0.0, cap_s)
        if jitter == "decorrelated":
            low_s = self.options.initial_s
            # a random first delay may be near 0, from which three times as much would never grow
            before_s = max(low_s, self.previous_s or 0.0)
            return min(self.options.max_s, self.random.uniform(low_s, before_s * 3))
        return cap_s
