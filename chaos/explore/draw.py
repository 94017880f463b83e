"""Schedules as a Hypothesis strategy: what is drawn, and how often. The only file that imports Hypothesis."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from random import Random
from typing import Any

from hypothesis import HealthCheck, Phase, find, settings
from hypothesis import strategies as st
from hypothesis.errors import NoSuchExample

from chaos.explore.schedules import (
    CLOCKED,
    SHARES,
    THEN_S,
    TICK_S,
    Kind,
    Schedule,
    SearchSpace,
    admitted,
    changed_entry,
    fitting,
    kind_of,
    make_entry,
)
from chaos.scenario.model import Entry, Trigger

# How many groups a schedule has, each as often as it stands here: most bugs need few, and few are soon made small.
GROUPS = (1, 1, 1, 1, 2, 2, 2, 3, 3, 4)
# One entry in so many waits for an event; of those that can, one in so many touches a share of the connections.
WAITS_ONE_IN = 4
SHARES_ONE_IN = 6
# Of four entries that only new connections meet, so many come without a cut.
UNCUT = 1
# So many entries a relative of a find has at most: more would be no better than the find.
RELATED_MAX = 3
# A hunt ends by time: it never draws so many.
EXAMPLES_MAX = 10_000_000


def schedules(space: SearchSpace) -> st.SearchStrategy[Schedule]:
    """Return schedules for a scenario, the small ones more often."""
    sizes = st.sampled_from(GROUPS)
    rows = sizes.flatmap(lambda size: st.lists(groups(space), min_size=size, max_size=size)).map(
        lambda rows: admitted(entry for group in rows for entry in group)
    )
    # three in four go without a last word: after it nothing more is seen of the client
    finals = space.finals()
    last: st.SearchStrategy[Entry | None] = st.none()
    if finals:
        last = st.sampled_from([None] * (3 * len(finals)) + list(finals))
    return st.builds(lambda rows, last: fitting(Schedule(entries=rows, final=last)), rows, last)


@st.composite
def groups(draw: st.DrawFn, space: SearchSpace) -> tuple[Entry, ...]:
    """Draw one entry, and often a reset beside one that only a new connection can meet."""
    entry = draw(entries(space))
    waits = entry.on is not None and entry.on.event not in CLOCKED
    if not waits and not kind_of(entry).draw.greets:
        return (entry,)
    if draw(st.sampled_from([False] * UNCUT + [True] * (4 - UNCUT))):
        at_s = space.start_s if entry.at_s is None else entry.at_s
        ticks = int((1.0 if entry.at_s is None else entry.for_s or 0.0) / TICK_S)
        at_s += TICK_S * draw(st.integers(0, max(0, ticks - 1)))
        return (entry, make_entry("fault", "reset", {}, at_s=at_s))
    return (entry,)


@st.composite
def entries(draw: st.DrawFn, space: SearchSpace) -> Entry:
    """Draw one entry."""
    kinds = space.kinds()
    kind: Kind = draw(st.sampled_from([kind for kind in kinds for _ in range(kind.draw.weight)]))
    parameters = draw(st.sampled_from(space.strengths(kind)))
    stream = draw(st.sampled_from(kind.draw.streams))
    times = draw(moments(space))
    if not kind.word.instant:
        times["for_s"] = TICK_S * draw(st.integers(1, int(space.window_s / TICK_S)))
    if kind.draw.shared:
        shares = [SHARES[0]] * (SHARES_ONE_IN - 1) * (len(SHARES) - 1) + list(SHARES[1:])
        times["toxicity"] = draw(st.sampled_from(shares))
    return kind.entry(parameters, stream=stream, **times)


@st.composite
def moments(draw: st.DrawFn, space: SearchSpace) -> dict[str, Any]:
    """Draw when an entry begins: at a time, or now and then at an event."""
    triggers = space.triggers()
    if triggers and draw(st.sampled_from([False] * (WAITS_ONE_IN - 1) + [True])):
        # the moment of the event is drawn more often than a time after it
        soon = THEN_S[:1] * len(THEN_S) + THEN_S[1:]
        return {
            "on": draw(st.sampled_from(_often(triggers))),
            "then_s": draw(st.sampled_from(soon)),
        }
    ticks = draw(st.integers(0, int(space.span_s / TICK_S)))
    return {"at_s": space.start_s + TICK_S * ticks}


def _often(triggers: Sequence[Trigger]) -> list[Trigger]:
    """Return the events, those more than once that say more: a handshake, and the first of each kind."""
    first = {trigger.event: trigger.number for trigger in reversed(triggers)}
    return [
        trigger
        for trigger in triggers
        for _ in range(
            (1 + (trigger.number == first[trigger.event])) * (3 - 2 * (trigger.event in CLOCKED))
        )
    ]


@st.composite
def relatives(draw: st.DrawFn, space: SearchSpace, found: Schedule) -> Schedule:
    """Draw a schedule with fewer entries than one that was found, and with much of what stands in it.

    What an entry does, when it begins and how long it lasts come each from any entry of the find, or are drawn anew:
    crossover and mutation, which reach what no sequence of deletions does.
    """
    most = len(found.entries) - 1
    size = draw(st.integers(1, min(most, RELATED_MAX)))
    rows = draw(st.lists(_related(space, found), min_size=size, max_size=size))
    final = draw(st.sampled_from((None, found.final)))
    return fitting(Schedule(entries=tuple(rows), final=final))


@st.composite
def _related(draw: st.DrawFn, space: SearchSpace, found: Schedule) -> Entry:
    mine = st.sampled_from(found.entries)
    does = draw(mine | entries(space))
    when = draw(mine | entries(space))
    lasts = draw(mine | entries(space)).for_s or TICK_S
    for_s = None if kind_of(does).word.instant else lasts
    return changed_entry(does, at_s=when.at_s, on=when.on, then_s=when.then_s, for_s=for_s)


def search(
    space: SearchSpace,
    fails: Callable[[Schedule], bool],
    seed: int,
    near: Schedule | None = None,
) -> Schedule | None:
    """Return the first schedule for which `fails` is true, or None.

    With `near`, it is a relative of that schedule, which has two entries at least.

    What `fails` raises comes out of here if it is no `Exception`: that is how a hunt ends when its time is over.
    """
    options = settings(
        max_examples=EXAMPLES_MAX,
        database=None,
        deadline=None,
        phases=(Phase.generate,),  # `shrink.py` knows better what people want to read
        # iterating leaves the deprecated ones out
        suppress_health_check=list(HealthCheck),  # pyright: ignore[reportArgumentType]
    )
    try:
        drawn = schedules(space) if near is None else relatives(space, near)
        return find(drawn, fails, settings=options, random=Random(seed))
    except NoSuchExample:
        return None
