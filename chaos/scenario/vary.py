"""Varies a scenario: fault times, window lengths and which faults there are, drawn from a seed.

Pure. What is fair as written stays fair:

* The order of all starts and ends of the timeline is kept, and what coincides goes on coinciding.
* The first start is never earlier than written (the steady state comes first). `duration` grows by the largest shift,
  so that no bound reaches past it.
* The time that a `within` speaks of stays free of other entries if it was free of them.
* A window is made longer only where no expectation could suffer from a longer fault (`no_false_alarm`,
  `availability`, `delivers` with `lost`), shorter only where none needs its length, and never so short that it ends
  before the bound of a detection.
* What overlaps moves together where an expectation counts what happens in a window (`backoff`, `herd`, …).
* Nothing moves in a scenario without a steady state.
* Entries that wait for an event (`on:`) stay as they are.

A draw that would break a rule of the scenario language after all gives the scenario as written.

Which faults there are is swarm testing: a fault that is always there can hide what another one would show (Groce et
al., Swarm Testing, ISSTA 2012, https://doi.org/10.1145/2338965.2336763). Each kind is left out with probability one
half, where no expectation would become unfair.
"""

from __future__ import annotations

from dataclasses import dataclass

from chaos.scenario.model import DURATION_S_MAX, Entry, Expectation, Scenario
from chaos.scenario.plan import generator
from chaos.scenario.problems import find_problems
from chaos.scenario.rules import last_end_s, speaks_of
from chaos.vocabulary.checks import CHECKS
from chaos.vocabulary.words import WORDS

# two neighbours move towards each other and one of them grows: three such shares must fit into one gap
SHARE_MAX = 0.3
SAME_S = 1e-6
# times of varied scenarios are whole milliseconds away from the written ones, so that a person can read them
GRAIN_S = 0.001
_NOT_LONGER = frozenset({"no_false_alarm", "availability", "cost"})
_NOT_SHORTER = frozenset({"backoff", "herd", "handshake", "close_code"})
# these judge what faults bring about, and without an entry's name they may mean any of them
_ANY_FAULT = frozenset({"backoff", "handshake", "close_code"})
# written-out repetitions beyond this cost more to look at than they are worth: such a timeline keeps its times
BOUNDARIES_MAX = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class Bounds:
    """How far a sweep may go from what is written: shares of the gap to the neighbours, and of a window's length.

    Raises:
        ValueError: a share is not between 0 and 0.3.
    """

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
    kept = _leave_out(scenario, seed) if bounds.swarm else scenario
    for candidate in (_move(kept, seed, bounds), kept):
        if candidate is scenario:
            break
        if candidate.duration_s <= DURATION_S_MAX and not find_problems(candidate):
            return candidate
    return scenario


@dataclass(frozen=True, slots=True)
class _Boundary:
    """A start, an end or an instant; `clear_s` is the time after it that a `within` speaks of."""

    at_s: float
    row: int
    clear_s: float


@dataclass(slots=True)
class _Row:
    """A timed entry, with everything that must be known to move it."""

    position: int
    entry: Entry
    boundaries: list[_Boundary]
    detect_s: float
    group: int

    @property
    def windowed(self) -> bool:
        """Whether it has a window of a length of its own."""
        return self.entry.for_s is not None and self.entry.has_window


def _movable_rows(scenario: Scenario) -> list[_Row]:
    spoken = _spoken_of(scenario)
    rows: list[_Row] = []
    for position, entry in enumerate(scenario.timeline):
        if entry.at_s is None:
            continue
        detect_s, clear_s = _bounds_of(scenario, spoken.get(position, []))
        row = _Row(position, entry, [], detect_s, len(rows))
        begun_s = detect_s if row.windowed else max(detect_s, clear_s)
        for start_s in entry.starts_s()[: BOUNDARIES_MAX + 1]:
            row.boundaries.append(_Boundary(start_s, row.group, begun_s))
            if row.windowed:
                end_s = start_s + (entry.for_s or 0.0)
                row.boundaries.append(_Boundary(end_s, row.group, clear_s))
        rows.append(row)
    return rows


def _bounds_of(scenario: Scenario, numbers: list[int]) -> tuple[float, float]:
    """Return the longest `within` from the start of an entry and from its end, among these expectations."""
    within_s = {"during": 0.0, "after": 0.0}
    for expectation in (scenario.expect[number] for number in numbers):
        kind = CHECKS.get(expectation.check)
        if kind is not None and expectation.use is None:
            own_s = getattr(kind.model_validate(expectation.parameters), "within_s", 0.0)
            since = "during" if "during" in kind.entries else "after"
            within_s[since] = max(within_s[since], own_s)
    return within_s["during"], within_s["after"]


