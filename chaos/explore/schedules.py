"""What a hunt may do to a scenario: which kinds of entries there are, which of them fit, and what it tries first.

Pure. A schedule is a few entries, and perhaps a last word after which no client may come back. An entry begins at a
time, or at an event (`on:`). The kinds are the draws of every word, from weak to strong; shrinking goes by that
order: an entry of an earlier kind, or with an earlier row of parameters, says more about a bug than a later one that
does the same. `promises.py` makes a whole scenario of a schedule.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from random import Random
from typing import Any

from chaos.scenario.model import Entry, Scenario, Subject, Trigger
from chaos.subject import Abilities
from chaos.vocabulary.actions import Action
from chaos.vocabulary.base import Seconds
from chaos.vocabulary.policies import Policy, Reaction
from chaos.vocabulary.word import Draw, Word
from chaos.vocabulary.words import WORDS

# Shares of connections, the surest first: with less than 1, luck decides which of them meet the fault.
SHARES = (1.0, 0.5, 0.25)
# Starts and lengths are multiples of this.
TICK_S = 0.25
MARGIN_S = 2.0
# The events that an entry may wait for, the simplest first; the last two come again and again, whatever happens.
EVENTS = ("open", "attempt", "message", "ping")
CLOCKED = frozenset({"message", "ping"})
# So many entries of a schedule may wait for events, and so long after the event they may begin.
WAITING_MAX = 2
THEN_S = (0.0, 0.25, 1.0)
_FINAL_CODES = (1000, 4000, 4003, 1008, 1003, 4403)
_COMES_BACK = (Reaction.NOW, Reaction.BACKOFF, Reaction.LONG)


@dataclass(frozen=True, slots=True)
class Kind:
    """One way in which hunts draw one word."""

    word: type[Word]
    draw: Draw

    @property
    def needs_ability(self) -> bool:
        """Whether only a subject that declares it can do it."""
        return issubclass(self.word, Action) and not self.word.by_runner

    def entry(self, parameters: Mapping[str, Any], **rest: Any) -> Entry:
        """Return an entry of this kind; see `make_entry`."""
        word, by = self.word, self.draw.by
        return make_entry(word.kind, word.word, parameters, by=by, **rest)

    def strength(self, entry: Entry) -> int:
        """Return the place of an entry's parameters among those of its kind; beyond the last if it has others."""
        rows = [dict(row) for row in self.draw.strengths]
        return rows.index(dict(entry.parameters)) if dict(entry.parameters) in rows else len(rows)


def all_kinds() -> list[Kind]:
    """Return every kind that a hunt may draw, the weakest first."""
    words = [word for table in WORDS.values() for word in table.values()]
    kinds = [Kind(word, draw) for word in words for draw in word.draws]
    return sorted(kinds, key=lambda kind: kind.draw.rank)


def kind_of(entry: Entry) -> Kind:
    """Return the kind of an entry that a hunt drew. Raises KeyError for others."""
    word = WORDS[entry.kind][entry.word]
    for draw in word.draws:
        if draw.by == entry.by:
            return Kind(word, draw)
    raise KeyError(entry.word)


def make_entry(kind: str, word: str, parameters: Mapping[str, Any], **rest: Any) -> Entry:
    """Return an entry; `at_s`, `then_s` and `for_s` among the rest are in seconds."""
    given = {
        name: Seconds(value) if name.endswith("_s") else value
        for name, value in rest.items()
        if value is not None
    }
    row = {"kind": kind, "word": word, "parameters": dict(parameters), **given}
    return Entry.model_validate(row)


