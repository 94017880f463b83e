"""Which windows of a timeline cannot hold at once on the same connections, and how many steps it has. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from heapq import heappop, heappush

from chaos.scenario.model import Entry, Scenario
from chaos.scenario.rules import EPSILON_S, Draft, Problem, label
from chaos.vocabulary.words import exclusive_words

STEPS_MAX = 20_000


def validate_overlaps(draft: Draft) -> Iterator[Problem]:
    """Refuse two windows of a word that cannot both hold, on the same connections, at the same time."""
    scenario = draft.scenario
    if count_steps(scenario) > STEPS_MAX:
        return
    for word in exclusive_words():
        windows = sorted(
            (
                start_s,
                scenario.duration_s if entry.for_s is None else start_s + entry.for_s,
                position,
            )
            for position, entry in enumerate(scenario.timeline)
            if entry.word == word and entry.kind != "toxic"
            if entry.at_s is not None and entry.has_window
            for start_s in entry.starts_s()
        )
        yield from _find_overlaps(scenario, windows)


def _find_overlaps(
    scenario: Scenario, windows: list[tuple[float, float, int]]
) -> Iterator[Problem]:
    """Yield a problem for each entry of which a window begins in one of another entry's, in order of their starts."""
    active: list[tuple[float, int]] = []
    told: set[int] = set()
    for start, end, position in windows:
        while active and active[0][0] <= start + EPSILON_S:
            heappop(active)
        entry = scenario.timeline[position]
        meeting = (
            other
            for _, other in active
            if other != position and _share_connections(entry, scenario.timeline[other])
        )
        if position not in told and (other := next(meeting, None)) is not None:
            told.add(position)
            yield Problem(
                ("timeline", position, "at"),
                f"this `{entry.word}` begins while `{label(scenario, other)}` is still on",
                "windows of one word apart, on other clients or on the other stream",
            )
        if end > start and len(active) < 1000:
            heappush(active, (end, position))


def _share_connections(one: Entry, other: Entry) -> bool:
    return (
        one.by == other.by
        and one.parameters.get("leg", "client") == other.parameters.get("leg", "client")
        and (one.stream == other.stream or "both" in (one.stream, other.stream))
        and (
            one.clients is None
            or other.clients is None
            or not set(one.clients).isdisjoint(other.clients)
        )
    )


def validate_crashes(draft: Draft) -> Iterator[Problem]:
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
        elif meeting and at_s > (scenario.timeline[meeting[0]].at_s or 0.0):
            yield Problem(
                ("timeline", position, "at"),
                f"the {entry.by} does nothing any more: it crashed in `{label(scenario, meeting[0])}`",
                "`restart` in place of `crash`, or before this",
            )
        elif entry.word == "crash":
            if entry.times > 1:
                yield Problem(
                    ("timeline", position, "times"),
                    f"the {entry.by} can crash only once: it stays down",
                    "`restart`",
                )
            crashed.append(position)


def count_steps(scenario: Scenario) -> int:
    return sum(entry.times for entry in scenario.timeline)
