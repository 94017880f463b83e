"""Models the network without any fault: the delays, bandwidths, queues and losses of a scenario's `paths`.

`reach_s` and its kin say by when a packet has certainly come, for checks that must allow for it. What is drawn has no
certain end: there the quantile is meant that one packet in a million exceeds.
"""

from __future__ import annotations

import math
from statistics import NormalDist
from typing import Annotated, Literal, Self

from pydantic import BeforeValidator, Field, WithJsonSchema, model_validator

from chaos.vocabulary.base import DURATION_PATTERN, Bandwidth, Duration, Settings, Size

Leg = Literal["client", "server"]
Way = Literal["upstream", "downstream"]
WAYS: tuple[Way, Way] = ("upstream", "downstream")
LEGS: tuple[Leg, Leg] = ("client", "server")

# the share of packets that may be later than `reach_s`
LATER = 1e-6
# a normal distribution is above its mean by more than this many standard deviations in that share of draws
DEVIATIONS = NormalDist().inv_cdf(1 - LATER)
ROWS_MAX = 10_000
# one full packet: a queue below that would let nothing but acknowledgements through
QUEUE_BYTES_MIN = 1_500
# TCP sends again one round trip plus this after a packet was lost (RFC 6298, Linux's TCP_RTO_MIN), then at doubling
# intervals; Linux's timer wheel makes a long wait up to an eighth longer
RETRANSMIT_S = 0.2
WHEEL = 1.125


class Uniform(Settings):
    """Anywhere between two values."""

    low_s: Duration = Field(alias="low", description="the least delay")
    high_s: Duration = Field(alias="high", description="the greatest delay")

    @model_validator(mode="after")
    def _rising(self) -> Self:
        if self.high_s < self.low_s:
            raise ValueError("expected `high` to be at least `low`")
        return self


class Normal(Settings):
    """A normal distribution, cut off at zero."""

    mean_s: Duration = Field(alias="mean", description="the mean, before the cut")
    deviation_s: Duration = Field(alias="deviation", description="the standard deviation")


class Lognormal(Settings):
    """Most delays are near the median and a few far above: what mobile networks look like."""

    median_s: Duration = Field(alias="median", description="half of the delays are below it")
    sigma: float = Field(
        ge=0, le=3, description="spread: one packet in six is above `median` times e^sigma"
    )


class Pareto(Settings):
    """A heavy tail above the least delay; the mean is `least` times alpha / (alpha - 1)."""

    least_s: Duration = Field(alias="least", description="the least delay")
    alpha: float = Field(ge=1.5, le=100, description="the smaller, the heavier the tail")


def _pairs(value: object) -> object:
    """Return lists of lists as tuples of tuples: strict validation takes nothing else."""
    if isinstance(value, list | tuple):
        return tuple(tuple(row) if isinstance(row, list) else row for row in value)
    return value


_DURATION_SCHEMA = {"type": "string", "pattern": DURATION_PATTERN}
Rows = Annotated[
    tuple[tuple[Duration, Duration], ...],
    BeforeValidator(_pairs),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "string", "format": "path"},
                {
                    "type": "array",
                    "minItems": 1,
                    "items": {
                        "type": "array",
                        "prefixItems": [_DURATION_SCHEMA, _DURATION_SCHEMA],
                        "minItems": 2,
                        "maxItems": 2,
                    },
                },
            ]
        }
    ),
]


class Delay(Settings):
    """A delay that is drawn anew for each packet, or was recorded: exactly one of these."""

    uniform: Uniform | None = Field(None, description="anywhere between two values")
    normal: Normal | None = Field(None, description="a normal distribution, cut off at zero")
    lognormal: Lognormal | None = Field(None, description="most near the median, a few far above")
    pareto: Pareto | None = Field(None, description="a heavy tail above the least")
    trace: Rows | None = Field(
        None,
        description="as it was recorded, each delay until the next: a file beside the scenario with a line "
        "`time delay` in seconds for each, or `[[0s, 40ms], [10s, 300ms]]`",
    )

    @model_validator(mode="after")
    def _just_one(self) -> Self:
        given = [name for name in type(self).model_fields if getattr(self, name) is not None]
        if len(given) != 1:
            names = ", ".join(type(self).model_fields)
            got = " and ".join(f"`{name}`" for name in given) or "none"
            raise ValueError(f"expected just one of {names}, or a duration alone; got {got}")
        if self.trace is not None:
            times = [at_s for at_s, _ in self.trace]
            if not times or times != sorted(times):
                raise ValueError("expected a trace of at least one row with rising times")
            if len(times) > ROWS_MAX:
                raise ValueError(f"expected a trace of at most {ROWS_MAX} rows, got {len(times)}")
        return self

    def reach_s(self) -> float:
        """Return the delay that at most one packet in a million exceeds; of a trace its greatest."""
        if self.uniform is not None:
            return self.uniform.high_s
        if self.normal is not None:
            return self.normal.mean_s + DEVIATIONS * self.normal.deviation_s
        if self.lognormal is not None:
            return self.lognormal.median_s * math.exp(DEVIATIONS * self.lognormal.sigma)
        if self.pareto is not None:
            return float(self.pareto.least_s * LATER ** (-1 / self.pareto.alpha))
        assert self.trace is not None
        return max(delay_s for _, delay_s in self.trace)


