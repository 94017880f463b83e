"""Rules of `paths` and of faults on one leg: what only makes sense together."""

from __future__ import annotations

from collections.abc import Iterator

from chaos.scenario.paths import LEGS, QUEUE_BYTES_MIN, WAYS, Direction
from chaos.scenario.rules import Draft, Problem, Rule, Where
from chaos.vocabulary.base import format_size


def _queues(draft: Draft) -> Iterator[Problem]:
    """A queue waits for a bandwidth, and must hold a packet."""
    paths = draft.scenario.paths
    for leg in LEGS:
        row = paths.leg(leg) if paths is not None else None
        if row is None:
            continue
        whole: Where = ("paths", leg)
        parts: list[tuple[Where, Direction, bool]] = [
            (whole, row, any(row.way(way).bytes_per_s is not None for way in WAYS))
        ]
        for way in WAYS:
            own = getattr(row, way)
            if own is not None:
                parts.append(((*whole, way), own, row.way(way).bytes_per_s is not None))
        for where, part, limited in parts:
            if part.queue_bytes is None:
                continue
            if not limited:
                message = "`queue` without `bandwidth`: nothing would ever wait in it"
                yield Problem(where=(*where, "queue"), message=message, expected="both, or neither")
            elif part.queue_bytes < QUEUE_BYTES_MIN:
                message = "`queue` is too small for one packet: no data would ever pass"
                expected = f"at least {format_size(QUEUE_BYTES_MIN)}"
                yield Problem(where=(*where, "queue"), message=message, expected=expected)


def _clients_of_a_shared_leg(draft: Draft) -> Iterator[Problem]:
    for position, entry in enumerate(draft.scenario.timeline):
        shared = entry.kind == "fault" and entry.parameters.get("leg") == "server"
        if shared and entry.clients is not None:
            yield Problem(
                where=("timeline", position, "clients"),
                message="`clients` with `leg: server`: all clients share the path from the link to the server",
                expected="no `clients`, or `leg: client`",
            )


PATH_RULES: tuple[tuple[Rule, frozenset[str]], ...] = (
    (_queues, frozenset({"top"})),
    (_clients_of_a_shared_leg, frozenset()),
)