def _group_coinciding(rows: list[_Row]) -> None:
    """Give entries with a boundary in common one group: they move together."""
    at: dict[int, int] = {}
    for row in rows:
        for boundary in row.boundaries:
            group = at.setdefault(round(boundary.at_s / SAME_S), row.group)
            if group != row.group:
                _merge_groups(rows, at, row.group, group)


def _group_overlapping(rows: list[_Row]) -> None:
    """Give entries that overlap one group: what happens in a window takes its share of it."""
    for row in rows:
        for other in rows:
            begin_s = other.boundaries[0].at_s
            overlap = row.boundaries[0].at_s <= begin_s <= row.boundaries[-1].at_s
            if row.group != other.group and overlap:
                _merge_groups(rows, {}, other.group, row.group)


def _merge_groups(rows: list[_Row], at: dict[int, int], old: int, new: int) -> None:
    for row in rows:
        if row.group == old:
            row.group = new
    at.update({key: new for key, group in at.items() if group == old})


def _move(scenario: Scenario, seed: int, bounds: Bounds) -> Scenario:
    rows = [] if _is_fixed(scenario) else _movable_rows(scenario)
    if not rows or sum(len(row.boundaries) for row in rows) > BOUNDARIES_MAX:
        return scenario
    _group_coinciding(rows)
    if _needs_length(scenario):
        _group_overlapping(rows)
    space = _Space(scenario, rows)
    timeline = list(scenario.timeline)
    furthest_s = 0.0
    for group in sorted({row.group for row in rows}):
        members = [row for row in rows if row.group == group]
        draw = generator(seed, "sweep", scenario.title, "time", members[0].position)
        shift_s = space.shift(members, draw.uniform(-1, 1), bounds.time_jitter)
        length_s = 0.0
        if len(members) == 1 and members[0].windowed:
            draw = generator(seed, "sweep", scenario.title, "length", members[0].position)
            length_s = space.stretch(members[0], draw.uniform(-1, 1), bounds.duration_jitter)
        for row in members:
            timeline[row.position] = _moved(row.entry, shift_s, length_s)
        furthest_s = max(furthest_s, shift_s + max(length_s, 0.0))
    duration_s = round(scenario.duration_s + furthest_s, 6)
    return scenario.model_copy(update={"timeline": tuple(timeline), "duration_s": duration_s})


def _moved(entry: Entry, shift_s: float, length_s: float) -> Entry:
    assert entry.at_s is not None, "only timed entries move"
    update = {"at_s": round(entry.at_s + shift_s, 6)}
    if entry.for_s is not None:
        update["for_s"] = round(entry.for_s + length_s, 6)
    return entry.model_copy(update=update)


def _is_fixed(scenario: Scenario) -> bool:
    """Whether other times would be unfair.

    Without a steady state, the first attempts must meet the faults as written. A window to the end grows with the
    scenario, and availability counts it.
    """
    open_ended = any(row.for_s is None and row.has_window for row in scenario.timeline)
    return scenario.steady_state == "none" or (
        open_ended and any(row.check in _NOT_LONGER for row in scenario.expect)
    )


def _needs_length(scenario: Scenario) -> bool:
    """Whether an expectation counts what happens in a window, so that it must not be cut short by anything."""
    return any(row.check in _NOT_SHORTER or _needs_faults(row) for row in scenario.expect)


def _cut_to_grain(seconds: float) -> float:
    """Return a distance cut to whole milliseconds."""
    return int(seconds / GRAIN_S + SAME_S) * GRAIN_S