class Direction(Settings):
    """One direction between two hosts; what is not set here is as it is said for both."""

    delay: Duration | Delay | None = Field(
        None, description="one way, of each packet; packets keep their order"
    )
    bytes_per_s: Bandwidth | None = Field(
        None, alias="bandwidth", description="what passes at most, with 40 bytes of headers each"
    )
    queue_bytes: Size | None = Field(
        None, alias="queue", description="what waits for the bandwidth; more is lost. Unset: any"
    )
    loss: float | None = Field(None, ge=0, le=1, description="share of the packets that are lost")

    def loses(self) -> bool:
        """Tell whether a packet may never arrive."""
        return bool(self.loss) or (self.bytes_per_s is not None and self.queue_bytes is not None)

    def reach_s(self) -> float:
        """Return how long a packet that is not lost takes at most, but for one in a million."""
        delay_s = self.delay.reach_s() if isinstance(self.delay, Delay) else self.delay or 0.0
        if self.bytes_per_s is None:
            return delay_s
        if self.queue_bytes is None:
            return math.inf
        return delay_s + self.queue_bytes / self.bytes_per_s

    def resent_s(self, round_trip_s: float) -> float:
        """Return what retransmission adds where packets are lost, but for one packet in a million."""
        if not self.loss:
            return 0.0
        if self.loss == 1:
            return math.inf
        losses = math.ceil(math.log(LATER) / math.log(self.loss)) - 1
        if losses < 1:
            return 0.0
        return float(WHEEL * (round_trip_s + RETRANSMIT_S) * 2 ** (losses - 1))


class LegPath(Direction):
    """Both directions between two hosts; `upstream` and `downstream` override what is said for both.

    What is not set at all is a loopback's: no delay to speak of, no limit, no loss.
    """

    upstream: Direction | None = Field(None, description="from the client to the server")
    downstream: Direction | None = Field(None, description="from the server to the client")

    def way(self, way: Way) -> Direction:
        """Return what holds in one direction."""
        own = getattr(self, way) or self
        given = {
            name: getattr(self if getattr(own, name) is None else own, name)
            for name in Direction.model_fields
        }
        # each value was judged where it was given
        return Direction.model_construct(**given)

    def loses(self) -> bool:
        """Tell whether a packet may never arrive, in either direction."""
        return any(self.way(way).loses() for way in WAYS)

    def round_trip_s(self) -> float:
        """Return how long the way there and back takes at most, retransmission counted, but for one in a million.

        Infinite where packets wait in a queue without a limit. What a full queue drops is not counted.
        """
        ways = [self.way(way) for way in WAYS]
        plain_s = sum(way.reach_s() for way in ways)
        return plain_s + sum(way.resent_s(plain_s) for way in ways)


class Paths(Settings):
    """What the network is like without any fault; the simulated network only."""

    client: LegPath | None = Field(None, description="between each client's host and the link")
    server: LegPath | None = Field(None, description="between the link and the server's host")

    def leg(self, leg: Leg) -> LegPath | None:
        """Return what is said about a leg."""
        return self.client if leg == "client" else self.server

    def round_trip_s(self) -> float:
        """Return `LegPath.round_trip_s` of both legs together."""
        return sum(row.round_trip_s() for leg in LEGS if (row := self.leg(leg)) is not None)


def parse_trace(text: str) -> list[tuple[float, float]]:
    """Return the rows of a trace file: one `time delay` in seconds per line; `#` starts a comment.

    Raises:
        ValueError: a line holds something else, or no line anything; the message says which and what was expected.
    """
    rows: list[tuple[float, float]] = []
    for number, line in enumerate(text.splitlines(), start=1):
        words = line.partition("#")[0].replace(",", " ").split()
        if not words:
            continue
        try:
            at_s, delay_s = (float(word) for word in words)
        except ValueError:
            raise ValueError(f"line {number}: expected `time delay`, got {line[:60]!r}") from None
        if not (0 <= at_s < math.inf and 0 <= delay_s < math.inf):
            raise ValueError(
                f"line {number}: expected two numbers of seconds that are not negative, got {line[:60]!r}"
            )
        if rows and at_s < rows[-1][0]:
            raise ValueError(f"line {number}: expected a time of at least {rows[-1][0]:g}")
        rows.append((at_s, delay_s))
        if len(rows) > ROWS_MAX:
            raise ValueError(f"line {number}: expected at most {ROWS_MAX} rows")
    if not rows:
        raise ValueError("line 1: expected at least one `time delay`, got none")
    return rows
