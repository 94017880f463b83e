"""What a hunt tries before it draws: each kind of fault alone, each kind of moment, each last word.

Pure. Most failures need one cause or two (Kuhn, Wallace and Gallo, Software Fault Interactions and Implications for
Software Testing, IEEE TSE 30(6), 2004, https://doi.org/10.1109/TSE.2004.24). So each value of each dimension is met
once before any two are combined by chance: in the field's words, each-choice coverage. What these schedules find is
small from the start.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from random import Random
from typing import Any

from chaos.explore.kinds import Kind, make_entry
from chaos.explore.schedules import CLOCKED, THEN_S, TICK_S, Ground, Schedule
from chaos.scenario.model import Entry


def basics(ground: Ground, seed: int) -> list[Schedule]:
    """Return these schedules: the strongest of each kind first, then the rest. The order is otherwise the seed's."""
    kinds = ground.kinds()
    strongest = [_alone(ground, kind, ground.strengths(kind)[-1]) for kind in kinds]
    first = [*strongest, *_moments(ground), *(Schedule(final=row) for row in ground.finals())]
    rest = [_alone(ground, kind, row) for kind in kinds for row in ground.strengths(kind)[:-1]]
    rng = Random(seed)
    for rows in (first, rest):
        rng.shuffle(rows)
    return first + rest


def _alone(ground: Ground, kind: Kind, parameters: Mapping[str, Any]) -> Schedule:
    """Return a schedule of one kind, for the longest window worth trying: long enough for all to be noticed."""
    entry = kind.entry(
        parameters,
        stream=kind.draw.streams[0],
        at_s=ground.start_s,
        for_s=None if kind.word.instant else ground.window_s,
    )
    return Schedule(entries=(entry, *_cut(ground, kind)))


def _cut(ground: Ground, kind: Kind) -> Iterator[Entry]:
    # what only a new connection can meet needs one
    if kind.draw.greets:
        yield make_entry("fault", "reset", {}, at_s=ground.start_s + TICK_S)


def _moments(ground: Ground) -> Iterator[Schedule]:
    """Yield a reset at the first event of each kind and soon after it, with what brings that event about."""
    first = {trigger.event: trigger for trigger in reversed(ground.triggers())}
    for event, trigger in first.items():
        before = (
            () if event in CLOCKED else (make_entry("fault", "reset", {}, at_s=ground.start_s),)
        )
        for then_s in THEN_S:
            at_event = make_entry("fault", "reset", {}, on=trigger, then_s=then_s)
            yield Schedule(entries=(*before, at_event))
