"""What the subjects of a run own, moment by moment, for the leak checks."""

from __future__ import annotations

import gc
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from chaos.subjects.host import Host
from chaos.subjects.probes import Ledger, count_living
from chaos.trace import Side

_SIDES: tuple[Side, Side] = ("client", "server")
Owned = Mapping[str, Any]
Collect = Literal["always", "if more", "never"]


@dataclass(slots=True)
class Census:
    """Counts what these hosts own; `hosts` may still grow."""

    hosts: Collection[Host]
    ledger: Ledger
    _first: dict[Side, Owned] = field(default_factory=dict)

    def take(
        self, sides: Sequence[Side] = _SIDES, *, collect: Collect = "always", channels: bool = True
    ) -> dict[Side, Owned]:
        """Return for each side its tasks, sockets, memory channels and connection objects.

        Memory channels do not say whose they are: their count is of the whole process, and is the same for both
        sides, less the channels over which the run tells them of the timeline's actions. Without `channels` they are
        left out.

        `collect` says when garbage is collected, which takes longer than counting: always; never, and then it is
        counted too; or only if without that more would be counted than the first time.
        """
        found = {} if collect == "always" else self._count(sides, channels)
        if not found or (collect == "if more" and self.more(found)):
            gc.collect()
            found = self._count(sides, channels)
        for side, owned in found.items():
            self._first.setdefault(side, owned)
        return found

    def more(self, found: Mapping[Side, Owned]) -> bool:
        """Whether what was found is more of anything than the first time."""
        return any(_grown(self._first.get(side, {}), owned) for side, owned in found.items())

    def _count(self, sides: Sequence[Side], channels: bool) -> dict[Side, Owned]:
        living = count_living()
        ends = max(0, living.channels - sum(host.channels() for host in self.hosts))
        counted = {"channels": ends} if channels else {}
        return {
            side: {
                "tasks": sum(host.tasks() for host in self.hosts if host.side == side),
                "sockets": self.ledger.count(side),
                "objects": living.objects[side],
            }
            | counted
            for side in sides
        }


def _grown(before: Owned, now: Owned) -> bool:
    known = before.get("objects", {})
    numbers = ("tasks", "sockets", "channels")
    return any(now.get(what, 0) > before.get(what, 0) for what in numbers) or any(
        count > known.get(name, 0) for name, count in now["objects"].items()
    )
