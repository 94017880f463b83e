"""What the subjects of a run own, moment by moment, for the leak checks."""

from __future__ import annotations

import gc
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from chaos.subjects.ledger import Ledger
from chaos.subjects.probes import count_tasks
from chaos.trace import Side

_SIDES: tuple[Side, Side] = ("client", "server")
Owned = Mapping[str, Any]
Collect = Literal["always", "if more", "never"]


@dataclass(slots=True)
class Census:
    """Counts what the subjects own: the tasks that descend from them, and what the ledger knows of theirs."""

    ledger: Ledger
    collect_all: Callable[[], object] = gc.collect
    _first: dict[Side, Owned] = field(default_factory=dict)

    def take(
        self, sides: Sequence[Side] = _SIDES, *, collect: Collect = "always"
    ) -> dict[Side, Owned]:
        """Return for each side its tasks, sockets, memory channels and connection objects.

        `collect` says when garbage is collected, which takes longer than counting: always; never, and then it is
        counted too; or only if without that more would be counted than the first time.
        """
        found = {} if collect == "always" else self._count(sides)
        if not found or (collect == "if more" and self.more(found)):
            self.collect_all()
            found = self._count(sides)
        for side, owned in found.items():
            self._first.setdefault(side, owned)
        return found

    def more(self, found: Mapping[Side, Owned]) -> bool:
        """Whether what was found is more of anything than the first time."""
        return any(_grown(self._first.get(side, {}), owned) for side, owned in found.items())

    def _count(self, sides: Sequence[Side]) -> dict[Side, Owned]:
        return {
            side: {
                "tasks": count_tasks(side),
                "sockets": self.ledger.count_sockets(side),
                "channels": self.ledger.count_channels(side),
                "objects": self.ledger.count_objects(side),
            }
            for side in sides
        }


def _grown(before: Owned, now: Owned) -> bool:
    known = before.get("objects", {})
    numbers = ("tasks", "sockets", "channels")
    return any(now[what] > before.get(what, 0) for what in numbers) or any(
        count > known.get(name, 0) for name, count in now["objects"].items()
    )
