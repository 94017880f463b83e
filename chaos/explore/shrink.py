"""From a schedule that fails to one that a person would have written.

Pure. It knows what a general shrinker cannot: that whole seconds read better than quarters, that a time reads better
than an event, and that a reset says more than the toxic that happened to cause one.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from itertools import combinations

from chaos.explore.kinds import SHARES, kind_of
from chaos.explore.schedules import (
    EVENTS,
    THEN_S,
    TICK_S,
    Ground,
    Schedule,
    end_s,
    make_entry,
    moved,
)
from chaos.scenario.model import Entry

Fails = Callable[[Schedule], bool]


def shrink(ground: Ground, schedule: Schedule, fails: Fails) -> Schedule:
    """Return the smallest schedule that still fails and that single steps lead to.

    `fails` may raise to stop; the steps taken until then are whatever it noted itself.
    """
    progress = True
    while progress:
        progress = False
        for smaller in smaller_ones(ground, schedule):
            if smaller.cost() < schedule.cost() and fails(smaller):
                schedule, progress = smaller, True
                break
    return schedule


def smaller_ones(ground: Ground, schedule: Schedule) -> Iterator[Schedule]:
    """Yield schedules one step simpler: an entry less, then simpler, weaker, shorter, earlier, rounder ones."""
    rows = schedule.entries
    if schedule.final is not None:
        yield Schedule(entries=rows)
        yield from (Schedule(entries=rows, final=final) for final in ground.finals())
        yield Schedule(final=schedule.final)
    if len(rows) > 2:  # most bugs need one or two of them
        yield from (Schedule(entries=(row,), final=schedule.final) for row in rows)
        yield from (Schedule(entries=pair, final=schedule.final) for pair in combinations(rows, 2))
    for index in range(len(rows)):
        yield _with(schedule, index, None)
    for index, entry in enumerate(rows):
        for at_s in _moments(ground, schedule, entry):
            yield _with(schedule, index, moved(entry, on=None, then_s=0.0, at_s=at_s))
    for step in (surer, simpler, weaker, shorter, earlier, sooner):
        for index, entry in enumerate(rows):
            for changed in step(ground, entry):
                yield _with(schedule, index, changed)
    if len(rows) > 1:
        yield from _together(ground, schedule)


def _with(schedule: Schedule, index: int, entry: Entry | None) -> Schedule:
    rows = schedule.entries
    new = () if entry is None else (entry,)
    return Schedule(entries=(*rows[:index], *new, *rows[index + 1 :]), final=schedule.final)


def _moments(ground: Ground, schedule: Schedule, entry: Entry) -> Iterator[float]:
    """Yield times in place of the event that an entry waits for: what it waits for is likely to follow another."""
    if entry.on is None:
        return
    tries = [ground.start_s]
    for row in schedule.entries:
        if row.on is None and row.at_s is not None:
            tries += [row.at_s, math.floor(row.at_s) + 1, math.ceil(end_s(row))]
    yield from dict.fromkeys(map(float, tries))


def _together(ground: Ground, schedule: Schedule) -> Iterator[Schedule]:
    """Yield the schedule with all its timed entries earlier by the same time: their distances may matter."""
    timed = [row.at_s for row in schedule.entries if row.at_s is not None]
    first_s = min(timed, default=ground.start_s)
    for shift_s in (first_s - ground.start_s, first_s % 1):
        if shift_s > 0:
            rows = tuple(
                row if row.at_s is None else moved(row, at_s=row.at_s - shift_s)
                for row in schedule.entries
            )
            yield Schedule(entries=rows, final=schedule.final)


def surer(_: Ground, entry: Entry) -> Iterator[Entry]:
    """Yield the entry for all connections, then for more of them than now."""
    for share in SHARES:
        if share > entry.toxicity:
            yield moved(entry, toxicity=share)


def sooner(ground: Ground, entry: Entry) -> Iterator[Entry]:
    """Yield the entry at a plainer event, or an earlier one, or nearer to it."""
    if entry.on is None:
        return
    for then_s in THEN_S:
        if then_s < entry.then_s:
            yield moved(entry, then_s=then_s)
    now = (EVENTS.index(entry.on.event), entry.on.number)
    for trigger in ground.triggers():
        if (EVENTS.index(trigger.event), trigger.number) < now:
            yield moved(entry, on=trigger)


def simpler(ground: Ground, entry: Entry) -> Iterator[Entry]:
    """Yield entries of simpler kinds in its place."""
    for kind in ground.kinds():
        if kind.rank >= kind_of(entry).rank:
            return
        when = {"at_s": entry.at_s, "on": entry.on, "then_s": entry.then_s}
        for_s = None if kind.instant else entry.for_s or 1.0
        row, stream = ground.strengths(kind)[0], kind.streams[0]
        yield make_entry(kind.kind, kind.word, row, by=kind.by, stream=stream, for_s=for_s, **when)


def weaker(ground: Ground, entry: Entry) -> Iterator[Entry]:
    """Yield the entry with weaker parameters, and on its usual stream."""
    kind = kind_of(entry)
    if entry.stream != kind.streams[0]:
        yield moved(entry, stream=kind.streams[0])
    for row in ground.strengths(kind):
        if kind.strengths.index(row) < kind.strength(entry):
            yield moved(entry, parameters=dict(row))


def shorter(_: Ground, entry: Entry) -> Iterator[Entry]:
    """Yield the entry with shorter windows, whole seconds first."""
    if entry.for_s is None:
        return
    length_s = entry.for_s
    tries = [1.0, math.floor(length_s / 2), math.floor(length_s), math.ceil(length_s), length_s - 1]
    tries += [length_s - TICK_S, TICK_S]
    for for_s in dict.fromkeys(map(float, tries)):
        if for_s >= TICK_S and (for_s < length_s or length_s % 1):
            yield moved(entry, for_s=for_s)


def earlier(ground: Ground, entry: Entry) -> Iterator[Entry]:
    """Yield the entry at earlier times, whole seconds first."""
    if entry.at_s is None:
        return
    at_s, first_s = entry.at_s, ground.start_s
    tries = [first_s, math.floor((at_s + first_s) / 2), math.floor(at_s), math.ceil(at_s)]
    tries += [at_s - 1, at_s - TICK_S]
    for time_s in dict.fromkeys(map(float, tries)):
        if time_s >= first_s and (time_s < at_s or at_s % 1):
            yield moved(entry, at_s=time_s)
