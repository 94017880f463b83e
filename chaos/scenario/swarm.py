"""Swarm testing: each seed leaves some kinds of faults out, so that the others are seen without them. Pure.

A fault that is always there can hide what another one would show (Groce et al., Swarm Testing, ISSTA 2012,
https://doi.org/10.1145/2338965.2336763). Each kind is left out with probability one half.
"""

from __future__ import annotations

from chaos.scenario.model import Entry, Expectation, Scenario
from chaos.scenario.plan import generator
from chaos.scenario.rules import last_end_s, speaks_of
from chaos.vocabulary.checks import CHECKS

# these judge what faults bring about, and without an entry's name they may mean any of them
_ANY_FAULT = frozenset({"backoff", "handshake", "close_code"})


def spoken_of(scenario: Scenario) -> dict[int, list[int]]:
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


def needs_faults(expectation: Expectation) -> bool:
    """Whether an expectation needs faults, or their full length, without naming one entry."""
    kind = CHECKS.get(expectation.check)
    if expectation.use is not None or kind is None:
        return True  # who knows what it reads
    if expectation.check in _ANY_FAULT:
        return not any(expectation.parameters.get(key) for key in kind.entries)
    return expectation.check == "no_leaks" and expectation.parameters.get("cycles") is not None


def removable(scenario: Scenario) -> list[int]:
    """Return the positions of the entries that may be left out without making an expectation unfair.

    None where an expectation could mean any of them, or where an entry counts events (`on:`), since other entries
    make those happen. An entry that touches the window of one that is spoken of stays: it may be what the other
    one needs in order to be felt.
    """
    if any(needs_faults(row) for row in scenario.expect):
        return []
    if any(entry.on is not None for entry in scenario.timeline):
        return []
    spoken = [scenario.timeline[place] for place in spoken_of(scenario)]
    return [
        place
        for place, entry in enumerate(scenario.timeline)
        if entry not in spoken and not any(_touch(scenario, entry, other) for other in spoken)
    ]


def _touch(scenario: Scenario, entry: Entry, other: Entry) -> bool:
    """Whether one entry is in force, or its consequences last, while the other is."""
    after_s = scenario.client.backoff.max_s + scenario.client.connect_timeout_s
    return (
        _start_s(entry) <= _end_s(scenario, other) + after_s
        and _start_s(other) <= _end_s(scenario, entry) + after_s
    )


def _start_s(entry: Entry) -> float:
    return entry.at_s or 0.0


def _end_s(scenario: Scenario, entry: Entry) -> float:
    end_s = last_end_s(entry, scenario.duration_s)
    return scenario.duration_s if end_s is None else end_s


def swarm(scenario: Scenario, seed: int) -> Scenario:
    """Return the scenario with those kinds of faults that this seed keeps; at least one entry always stays."""
    places = removable(scenario)
    words = sorted({(scenario.timeline[p].kind, scenario.timeline[p].word) for p in places})
    off = {
        word
        for word in words
        if generator(seed, "sweep", scenario.title, "swarm", *word).random() < 0.5
    }
    gone = {p for p in places if (scenario.timeline[p].kind, scenario.timeline[p].word) in off}
    if not gone or len(gone) == len(scenario.timeline):
        return scenario
    timeline = tuple(
        # what nobody speaks of may have needed what is gone
        entry.model_copy(update={"allow_unfelt": True}) if place in places else entry
        for place, entry in enumerate(scenario.timeline)
        if place not in gone
    )
    return scenario.model_copy(update={"timeline": timeline})
