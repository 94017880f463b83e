"""Timeline entries as they were recorded: when each was in force.

Which entry an expectation speaks of is decided in `chaos.scenario.rules` (`speaks_of`). Bounds count from the
recorded `apply` event, never from the planned time.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from chaos.scenario.model import Entry
from chaos.trace import Event, Trace


@dataclass(frozen=True, slots=True, kw_only=True)
class Occurrence:
    """One time that an entry was in force, in seconds from time zero.

    For an instant `end_s` equals `start_s`. `ended` is false for a window that was still open at the end of the run.
    """

    index: int
    number: int
    start_s: float
    end_s: float
    ended: bool


def label(entry: Entry) -> str:
    """Return how reasons speak of an entry: `stall` (outage)."""
    return f"`{entry.word}` ({entry.name})" if entry.name else f"`{entry.word}`"


def events_of(trace: Trace, kind: str, index: int) -> list[Event]:
    """Return the `apply` or `felt` events of the entry with this index."""
    return [event for event in trace.events if event.kind == kind and event.get("entry") == index]


def occurrences_of(trace: Trace, index: int, entry: Entry, end_s: float) -> tuple[Occurrence, ...]:
    """Return each time the entry was in force before `end_s`, as recorded, in order."""
    found: list[Occurrence] = []
    windowed = entry.has_window
    for event in events_of(trace, "apply", index):
        if event.at_s > end_s:
            continue
        if _ends_window(event, found, windowed):
            _close(found, event)
            continue
        number = int(event.get("occurrence", len(found) + 1))
        stop_s = end_s if windowed else event.at_s
        found.append(
            Occurrence(
                index=index, number=number, start_s=event.at_s, end_s=stop_s, ended=not windowed
            )
        )
    return tuple(found)


def _ends_window(event: Event, found: list[Occurrence], windowed: bool) -> bool:
    """Tell whether an `apply` ends a window; an action's second step may say so or just repeat its occurrence."""
    if event.get("change") == "off" or event.get("ends"):
        return True
    number = event.get("occurrence")
    return windowed and number is not None and any(row.number == number for row in found)


def _close(found: list[Occurrence], event: Event) -> None:
    """End the occurrence that this `off` belongs to: its number if recorded, else the first one still open."""
    number = event.get("occurrence")
    for position, row in enumerate(found):
        if not row.ended and number in (None, row.number):
            found[position] = Occurrence(
                index=row.index,
                number=row.number,
                start_s=row.start_s,
                end_s=event.at_s,
                ended=True,
            )
            return


def concerns(entry: Entry, client: int) -> bool:
    """Tell whether the entry applies to this client."""
    return entry.clients is None or client in entry.clients


def covering(rows: Iterable[Occurrence], at_s: float, *, grace_s: float = 0.0) -> bool:
    """Tell whether one of these occurrences was in force at that time, or within `grace_s` before it."""
    return any(row.start_s <= at_s <= row.end_s + grace_s for row in rows)