class _Space:
    """How much room there is around each boundary."""

    def __init__(self, scenario: Scenario, rows: list[_Row]) -> None:
        self._duration_s = scenario.duration_s
        self._all = [boundary for row in rows for boundary in row.boundaries]
        self._first_s = min(boundary.at_s for boundary in self._all)
        checks = {row.check for row in scenario.expect}
        lost = any(row.parameters.get("lost") is not None for row in scenario.expect)
        self._may_grow = not (checks & _NOT_LONGER) and not lost
        self._may_shrink = not _needs_length(scenario)

    def shift(self, members: list[_Row], draw: float, share: float) -> float:
        """Return how far a group moves: `draw` is from -1 (as early as it may) to 1 (as late)."""
        own = [boundary for row in members for boundary in row.boundaries]
        rows = {boundary.row for boundary in own}
        if draw < 0 and min(boundary.at_s for boundary in own) > self._first_s + SAME_S:
            return -_cut_to_grain(
                -draw * share * min(self._room_before(boundary, rows) for boundary in own)
            )
        return _cut_to_grain(
            abs(draw) * share * min(self._room_after(boundary, rows) for boundary in own)
        )

    def stretch(self, row: _Row, draw: float, share: float) -> float:
        """Return by how much the windows of an entry become longer (or shorter, below zero)."""
        length_s = row.entry.for_s or 0.0
        ends = row.boundaries[1::2]
        if draw >= 0 and self._may_grow:
            room_s = min(self._room_after(end, set()) for end in ends)
            return _cut_to_grain(draw * share * min(length_s, room_s))
        if draw < 0 and self._may_shrink and WORDS[row.entry.kind][row.entry.word].shrinkable:
            room_s = min(self._room_before(end, {row.group, row.boundaries[0].row}) for end in ends)
            spare_s = length_s - row.detect_s
            return -_cut_to_grain(min(-draw * share * min(length_s, room_s), max(0.0, spare_s)))
        return 0.0

    def _room_after(self, boundary: _Boundary, without: set[int]) -> float:
        """Return the room up to the next boundary of other entries, the time that a bound needs left out."""
        rooms = [
            _room_between(boundary, other)
            for other in self._all
            if other.row not in without and other.at_s > boundary.at_s + SAME_S
        ]
        return min([*rooms, self._duration_s - boundary.at_s])

    def _room_before(self, boundary: _Boundary, without: set[int]) -> float:
        rooms = [
            _room_between(other, boundary)
            for other in self._all
            if other.row not in without and other.at_s < boundary.at_s - SAME_S
        ]
        return min([*rooms, boundary.at_s])


def _room_between(earlier: _Boundary, later: _Boundary) -> float:
    gap_s = later.at_s - earlier.at_s
    return gap_s - earlier.clear_s if gap_s >= earlier.clear_s else gap_s


def _spoken_of(scenario: Scenario) -> dict[int, list[int]]:
    """Return the positions of the entries that expectations speak of, each with those expectations' positions."""
    found: dict[int, list[int]] = {}
    names = {entry.name: place for place, entry in enumerate(scenario.timeline) if entry.name}
    for number, expectation in enumerate(scenario.expect):
        if expectation.use is not None:
            given = [value for value in expectation.parameters.values() if isinstance(value, str)]
            places = [names[value] for value in given if value in names]
        else:
            place = speaks_of(scenario, expectation)
            places = [] if place is None else [place]
        for place in places:
            found.setdefault(place, []).append(number)
    return found


def _needs_faults(expectation: Expectation) -> bool:
    """Whether an expectation needs faults, or their full length, without naming one entry."""
    kind = CHECKS.get(expectation.check)
    if expectation.use is not None or kind is None:
        return True  # it may read anything of the trace
    if expectation.check in _ANY_FAULT:
        return not any(expectation.parameters.get(key) for key in kind.entries)
    return expectation.check == "no_leaks" and expectation.parameters.get("cycles") is not None


def _removable(scenario: Scenario) -> list[int]:
    """Return the positions of the entries that may be left out without making an expectation unfair.

    None where an expectation could mean any of them, or where an entry counts events (`on:`), since other entries
    make those happen. An entry that touches the window of one that is spoken of stays: it may be what the other
    one needs in order to be felt.
    """
    counts_events = any(entry.on is not None for entry in scenario.timeline)
    if counts_events or any(_needs_faults(row) for row in scenario.expect):
        return []
    spoken = [scenario.timeline[place] for place in _spoken_of(scenario)]
    return [
        place
        for place, entry in enumerate(scenario.timeline)
        if entry not in spoken and not any(_touches(scenario, entry, other) for other in spoken)
    ]


def _touches(scenario: Scenario, entry: Entry, other: Entry) -> bool:
    """Whether one entry is in force, or its consequences last, while the other is."""
    after_s = scenario.client.backoff.max_s + scenario.client.connect_timeout_s
    ends_s = [(last_end_s(row, scenario.duration_s) or 0.0) + after_s for row in (entry, other)]
    return (entry.at_s or 0.0) <= ends_s[1] and (other.at_s or 0.0) <= ends_s[0]


def _leave_out(scenario: Scenario, seed: int) -> Scenario:
    """Return the scenario with those kinds of faults that this seed keeps; at least one entry always stays."""
    places = _removable(scenario)
    gone = {
        place for place in places if _is_left_out(scenario.title, scenario.timeline[place], seed)
    }
    if not gone or len(gone) == len(scenario.timeline):
        return scenario
    timeline = tuple(
        # an entry that no expectation names may have needed one that is left out to be felt
        entry.model_copy(update={"allow_unfelt": True}) if place in places else entry
        for place, entry in enumerate(scenario.timeline)
        if place not in gone
    )
    return scenario.model_copy(update={"timeline": timeline})


def _is_left_out(title: str, entry: Entry, seed: int) -> bool:
    """Tell whether a seed leaves out entries of this kind and word."""
    return generator(seed, "sweep", title, "swarm", entry.kind, entry.word).random() < 0.5
