"""One scenario, many timelines: fault times, window lengths and which faults there are, drawn from a seed.

Pure. What is fair as written stays fair:

* The order of all starts and ends of the timeline is kept, and what coincides goes on coinciding.
* The first start is never earlier than written (the steady state comes first). `duration` grows by the largest shift,
  so that no bound reaches past it.
* The time that a `within` speaks of stays free of other entries if it was free of them.
* A window is made longer only where no expectation could suffer from a longer fault (`no_false_alarm`,
  `availability`, `delivers` with `lost`), shorter only where none needs its length, and never so short that it ends
  before the bound of a detection.
* Entries that wait for an event (`on:`) stay as they are.

A draw that would break a rule of the scenario language after all gives the scenario as written.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from dataclasses import dataclass

from chaos.explore.swarm import all_spoken_of, needs_faults, spoken_of, swarm
from chaos.scenario.model import DURATION_S_MAX, Entry, Scenario
from chaos.scenario.plan import generator
from chaos.scenario.problems import find_problems
from chaos.scenario.rules import has_window
from chaos.vocabulary.base import Seconds
from chaos.vocabulary.checks import CHECKS

# two neighbours move towards each other and one of them grows: three such shares must fit into one gap
SHARE_MAX = 0.3
SAME_S = 1e-6
# times of varied scenarios are whole milliseconds away from the written ones, so that a person can read them
GRAIN_S = 0.001
# these do their work however short they are; others need their window for an inner timer, or to be met by an attempt
SHRINKABLE = frozenset(
    {"blackhole", "stall", "partition", "latency", "bandwidth", "slicer", "noop", "delay_frames"}
)
_NOT_LONGER = frozenset({"no_false_alarm", "availability", "cost"})
# written-out repetitions beyond this cost more to look at than they are worth: such a timeline keeps its times
BOUNDARIES_MAX = 4_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Bounds:
    """How far a sweep may go from what is written: shares of the gap to the neighbours, and of a window's length."""

    time_jitter: float = 0.2
    duration_jitter: float = 0.2
    swarm: bool = True

    def __post_init__(self) -> None:
        for name in ("time_jitter", "duration_jitter"):
            share = getattr(self, name)
            if not 0 <= share <= SHARE_MAX:
                raise ValueError(f"expected a {name} of 0 to {SHARE_MAX:.0%}, got {share:.0%}")


def vary(scenario: Scenario, seed: int, bounds: Bounds) -> Scenario:
    """Return the scenario that this seed stands for: valid, and as fair to a correct subject as the given one.

    Equal arguments give equal results, on every machine.
    """
    kept = swarm(scenario, seed) if bounds.swarm else scenario
    moved = _move(kept, seed, bounds)
    for candidate in (moved, kept):
        if candidate.duration_s <= DURATION_S_MAX and not find_problems(candidate):
            return Scenario.from_json(candidate.to_json())
    return scenario


@dataclass(slots=True)
class _Row:
    """A timed entry on its way to its new place."""

    position: int
    entry: Entry
    starts: list[float]
    ends: list[float]
    clear_s: float  # how long after each end (or instant) nothing else may begin
    detect_s: float  # how long after each start nothing else may happen
    group: int = 0

    @property
    def boundaries(self) -> list[float]:
        """When something of this entry changes."""
        return self.starts + self.ends


def _rows(scenario: Scenario) -> list[_Row]:
    spoken = spoken_of(scenario)
    rows = []
    for position, entry in enumerate(scenario.timeline):
        if entry.at_s is None:
            continue
        starts = [entry.at_s + turn * (entry.every_s or 0.0) for turn in range(entry.times)]
        windowed = has_window(entry) and entry.for_s is not None
        ends = [start + (entry.for_s or 0.0) for start in starts] if windowed else []
        clear_s = detect_s = 0.0
        for number in spoken.get(position, ()):
            expectation = scenario.expect[number]
            kind = CHECKS.get(expectation.check)
            if kind is None:
                continue
            within_s = getattr(kind.model_validate(expectation.parameters), "within_s", 0.0)
            if "during" in kind.entries:
                detect_s = max(detect_s, within_s)
            else:
                clear_s = max(clear_s, within_s)
        rows.append(_Row(position, entry, starts, ends, clear_s, detect_s))
    return rows


def _join(rows: list[_Row]) -> None:
    """Give entries with a boundary in common one group: they move together."""
    for number, row in enumerate(rows):
        row.group = number
    at: dict[int, int] = {}
    for row in rows:
        for boundary in row.boundaries:
            key = round(boundary / SAME_S)
            other = at.setdefault(key, row.group)
            if other != row.group:
                old = row.group
                for member in rows:
                    if member.group == old:
                        member.group = other
                at.update({place: other for place, group in at.items() if group == old})


def _move(scenario: Scenario, seed: int, bounds: Bounds) -> Scenario:
    rows = _rows(scenario)
    count = sum(len(row.boundaries) for row in rows)
    if not rows or count > BOUNDARIES_MAX or _open_windows_count(scenario):
        return scenario
    _join(rows)
    gaps = _Gaps(scenario, rows)
    timeline = list(scenario.timeline)
    furthest_s = 0.0
    for group in sorted({row.group for row in rows}):
        members = [row for row in rows if row.group == group]
        shift_s = _shift(members, gaps, generator(seed, "sweep", scenario.title, "time", group), bounds.time_jitter)
        length_s = 0.0
        if len(members) == 1 and members[0].ends:
            draw = generator(seed, "sweep", scenario.title, "length", group)
            length_s = _stretch(scenario, members[0], gaps, draw.uniform(-1, 1), bounds.duration_jitter)
        for row in members:
            timeline[row.position] = _moved(row.entry, shift_s, length_s)
        furthest_s = max(furthest_s, shift_s + max(length_s, 0.0))
    duration_s = round(scenario.duration_s + furthest_s, 6)
    return scenario.model_copy(update={"timeline": tuple(timeline), "duration_s": duration_s})
