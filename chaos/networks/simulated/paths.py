"""Paths: how long a packet takes from one host to another, and whether it arrives.

A path is one direction between two hosts, and keeps packets in order, as the measured paths did. What it loses, TCP
sends again, so that a program sees a delay and never a gap. Tests and scenarios may set any field of a `Path` at any
time; it holds for the packets that are sent from then on.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from random import Random
from typing import Literal

from chaos.networks.simulated.hosts import Host

# one way between two hosts unless a path says otherwise; a loopback round trip measured about 0.05 ms
DEFAULT_DELAY_S = 0.000_025
# IPv4 and TCP without options (RFC 791, RFC 9293)
HEADER_BYTES = 40

Delay = Callable[[float], float]  # the time of sending → for how long the packet is under way
Loss = Callable[[], bool]  # is this packet lost?
PathFaultKind = Literal["partition", "loss", "syn_drop"]


def constant(delay_s: float) -> Delay:
    """Return a delay that is always the same."""
    return lambda _now: delay_s


def uniform(rng: Random, low_s: float, high_s: float) -> Delay:
    """Return a delay that is anywhere between two values."""
    return lambda _now: rng.uniform(low_s, high_s)


def normal(rng: Random, mean_s: float, deviation_s: float) -> Delay:
    """Return a delay with a normal distribution, cut off at zero."""
    return lambda _now: max(0.0, rng.gauss(mean_s, deviation_s))


def lognormal(rng: Random, median_s: float, sigma: float) -> Delay:
    """Return a delay whose logarithm is normal: most are near the median, a few far above."""
    return lambda _now: median_s * rng.lognormvariate(0.0, sigma)


def pareto(rng: Random, least_s: float, alpha: float) -> Delay:
    """Return a delay with a heavy tail, at least `least_s`; the smaller `alpha`, the heavier (mean is
    `least_s * alpha / (alpha - 1)` above 1)."""
    return lambda _now: least_s * rng.paretovariate(alpha)


def lossy(rng: Random, share: float) -> Loss:
    """Return a loss of this share of all packets, drawn for each by itself."""
    return lambda: rng.random() < share


def traced(rows: Sequence[tuple[float, float]]) -> Delay:
    """Return a delay as it was recorded: each (time, delay) holds until the next.

    Raises:
        ValueError: no rows, or times that go back.
    """
    times = [row[0] for row in rows]
    if not rows or times != sorted(times):
        raise ValueError(f"expected at least one (time, delay) with rising times, got {rows!r}")
    return lambda now: rows[max(0, bisect_right(times, now) - 1)][1]


_DEFAULT_DELAY = constant(DEFAULT_DELAY_S)


@dataclass(eq=False, slots=True, kw_only=True)
class PathFault:
    """A fault in force on one direction. `felt` is called for each packet that it drops."""

    kind: PathFaultKind
    felt: Callable[[str], None]
    rate: float = 1.0
    rng: Random = field(default_factory=lambda: Random(0))

    def drops(self, *, syn: bool) -> bool:
        """Return whether this packet is lost, and tell `felt` if it is."""
        if self.kind == "syn_drop" and not syn:
            return False
        if self.kind == "loss" and self.rng.random() >= self.rate:
            return False
        self.felt("dropped a SYN" if syn else "dropped a packet")
        return True


@dataclass(eq=False, slots=True)
class Path:
    """One direction between two hosts.

    `delay` is drawn anew for each packet. `bandwidth` is in bytes per second; `queue_bytes` bounds what waits for it,
    and a packet that does not fit is lost (tail drop). `loss` is called for each packet.
    """

    source: Host
    target: Host
    delay: Delay = _DEFAULT_DELAY
    bandwidth: float | None = None
    queue_bytes: int | None = None
    loss: Loss | None = None
    up: bool = True
    faults: list[PathFault] = field(default_factory=list)
    _free_s: float = (
        0.0  # when the last bit of all that waits for the bandwidth will have been sent
    )
    _last_arrival_s: float = 0.0

    @property
    def is_limited(self) -> bool:
        """Whether the size of a packet matters: the path has a bandwidth."""
        return self.bandwidth is not None

    def transit(self, now: float, size: int = 0, *, syn: bool = False) -> float | None:
        """Return when a packet of `size` payload bytes that is sent now arrives, in order; None if it is lost."""
        if not self.up or self.source.down or self.target.down:
            return None
        # all of them are asked, so that one fault does not disturb the draws of another
        if self.faults and any([fault.drops(syn=syn) for fault in self.faults]):  # noqa: C419
            return None
        if self.loss is not None and self.loss():
            return None
        if self.bandwidth is None:
            arrival_s = now + self.delay(now)
        else:
            sent_s = self._queue_packet(now, size + HEADER_BYTES)
            if sent_s is None:
                return None
            arrival_s = sent_s + self.delay(now)
        if arrival_s < self._last_arrival_s:
            return self._last_arrival_s
        self._last_arrival_s = arrival_s
        return arrival_s

    def _queue_packet(self, now: float, size: int) -> float | None:
        """Return when the last bit of a packet has left the queue; None if the queue is full."""
        assert self.bandwidth is not None
        waiting_s = max(0.0, self._free_s - now)
        if self.queue_bytes is not None and waiting_s * self.bandwidth + size > self.queue_bytes:
            return None
        self._free_s = now + waiting_s + size / self.bandwidth
        return self._free_s
