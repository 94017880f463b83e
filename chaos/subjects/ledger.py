"""What the subjects of a run have made: sockets, memory channels and connection objects, each with its maker.

A thing is in the ledger for as long as it lives, and keeps its maker whoever holds it: what a server made is the
server's, though a client may have a reference to it. What no subject made (the run's own channels, the link's
sockets) is not in it.
"""

from __future__ import annotations

import weakref
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from chaos.trace import Side

Owner: TypeAlias = tuple[Side, int | None]

# the class as which a closed socket is counted to which something still refers, such as an old connection
CLOSED_SOCKET = "closed socket"


@dataclass(slots=True)
class Made:
    """Things of one kind and who made them. It keeps none of them alive, and asks of none that it can be hashed."""

    _rows: dict[int, tuple[weakref.ref[Any], Owner]] = field(default_factory=dict)

    def add(self, thing: Any, owner: Owner) -> None:
        """Note who has made a thing. Raises TypeError for what has no weak references."""
        rows, key = self._rows, id(thing)
        rows[key] = weakref.ref(thing, lambda _: rows.pop(key, None)), owner

    def owner_of(self, thing: Any) -> Owner | None:
        """Return who made a thing, if a subject did."""
        row = self._rows.get(id(thing))
        return row[1] if row is not None else None

    def discard(self, thing: Any) -> None:
        """Forget one thing."""
        self._rows.pop(id(thing), None)

    def of(self, side: Side, client: int | None = None) -> Iterator[Any]:
        """Yield what the subjects of a side made and what still lives; with `client` what that client made."""
        for reference, (its_side, its_client) in list(self._rows.values()):
            thing = reference()
            if thing is not None and its_side == side and client in (None, its_client):
                yield thing

    def forget(self, owner: Owner) -> None:
        """Forget all that one subject made."""
        for key in [key for key, (_, its) in self._rows.items() if its == owner]:
            del self._rows[key]


@dataclass(slots=True)
class Ledger:
    """What the subjects made and what still lives."""

    sockets: Made = field(default_factory=Made)
    channels: Made = field(default_factory=Made)  # the ends of memory channels
    objects: Made = field(default_factory=Made)  # the connections that libraries make

    def kill(self, side: Side, client: int | None) -> None:
        """Do what a kernel does when a process dies: close all its sockets, and free its memory."""
        for sock in self.sockets.of(side, client):
            sock.close()
        for made in (self.sockets, self.channels, self.objects):
            made.forget((side, client))

    def count_sockets(self, side: Side) -> int:
        """Return how many open sockets the subjects of a side own."""
        return sum(_is_open(sock) for sock in self.sockets.of(side))

    def count_channels(self, side: Side) -> int:
        """Return how many ends of memory channels they own, closed or not."""
        return sum(1 for _ in self.channels.of(side))

    def count_objects(self, side: Side) -> dict[str, int]:
        """Return how many connection objects they own, by class, and closed sockets to which something refers."""
        counted = Counter(type(thing).__name__ for thing in self.objects.of(side))
        closed = sum(_is_closed(sock) for sock in self.sockets.of(side))
        if closed:
            counted[CLOSED_SOCKET] = closed
        return dict(sorted(counted.items()))


def _is_open(sock: Any) -> bool:
    return bool(sock.fileno() != -1)


def _is_closed(sock: Any) -> bool:
    return bool(sock.fileno() == -1)
