"""When Linux's timers fire, and after how long its TCP gives up.

The kernel's timer wheel (`kernel/time/timer.c`) never fires early: a timer is put off to the next slot, and the slots
of long timers are wide, so that a wait is up to an eighth longer than asked for.
"""

from __future__ import annotations

from collections.abc import Callable
from math import ceil

from chaos.networks.simulated.fabric import Fabric, Timer
from chaos.networks.simulated.linux import (
    JIFFY_S,
    RTO_S,
    RTO_S_MAX,
    SYN_LINEAR_TIMEOUTS,
    SYN_WAIT_S,
)

# the first level of the wheel holds 63 jiffies in slots of one; each further level is eight times as wide
_FIRST_LEVEL = 63
_WIDER_BITS = 3
_CLOSE = 1e-6  # of a jiffy: sums of floats that are meant to be whole


def jiffies(seconds: float) -> int:
    """Return a wait in the kernel's ticks, rounded up."""
    return ceil(seconds / JIFFY_S - _CLOSE)


def due(now: float, wait_s: float) -> float:
    """Return when a timer fires that is set now."""
    wait = max(1, jiffies(wait_s))
    expires = int(now / JIFFY_S + _CLOSE) + wait
    shift = 0
    while wait >= _FIRST_LEVEL << shift:
        shift += _WIDER_BITS
    return (((expires + (1 << shift)) >> shift) << shift) * JIFFY_S


class RestartedTimer:
    """A kernel timer that is restarted far more often than it fires, as that of retransmissions is.

    Restarting it is cheap: it stays where it is in the fabric's queue, and is put off when it comes too early.
    """

    __slots__ = ("_action", "_fabric", "_since_s", "_timer", "_wait_s")

    def __init__(self, fabric: Fabric) -> None:
        """Make a timer that does not run."""
        self._fabric = fabric
        self._action: Callable[[], None] | None = None
        self._since_s = self._wait_s = 0.0
        self._timer: Timer | None = None

    @property
    def running(self) -> bool:
        """Whether it will fire."""
        return self._action is not None

    def start(self, wait_s: float, action: Callable[[], None]) -> None:
        """Let `action` happen after a wait from now, and forget what was to happen before."""
        self.note(wait_s, action)
        self.queue()

    def note(self, wait_s: float, action: Callable[[], None]) -> None:
        """Do as `start` does, for a timer that will be stopped before it fires, or else `queue` be called."""
        self._since_s, self._wait_s, self._action = self._fabric.now, wait_s, action

    def queue(self) -> None:
        """Make sure that it fires, if it runs."""
        # the wheel never fires before the wait is over
        if self._action is not None and (
            self._timer is None or self._since_s + self._wait_s < self._timer.at_s
        ):
            self._set(due(self._since_s, self._wait_s))

    def stop(self) -> None:
        """Let nothing happen. Idempotent."""
        self._action = None

    def _set(self, at_s: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._fabric.at(at_s, self._come)

    def _come(self) -> None:
        self._timer = None
        action = self._action
        if action is None:
            return
        at_s = due(self._since_s, self._wait_s)
        if at_s > self._fabric.now:
            self._set(at_s)
            return
        self._action = None
        action()


def retransmission_timeout(round_trip_s: float) -> float:
    """Return the retransmission timeout in seconds before any backing off, in whole jiffies."""
    return jiffies(RTO_S + round_trip_s) * JIFFY_S


def patience(retries: int) -> float:
    """Return for how long retransmissions go on after the first one, by `tcp_retries2`.

    The sum of as many doublings as that from the least timeout (`tcp_model_timeout`, net/ipv4/tcp_timer.c): what is
    counted is time, not retransmissions.
    """
    return sum(min(RTO_S * (1 << number), RTO_S_MAX) for number in range(retries + 1))


def syn_patience(retries: int) -> float:
    """Return for how long SYNs are sent, by `tcp_syn_retries`: again a time. The next SYN due then is not sent."""
    return SYN_WAIT_S * ((2 << retries) - 1)


def syn_wait(number: int) -> float:
    """Return the seconds between a SYN (0: the first) and the next: equal at first (`tcp_syn_linear_timeouts`)."""
    return min(SYN_WAIT_S * (1 << max(0, number - SYN_LINEAR_TIMEOUTS)), RTO_S_MAX)
