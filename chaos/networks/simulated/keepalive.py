"""Keepalive: probes on an idle connection, and the end of one that does not answer (`tcp_keepalive_timer`)."""

from __future__ import annotations

import errno
from typing import Protocol

from chaos.networks.simulated.fabric import Fabric, Timer
from chaos.networks.simulated.options import Options
from chaos.networks.simulated.timers import due


class Kept(Protocol):
    """What keepalive needs of its end of a connection."""

    fabric: Fabric
    options: Options
    heard_s: float

    @property
    def busy(self) -> bool:
        """Whether anything of ours is unsent or unacknowledged: then retransmission is what finds a dead peer."""
        ...

    def ask_whether_alive(self) -> None:
        """Send a probe."""

    def die(self, error: int | None) -> None:
        """End the connection."""


class Keepalive:
    """The keepalive timer of one end; stopped when made."""

    __slots__ = ("_end", "_timer", "_unanswered")

    def __init__(self, end: Kept) -> None:
        self._end = end
        self._timer: Timer | None = None
        self._unanswered = 0

    def start(self) -> None:
        """Begin with a whole idle time after what was heard last."""
        self.stop()
        self._unanswered = 0
        self._wait(self._end.heard_s + self._end.options.keepalive_idle_s - self._end.fabric.now)

    def stop(self) -> None:
        """Send no more probes. Idempotent."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _wait(self, seconds: float) -> None:
        fabric = self._end.fabric
        self._timer = fabric.at(due(fabric.now, seconds), self._fire)

    def _fire(self) -> None:
        end, options = self._end, self._end.options
        self._timer = None
        idle_s = end.fabric.now - end.heard_s
        if end.busy:
            self._wait(options.keepalive_idle_s)
        elif idle_s < options.keepalive_idle_s:
            self._unanswered = 0
            self._wait(options.keepalive_idle_s - idle_s)
        elif self._unanswered and self._enough(idle_s):
            end.die(errno.ETIMEDOUT)
        else:
            self._unanswered += 1
            self._wait(options.keepalive_interval_s)
            end.ask_whether_alive()

    def _enough(self, idle_s: float) -> bool:
        """Whether the peer is taken for dead: TCP_USER_TIMEOUT replaces the count (tcp(7))."""
        options = self._end.options
        if options.user_timeout_s:
            return idle_s >= options.user_timeout_s
        return self._unanswered >= options.keepalive_count
