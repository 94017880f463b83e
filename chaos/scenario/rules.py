"""Finds the timeline entry that an expectation means, and holds the rules of expectations and the types of all rules.

Pure functions over the model. All other rules stand in `problems.py`. Where a problem stands in a file is `load.py`'s
business: here `where` is a path of keys and list positions. Checks ask `speaks_of` too.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from chaos.errors import listed
from chaos.scenario.model import Client, Entry, Expectation, Scenario, Server
from chaos.scenario.nodes import nearest_name
from chaos.vocabulary.base import format_duration
from chaos.vocabulary.checks import CHECKS
from chaos.vocabulary.word import Peer

# Without `during` or `after` these judge the whole run; the others need an entry.
WHOLE_RUN_CHECKS = frozenset({"backoff", "close_code", "handshake", "no_false_alarm"})

# Sums of decimal fractions miss by less than this: 0.1 + 0.2 is not 0.3.
EPSILON_S = 1e-9

Where = tuple[str | int, ...]


@dataclass(frozen=True, slots=True)
class Problem:
    """A mistake between values: where (keys and positions from the top), what, and what would be right.

    Positions in `timeline` and `expect` are those of the model; parameters of a check stand at
    `("expect", position, key)`, attributes of a toxic at `("timeline", position, "attributes", key)`.
    """

    where: Where
    message: str
    expected: str | None = None
    nearest: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Draft:
    """A scenario of which some parts may be wrong and left out: `wrong` names its sections with mistakes."""

    scenario: Scenario
    wrong: frozenset[str] = frozenset()
    broken_names: frozenset[str] = frozenset()

    def subject(self, side: Peer) -> Server | Client:
        """Return what the scenario says of a peer."""
        return self.scenario.server if side == "server" else self.scenario.client


Rule = Callable[[Draft], Iterator[Problem]]


def show_s(seconds: float) -> str:
    """Return a computed time as messages show it."""
    return format_duration(round(seconds, 6))


def last_start_s(entry: Entry) -> float | None:
    """Return when an entry starts for the last time, in seconds from time zero; None when an event starts it."""
    if entry.at_s is None:
        return None
    return entry.at_s + (entry.times - 1) * (entry.every_s or 0.0)


def last_end_s(entry: Entry, duration_s: float) -> float | None:
    """Return when its last window ends, or its last instant; None when an event starts it."""
    start = last_start_s(entry)
    if start is None or not entry.has_window:
        return start
    return duration_s if entry.for_s is None else start + entry.for_s


def label(scenario: Scenario, position: int) -> str:
    """Return how messages and reports call an entry: its name, or `word at 20s`."""
    entry = scenario.timeline[position]
    if entry.name is not None:
        return entry.name
    if entry.on is not None:
        return f"{entry.word} on {entry.on.event} {entry.on.number}"
    return f"{entry.word} at {show_s(entry.at_s or 0.0)}"


def resolve_entry(scenario: Scenario, name: str | None, *, window_required: bool) -> int:
    """Return the position in the timeline of the entry that an expectation speaks of.

    That is the one of this name; without a name the only one there is (with `window_required`, the only one that
    has a window). Raises LookupError with a sentence when there is none, or more than one.
    """
    timeline = scenario.timeline
    fitting = [
        position
        for position, entry in enumerate(timeline)
        if entry.has_window or not window_required
    ]
    if name is not None:
        named = [position for position, entry in enumerate(timeline) if entry.name == name]
        if not named:
            raise LookupError(f"no timeline entry is named `{name}`")
        if named[0] not in fitting:
            raise LookupError(f"`{name}` acts at one moment and has no window")
        return named[0]
    kind = "timeline entry with a window" if window_required else "timeline entry"
    if not fitting:
        raise LookupError(f"there is no {kind}")
    if len(fitting) > 1:
        labels = ", ".join(f"`{label(scenario, position)}`" for position in fitting[:5])
        raise LookupError(f"more than one {kind} could be meant: {labels}")
    return fitting[0]


def _entry_key(expectation: Expectation) -> str | None:
    """Return the parameter by which an expectation names a timeline entry; None if it names none."""
    settings = CHECKS.get(expectation.check)
    return settings.entries[0] if settings is not None and settings.entries else None


def speaks_of(scenario: Scenario, expectation: Expectation) -> int | None:
    """Return the position of the timeline entry that an expectation speaks of; None for the whole run.

    Raises LookupError as `resolve_entry` does.
    """
    key = _entry_key(expectation)
    name = None if key is None else expectation.parameters.get(key)
    if key is None or (name is None and expectation.check in WHOLE_RUN_CHECKS):
        return None
    return resolve_entry(scenario, name, window_required=key == "during")


def validate_expectations(draft: Draft) -> Iterator[Problem]:
    """Refuse expectations that name no entry, or the wrong one, or reach past the end."""
    for position, expectation in enumerate(draft.scenario.expect):
        key = _entry_key(expectation)
        name = None if key is None else expectation.parameters.get(key)
        if (
            key is None
            or name in draft.broken_names
            or (name is None and "timeline" in draft.wrong)
        ):
            continue
        try:
            entry = speaks_of(draft.scenario, expectation)
        except LookupError as error:
            yield _lookup_problem(draft, position, key, name, str(error))
        else:
            if entry is not None and "top" not in draft.wrong:
                yield from _validate_within(draft.scenario, position, expectation, entry)


def _lookup_problem(
    draft: Draft, position: int, key: str, name: str | None, message: str
) -> Problem:
    where: Where = ("expect", position, key)
    names = [
        entry.name
        for entry in draft.scenario.timeline
        if entry.name and (key != "during" or entry.has_window)
    ]
    names += sorted(draft.broken_names)
    if name is None:
        return Problem(
            where,
            f"`{draft.scenario.expect[position].check}` does not say which entry: {message}",
            f"`{key}`: one of {listed(names)}" if names else f"`{key}`, and entries with a `name`",
        )
    meant = nearest_name(name, names)
    kind = "an entry with a window" if key == "during" else "the name of an entry"
    expected = f"one of {listed(names)}" if names else f"{kind} (none has a `name`)"
    return Problem(where, message, None if meant else expected, meant)


def _validate_within(
    scenario: Scenario, position: int, expectation: Expectation, entry_position: int
) -> Iterator[Problem]:
    """Refuse a bound that reaches past the end: it cannot be judged."""
    settings = CHECKS[expectation.check].model_validate(expectation.parameters)
    within_s: float | None = getattr(settings, "within_s", None)
    entry = scenario.timeline[entry_position]
    from_end = "after" in settings.entries
    start = last_end_s(entry, scenario.duration_s) if from_end else last_start_s(entry)
    if within_s is None or start is None or start + within_s <= scenario.duration_s + EPSILON_S:
        return
    expected = "a longer `duration`"
    if scenario.duration_s - start > EPSILON_S:
        expected = f"at most {show_s(scenario.duration_s - start)}, or a longer `duration`"
    elif entry.has_window and entry.for_s is None:
        expected = "a `for` on that entry: without one its window lasts to `duration`"
    yield Problem(
        ("expect", position, "within"),
        f"`within` reaches past `duration`: `{label(scenario, entry_position)}` "
        f"{'ends' if from_end else 'starts'} at {show_s(start)}, "
        f"and the scenario ends at {show_s(scenario.duration_s)}",
        expected,
    )
