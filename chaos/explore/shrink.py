"""Shrinking: a schedule that fails becomes one that a person would have written.

This file is pure. It knows what a general shrinker cannot: that whole seconds read better than quarters, that a time
reads better than an event, and that a reset says more than the toxic that happened to cause one.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from functools import partial
from itertools import combinations

from chaos.explore.schedules import (
    EVENTS,
    SHARES,
    THEN_S,
    TICK_S,
    Schedule,
    SearchSpace,
    changed_entry,
    end_s,
    kind_of,
)
from chaos.scenario.model import Entry

Fails = Callable[[Schedule], bool]
Steps = Callable[[SearchSpace, Schedule], Iterator[Schedule]]
Change = Callable[[SearchSpace, Schedule, Entry], Iterator[Entry]]
# A schedule of so many entries is one that a person reads at a glance; subsets up to this size are tried all.
FEW = 3


def shrink(space: SearchSpace, schedule: Schedule, fails: Fails) -> Schedule:
    """Return the smallest schedule that still fails and that the passes lead to.

    Each pass is gone through until it makes nothing smaller, and all of them until none does: what one entry can do
    without often shows only after another has become plainer.

    `fails` may raise to stop; the steps taken until then are whatever it noted itself.
    """
    before = None
    while schedule != before:
        before = schedule
        for steps in (simplify_last_word, drop_entries, *_entry_passes(schedule), move_all_earlier):
            schedule = _repeat_pass(space, schedule, steps, fails)
    return schedule


def _repeat_pass(space: SearchSpace, schedule: Schedule, steps: Steps, fails: Fails) -> Schedule:
    """Take the first step that makes it smaller, as long as there is one."""
    smaller: Schedule | None = schedule
    while smaller is not None:
        schedule = smaller
        tries = (step for step in steps(space, schedule) if step.cost() < schedule.cost())
        smaller = next((step for step in tries if fails(step)), None)
    return schedule


def simplify_last_word(space: SearchSpace, schedule: Schedule) -> Iterator[Schedule]:
    """Yield the schedule without its last word, with a plainer one, and the last word alone."""
    if schedule.final is None:
        return
    rows = schedule.entries
    yield Schedule(entries=rows)
    yield from (Schedule(entries=rows, final=final) for final in space.finals())
    yield Schedule(final=schedule.final)


def drop_entries(_: SearchSpace, schedule: Schedule) -> Iterator[Schedule]:
    """Yield the schedule with fewer entries.

    First by delta debugging (Zeller and Hildebrandt, Simplifying and Isolating Failure-Inducing Input, IEEE TSE
    28(2), 2002): each half alone, then without each; then each quarter, and so on to single entries. That ends where
    no entry can be left out alone, though two may be together: then all pairs and all triples.
    """
    rows, final = schedule.entries, schedule.final
    size = max(1, len(rows) // 2)
    while size:
        cuts = range(0, len(rows), size)
        yield from (Schedule(entries=rows[at : at + size], final=final) for at in cuts)
        yield from (Schedule(entries=rows[:at] + rows[at + size :], final=final) for at in cuts)
        size //= 2
    for count in range(2, min(FEW, len(rows) - 2) + 1):
        yield from (Schedule(entries=kept, final=final) for kept in combinations(rows, count))


def _entry_passes(schedule: Schedule) -> Iterator[Steps]:
    """Yield the passes that change one entry: a time for its event, then surer, simpler, weaker, and so on."""
    for change in (
        replace_event,
        raise_toxicity,
        simplify_kind,
        weaken,
        shorten,
        move_earlier,
        simplify_event,
    ):
        for place in range(len(schedule.entries)):
            yield partial(_change_entry, change, place)


def _change_entry(
    change: Change, place: int, space: SearchSpace, schedule: Schedule
) -> Iterator[Schedule]:
    rows = schedule.entries
    if place < len(rows):
        for entry in change(space, schedule, rows[place]):
            kept = (*rows[:place], entry, *rows[place + 1 :])
            yield Schedule(entries=kept, final=schedule.final)


def replace_event(space: SearchSpace, schedule: Schedule, entry: Entry) -> Iterator[Entry]:
    """Yield the entry at times in place of its event: what it waits for is likely to follow another."""
    if entry.on is None:
        return
    tries = [space.start_s]
    for row in schedule.entries:
        if row.on is None and row.at_s is not None:
            tries += [row.at_s, math.floor(row.at_s) + 1, math.ceil(end_s(row))]
    for at_s in dict.fromkeys(map(float, tries)):
        yield changed_entry(entry, on=None, then_s=0.0, at_s=at_s)


def move_all_earlier(space: SearchSpace, schedule: Schedule) -> Iterator[Schedule]:
    """Yield the schedule with all its timed entries earlier by the same time: their distances may matter."""
    if len(schedule.entries) < 2:
        return
    times_s = [row.at_s for row in schedule.entries if row.at_s is not None]
    first_s = min(times_s, default=space.start_s)
    for shift_s in (first_s - space.start_s, first_s % 1):
        if shift_s > 0:
            rows = tuple(
                row if row.at_s is None else changed_entry(row, at_s=row.at_s - shift_s)
                for row in schedule.entries
            )
            yield Schedule(entries=rows, final=schedule.final)


def raise_toxicity(_space: SearchSpace, _schedule: Schedule, entry: Entry) -> Iterator[Entry]:
    """Yield the entry for all connections, then for more of them than now."""
    for share in SHARES:
        if share > entry.toxicity:
            yield changed_entry(entry, toxicity=share)


def simplify_event(space: SearchSpace, _: Schedule, entry: Entry) -> Iterator[Entry]:
    """Yield the entry at a plainer event, or an earlier one, or nearer to it."""
    if entry.on is None:
        return
    for then_s in THEN_S:
        if then_s < entry.then_s:
            yield changed_entry(entry, then_s=then_s)
    now = (EVENTS.index(entry.on.event), entry.on.number)
    for trigger in space.triggers():
        if (EVENTS.index(trigger.event), trigger.number) < now:
            yield changed_entry(entry, on=trigger)


def simplify_kind(space: SearchSpace, _: Schedule, entry: Entry) -> Iterator[Entry]:
    """Yield entries of simpler kinds in its place, as long as it or for a second."""
    for kind in space.kinds():
        if kind.draw.rank >= kind_of(entry).draw.rank:
            return
        when = {"at_s": entry.at_s, "on": entry.on, "then_s": entry.then_s}
        row, stream = space.strengths(kind)[0], kind.draw.streams[0]
        lengths_s = [None] if kind.word.instant else dict.fromkeys((entry.for_s or 1.0, 1.0))
        for for_s in lengths_s:
            times = {**when, "for_s": for_s}
            yield kind.entry(row, stream=stream, **times)


def weaken(space: SearchSpace, _: Schedule, entry: Entry) -> Iterator[Entry]:
    """Yield the entry with weaker parameters, and on its usual stream."""
    kind = kind_of(entry)
    if entry.stream != kind.draw.streams[0]:
        yield changed_entry(entry, stream=kind.draw.streams[0])
    for row in space.strengths(kind):
        if kind.draw.strengths.index(row) < kind.strength(entry):
            yield changed_entry(entry, parameters=dict(row))


def shorten(_space: SearchSpace, _schedule: Schedule, entry: Entry) -> Iterator[Entry]:
    """Yield the entry with shorter windows, whole seconds first."""
    if entry.for_s is None:
        return
    length_s = entry.for_s
    tries = [1.0, math.floor(length_s / 2), math.floor(length_s), math.ceil(length_s), length_s - 1]
    tries += [length_s - TICK_S, TICK_S]
    for for_s in dict.fromkeys(map(float, tries)):
        if for_s >= TICK_S and (for_s < length_s or length_s % 1):
            yield changed_entry(entry, for_s=for_s)


def move_earlier(space: SearchSpace, _: Schedule, entry: Entry) -> Iterator[Entry]:
    """Yield the entry at earlier times, whole seconds first."""
    if entry.at_s is None:
        return
    at_s, first_s = entry.at_s, space.start_s
    tries = [first_s, math.floor((at_s + first_s) / 2), math.floor(at_s), math.ceil(at_s)]
    tries += [at_s - 1, at_s - TICK_S]
    for time_s in dict.fromkeys(map(float, tries)):
        if time_s >= first_s and (time_s < at_s or at_s % 1):
            yield changed_entry(entry, at_s=time_s)
