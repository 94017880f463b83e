"""What the subjects of a run own, moment by moment, for the leak checks."""

from __future__ import annotations

import gc
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from chaos.peers.host import Host
from chaos.peers.probes import Ledger, Living, count_living
from chaos.trace import Side

_SIDES: tuple[Side, Side] = ("client", "server")
Owned = Mapping[str, Any]


@dataclass(slots=True)
class Census:
    """Counts what these hosts own; `hosts` may still grow.

    Garbage is collected first where without that more would be counted than the last time: only then does it matter,
    and collecting is what takes time.
    """

    hosts: Collection[Host]
    ledger: Ledger
    _last: dict[Side, Owned] = field(default_factory=dict)

    def take(self, sides: Sequence[Side] = _SIDES, *, collected: bool = False) -> dict[Side, Owned]:
        """Return for each side its tasks, sockets, memory channels and connection objects.

        Memory channels do not say whose they are: their count is of the whole process, and is the same for both
        sides, less the channels over which the run tells them of the timeline's actions. With `collected` garbage
        is collected in any case.
        """
        found = {} if collected else self._count(sides)
        if any(_grown(self._last.get(side, {}), owned) for side, owned in found.items()):
            found = {}
        if not found:
            gc.collect()
            found = self._count(sides)
        self._last.update(found)
        return found

    def _count(self, sides: Sequence[Side]) -> dict[Side, Owned]:
        living = count_living()
        channels = max(0, living.channels - sum(host.channels() for host in self.hosts))
        return {side: self._owned(side, living, channels) for side in sides}

    def _owned(self, side: Side, living: Living, channels: int) -> Owned:
        return {
            "tasks": sum(host.tasks() for host in self.hosts if host.side == side),
            "sockets": self.ledger.count(side),
            "channels": channels,
            "objects": living.objects[side],
        }


def _grown(before: Owned, now: Owned) -> bool:
    """Whether there is more of anything that the collector may find to be garbage."""
    known = before.get("objects", {})
    return any(now[what] > before.get(what, 0) for what in ("sockets", "channels")) or any(
        count > known.get(name, 0) for name, count in now["objects"].items()
    )
