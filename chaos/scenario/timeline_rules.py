"""Rules of the timeline: starts, windows and repetitions against the end and against each other."""

from __future__ import annotations

from collections.abc import Iterator
from heapq import heappop, heappush

from chaos.scenario.model import Entry, Scenario
from chaos.scenario.rules import (
    EPSILON_S,
    Draft,
    Problem,
    Rule,
    label,
    last_end_s,
    last_start_s,
    show_s,
)
from chaos.vocabulary.words import exclusive_words

STEPS_MAX = 20_000


def _names(draft: Draft) -> Iterator[Problem]:
    first: dict[str, int] = {}
    for position, entry in enumerate(draft.scenario.timeline):
        if entry.name is None:
            continue
        if entry.name in first:
            yield Problem(
                where=("timeline", position, "name"),
                message="two timeline entries have this name",
                expected="a name of its own",
            )
        first.setdefault(entry.name, position)


def _against_the_end(draft: Draft) -> Iterator[Problem]:
    for position, entry in enumerate(draft.scenario.timeline):
        yield from _entry_against_the_end(draft.scenario.duration_s, position, entry)


def _entry_against_the_end(duration_s: float, position: int, entry: Entry) -> Iterator[Problem]:
    end = show_s(duration_s)
    start = last_start_s(entry)
    if entry.at_s is None or start is None:
        if entry.for_s is not None and entry.for_s >= duration_s:
            message = f"the window is as long as the scenario: `duration` is {end}"
            yield Problem(
                where=("timeline", position, "for"), message=message, expected="a shorter one"
            )
        return
    before = f"a time before `duration`, {end}"
    if entry.at_s >= duration_s:
        message = "the entry starts at or after the end of the scenario"
        yield Problem(where=("timeline", position, "at"), message=message, expected=before)
        return
    if start >= duration_s:
        yield Problem(
            where=("timeline", position, "times"),
            message=f"the last repetition starts at {show_s(start)}, after the end of the scenario",
            expected=before,
        )
        return
    last = last_end_s(entry, duration_s)
    if entry.for_s is not None and last is not None and last > duration_s + EPSILON_S:
        yield Problem(
            where=("timeline", position, "for"),
            message=f"the window reaches past the end: it ends at {show_s(last)}, `duration` is {end}",
            expected=f"at most {show_s(duration_s - start)}, or no `for`: to the end",
        )


def _repetition(draft: Draft) -> Iterator[Problem]:
    steps = 0
    for position, entry in enumerate(draft.scenario.timeline):
        steps += entry.times
        if entry.every_s is None:
            continue
        where = ("timeline", position, "every")
        if entry.every_s <= 0:
            yield Problem(
                where=where,
                message="`every` must not be zero",
                expected="more than 0s, such as 10s",
            )
        elif entry.has_window and entry.for_s is None:
            message = "a window that is repeated needs `for`: without it, it lasts to the end"
            yield Problem(
                where=where, message=message, expected="`for`, at most as long as `every`"
            )
        elif entry.for_s is not None and entry.every_s < entry.for_s - EPSILON_S:
            message = "`every` is shorter than `for`: the windows would overlap"
            expected = f"at least {show_s(entry.for_s)}"
            yield Problem(where=where, message=message, expected=expected)
    if steps > STEPS_MAX:
        message = f"the timeline has {steps} steps once its repetitions are written out"
        yield Problem(where=("timeline", 0), message=message, expected=f"at most {STEPS_MAX}")


def _overlaps(draft: Draft) -> Iterator[Problem]:
    """Windows of one word that cannot be stacked, on the same connections, at the same time."""
    scenario = draft.scenario
    if sum(entry.times for entry in scenario.timeline) > STEPS_MAX:
        return
    for word in exclusive_words():
        windows = sorted(
            window
            for position, entry in enumerate(scenario.timeline)
            if entry.word == word and entry.kind != "toxic"
            for window in _windows(position, entry, scenario.duration_s)
        )
        yield from _sweep(scenario, windows)


def _windows(position: int, entry: Entry, duration_s: float) -> Iterator[tuple[float, float, int]]:
    if entry.at_s is None or not entry.has_window:
        return
    for turn in range(entry.times):
        start = entry.at_s + turn * (entry.every_s or 0.0)
        yield start, duration_s if entry.for_s is None else start + entry.for_s, position


def _sweep(scenario: Scenario, windows: list[tuple[float, float, int]]) -> Iterator[Problem]:
    active: list[tuple[float, int]] = []
    told: set[int] = set()
    for start, end, position in windows:
        while active and active[0][0] <= start + EPSILON_S:
            heappop(active)
        for _, other in active:
            if other == position or position in told:
                continue
            if not _share_connections(scenario.timeline[position], scenario.timeline[other]):
                continue
            told.add(position)
            word = scenario.timeline[position].word
            yield Problem(
                where=("timeline", position, "at"),
                message=f"this `{word}` begins while `{label(scenario, other)}` is still on",
                expected="windows of one word apart, on other clients or on the other stream",
            )
        if end > start and len(active) < 1000:
            heappush(active, (end, position))


def _share_connections(one: Entry, other: Entry) -> bool:
    if one.by != other.by:
        return False
    if one.parameters.get("leg", "client") != other.parameters.get("leg", "client"):
        return False
    if one.stream != other.stream and "both" not in (one.stream, other.stream):
        return False
    if one.clients is None or other.clients is None:
        return True
    return not set(one.clients).isdisjoint(other.clients)


def _after_a_crash(draft: Draft) -> Iterator[Problem]:
    """A peer that crashed stays down: only `restart` brings it back."""
    scenario = draft.scenario
    timed = sorted(
        (entry.at_s, position)
        for position, entry in enumerate(scenario.timeline)
        if entry.kind == "action" and entry.at_s is not None
    )
    crashed: list[int] = []
    for at_s, position in timed:
        entry = scenario.timeline[position]
        meeting = [
            other for other in crashed if _share_connections(entry, scenario.timeline[other])
        ]
        if entry.word == "restart":
            crashed = [other for other in crashed if other not in meeting]
            continue
        if meeting and at_s > (scenario.timeline[meeting[0]].at_s or 0.0):
            yield Problem(
                where=("timeline", position, "at"),
                message=f"the {entry.by} does nothing any more: it crashed in `{label(scenario, meeting[0])}`",
                expected="`restart` in place of `crash`, or before this",
            )
        elif entry.word == "crash":
            if entry.times > 1:
                message = f"the {entry.by} can crash only once: it stays down"
                yield Problem(
                    where=("timeline", position, "times"), message=message, expected="`restart`"
                )
            crashed.append(position)


_TIMED = frozenset({"top"})
TIMELINE_RULES: tuple[tuple[Rule, frozenset[str]], ...] = (
    (_names, frozenset()),
    (_against_the_end, _TIMED),
    (_repetition, frozenset()),
    (_overlaps, _TIMED),
    (_after_a_crash, frozenset({"timeline"})),
)
