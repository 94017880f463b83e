"""Proxies that lead to one another: where a connection would come back to a proxy that it has passed, it is closed.

A proxy whose upstream is itself, directly or through others, would dial until no file descriptor is left. A
connection that this server has dialed and one that it has accepted are two sides of one connection if each has the
other's addresses. Which of the two is known first depends on the kernel, so both are noted.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from typing import Protocol

LOG = logging.getLogger("trio-chaos.toxiproxy-server")

Pair = tuple[str, str]  # the addresses of who has dialed and of who has accepted


class Hop(Protocol):
    """A connection through a proxy of this server. `came_from` is the one before it, if that is one of them too."""

    came_from: Hop | None

    @property
    def proxy(self) -> str:
        """The name of its proxy."""
        ...

    def close(self) -> None:
        """Close both sockets now."""


def circle_of(hop: Hop) -> list[str]:
    """Return the proxies from the last time that the path to here passed this one; empty if it never did."""
    names, before = [hop.proxy], hop.came_from
    while before is not None:
        names.append(before.proxy)
        if before.proxy == hop.proxy:
            return names[::-1]
        before = before.came_from
    return []


@dataclass(slots=True, kw_only=True)
class Circles:
    """Knows the hops of all connections, closes those that lead back, and says so once for each proxy."""

    _accepted: dict[Pair, Hop] = field(default_factory=dict)
    _dialed: dict[Pair, Hop] = field(default_factory=dict)
    _told: set[str] = field(default_factory=set)

    def note_accepted(self, hop: Hop, pair: Pair) -> None:
        """Note a connection that was accepted."""
        self._accepted[pair] = hop
        self._join(self._dialed.get(pair), hop)

    def note_dialed(self, hop: Hop, pair: Pair) -> None:
        """Note the connection that was dialed for one that was accepted."""
        self._dialed[pair] = hop
        self._join(hop, self._accepted.get(pair))

    def forget(self, *, accepted: Pair, dialed: Pair | None) -> None:
        """Forget a connection that is over."""
        self._accepted.pop(accepted, None)
        if dialed is not None:
            self._dialed.pop(dialed, None)

    def _join(self, before: Hop | None, after: Hop | None) -> None:
        if before is None or after is None:
            return
        after.came_from = before
        circle = circle_of(after)
        if not circle:
            return
        if after.proxy not in self._told:
            self._told.add(after.proxy)
            LOG.warning(
                "proxies lead in a circle, so its connections are closed: %s", " → ".join(circle)
            )
        after.close()