def added_s(entry: Entry) -> float:
    """Return for how long an entry may hold something back, beyond its window too: delays, waits, Retry-After."""
    return entry.settings().added_s(entry.for_s or 0.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchSpace:
    """A scenario to hunt in: what its subjects can do, and the times that its settings imply."""

    scenario: Scenario
    client: Abilities
    server: Abilities
    policy: Policy

    @property
    def start_s(self) -> float:
        """The earliest time of a fault: by then a correct client has long been in its steady state."""
        slowest_s = max((row.every_s for row in self.scenario.workload), default=0.0)
        return math.ceil(self.scenario.client.start_spread_s + slowest_s + 2 * MARGIN_S - 1)

    @property
    def beat_s(self) -> float:
        """The longest time that a correct client takes to notice a silence; 0 without a heartbeat."""
        return beat_bound_s(self.scenario.client)

    @property
    def window_s(self) -> float:
        """The longest window worth trying: long enough for each heartbeat to notice and to part, and then some."""
        peers = (self.scenario.client, self.scenario.server)
        noticed_s = max(1.5 * beat_bound_s(peer) + peer.close_timeout_s for peer in peers)
        return min(120.0, max(6.0, math.ceil(noticed_s) + 1.5 * MARGIN_S))

    @property
    def span_s(self) -> float:
        """The time over which faults begin."""
        return min(120.0, max(12.0, 2 * self.window_s))

    def kinds(self) -> tuple[Kind, ...]:
        """Return the kinds of entries that make sense here, the weakest first."""
        return tuple(kind for kind in all_kinds() if self._fits(kind))

    def strengths(self, kind: Kind) -> tuple[Mapping[str, Any], ...]:
        """Return the parameters that a kind may have here, the weakest first."""
        return tuple(row for row in kind.draw.strengths if self._allows(kind, row))

    def _fits(self, kind: Kind) -> bool:
        able = self.client if kind.draw.by == "client" else self.server
        can = not kind.needs_ability or kind.word.word in able.actions
        return can and bool(self.strengths(kind))

    def _allows(self, kind: Kind, row: Mapping[str, Any]) -> bool:
        # an RST that only the server gets leaves the client with a connection that nobody else has
        unsaid = str(row.get("action", "")).startswith("drop") or row.get("side") == "server"
        if (kind.draw.silent or unsaid) and self.scenario.client.heartbeat is None:
            return False
        if "status" in row and self.policy.on_status(row["status"]) not in _COMES_BACK:
            return False
        return "code" not in row or self.policy.on_close(row["code"]) in _COMES_BACK

    def triggers(self) -> tuple[Trigger, ...]:
        """Return the events that an entry may wait for here, none of which comes before the steady state."""
        count, beats = self.scenario.client.count, (self.scenario.client, self.scenario.server)
        per_s = {
            "message": sum(count / row.every_s for row in self.scenario.workload),
            "ping": sum(count / row.heartbeat.interval_s for row in beats if row.heartbeat),
        }
        rows = [(event, count + turn) for event in EVENTS[:2] for turn in (1, 2, 3)]
        for event in EVENTS[2:]:
            # round numbers: the event behind them is one of many that are alike
            first = 10 * math.ceil(per_s[event] * self.start_s / 10 + 0.1)
            rows += [(event, first + more) for more in (0, 10, 20) if per_s[event] > 0]
        return tuple(Trigger.model_validate({"event": event, "number": n}) for event, n in rows)

    def finals(self) -> tuple[Entry, ...]:
        """Return the last words after which no client may come back."""
        codes = [code for code in _FINAL_CODES if self.policy.on_close(code) is Reaction.NEVER]
        found = [("server", code) for code in codes if "close" in self.server.actions]
        found += [("client", 1000)] if "close" in self.client.actions else []
        return tuple(
            make_entry("action", "close", {"code": code}, at_s=0.0, by=by) for by, code in found
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Schedule:
    """Entries with their times, and the last word, whose time follows from theirs."""

    entries: tuple[Entry, ...] = ()
    final: Entry | None = None

    @property
    def size(self) -> int:
        """How many entries its timeline has, the last word among them."""
        return len(self.entries) + (self.final is not None)

    def cost(self) -> tuple[float, ...]:
        """Return by what schedules are compared: fewer, simpler, rounder, shorter, earlier is less."""
        rows = self.entries
        waits = [row for row in rows if row.on is not None]
        spent = [row.for_s or 0.0 for row in rows]
        times = [*spent, *(row.at_s or 0.0 for row in rows)]
        final = self.final
        return (
            self.size,
            0 if final is None else _FINAL_CODES.index(final.parameters["code"]),
            len(waits),
            sum(1 - row.toxicity for row in rows),
            sum(EVENTS.index(row.on.event) for row in waits if row.on is not None),
            sum(kind_of(row).draw.rank for row in rows),
            sum(kind_of(row).strength(row) for row in rows),
            sum(kind_of(row).draw.streams.index(row.stream) for row in rows),
            sum(time_s % 1 != 0 for time_s in times),
            sum(spent),
            sum(row.at_s or 0.0 for row in rows),
            sum(row.on.number + row.then_s for row in waits if row.on is not None),
        )


def beat_bound_s(subject: Subject) -> float:
    """Return how long a peer's heartbeat may take to notice a silence; 0 without one."""
    beat = subject.heartbeat
    return 0.0 if beat is None else subject.misses * (beat.interval_s + beat.timeout_s)


def end_s(entry: Entry) -> float:
    """Return when an entry that begins at a time is over."""
    return (entry.at_s or 0.0) + (entry.for_s or 0.0)


def admitted(entries: Iterable[Entry]) -> tuple[Entry, ...]:
    """Return the entries in order of time, without those that cannot stand beside an earlier one.

    Those that wait for an event come last: at most two, and at most one of them for messages or pings.
    """
    kept: list[Entry] = []
    for entry in sorted(entries, key=_order):
        if not any(_collide(entry, other) for other in kept) and not _exceeds_limit(entry, kept):
            kept.append(entry)
    return tuple(kept)


def fitting(schedule: Schedule) -> Schedule:
    """Return the schedule without what cannot stand together.

    There is no last word beside an entry that waits for messages or pings: it might come after it.
    """
    rows = admitted(schedule.entries)
    return Schedule(entries=rows, final=None if any(map(is_clocked, rows)) else schedule.final)


def is_clocked(entry: Entry) -> bool:
    """Tell whether an entry waits for an event that comes again and again, whatever the client does."""
    return entry.on is not None and entry.on.event in CLOCKED


def _order(entry: Entry) -> tuple[float, ...]:
    if entry.on is None:
        return (0, entry.at_s or 0.0, end_s(entry))
    return (1, EVENTS.index(entry.on.event), entry.on.number, entry.then_s)


def _exceeds_limit(entry: Entry, kept: Iterable[Entry]) -> bool:
    waits = [other for other in kept if other.on is not None]
    if entry.on is None or not waits:
        return False
    return len(waits) >= WAITING_MAX or (is_clocked(entry) and any(map(is_clocked, waits)))


def _actor(entry: Entry) -> str | None:
    """Return the peer that an entry makes do something, or starts again."""
    return entry.settings().starts_anew(entry.by) or entry.by


def _collide(one: Entry, other: Entry) -> bool:
    apart = (one.at_s or 0.0) >= end_s(other) + TICK_S or (other.at_s or 0.0) >= end_s(one) + TICK_S
    if apart and one.on is other.on is None:
        return False
    if _actor(one) is not None and _actor(one) == _actor(other):
        # a peer that restarts, drains, is offline or loses its host does one thing at a time
        return True
    return one.word == other.word and WORDS[one.kind][one.word].exclusive


def changed_entry(entry: Entry, **changes: Any) -> Entry:
    """Return an entry with other values."""
    return entry.model_copy(update=changes)


def basic_schedules(space: SearchSpace, seed: int) -> list[Schedule]:
    """Return what a hunt tries before it draws: each kind of fault alone, each kind of moment, each last word.

    Most failures need one cause or two (Kuhn, Wallace and Gallo, Software Fault Interactions and Implications for
    Software Testing, IEEE TSE 30(6), 2004, https://doi.org/10.1109/TSE.2004.24). So each value of each dimension is
    met once before any two are combined by chance: in the field's words, each-choice coverage. What these schedules
    find is small from the start. The strongest of each kind come first, then the rest; the order is otherwise the
    seed's.
    """
    kinds = space.kinds()
    strongest = [_schedule_of(space, kind, space.strengths(kind)[-1]) for kind in kinds]
    first = [*strongest, *_moments(space), *(Schedule(final=row) for row in space.finals())]
    rest = [_schedule_of(space, kind, row) for kind in kinds for row in space.strengths(kind)[:-1]]
    rng = Random(seed)
    for rows in (first, rest):
        rng.shuffle(rows)
    return first + rest


def _schedule_of(space: SearchSpace, kind: Kind, parameters: Mapping[str, Any]) -> Schedule:
    """Return a schedule of one kind, for the longest window worth trying: long enough for all to be noticed."""
    entry = kind.entry(
        parameters,
        stream=kind.draw.streams[0],
        at_s=space.start_s,
        for_s=None if kind.word.instant else space.window_s,
    )
    # a fault that only new connections can meet needs a new connection
    cut = make_entry("fault", "reset", {}, at_s=space.start_s + TICK_S)
    return Schedule(entries=(entry, cut) if kind.draw.greets else (entry,))


def _moments(space: SearchSpace) -> Iterator[Schedule]:
    """Yield a reset at the first event of each kind and soon after it, with what brings that event about."""
    first = {trigger.event: trigger for trigger in reversed(space.triggers())}
    for event, trigger in first.items():
        before = () if event in CLOCKED else (make_entry("fault", "reset", {}, at_s=space.start_s),)
        for then_s in THEN_S:
            at_event = make_entry("fault", "reset", {}, on=trigger, then_s=then_s)
            yield Schedule(entries=(*before, at_event))
