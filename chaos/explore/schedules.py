"""What a hunt may do to a scenario, and what may then be expected of a client that is right.

Pure. A schedule is a few entries, and perhaps a last word after which no client may come back. `compose` makes a
whole scenario of it: the faults, a time in which everything heals, and only such expectations as hold for every
correct client under every schedule:

* safety, all the time: nothing before the 101, one connection, one handler, nothing twice or out of order, no leaks;
* liveness, at the end: once the last fault is over, every client is connected again within `back_again_s`;
* a silence that outlasts a heartbeat's bound is noticed, where nothing else goes on around it;
* after a last word that the scenario's policy calls final, no further attempt.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from chaos.checks.paths import is_silent
from chaos.explore.kinds import KINDS, Kind, added_s, kind_of
from chaos.scenario.model import Entry, Expectation, Heartbeat, Scenario, Subject
from chaos.scenario.rules import has_window
from chaos.scenario.timeline_rules import NOT_TWICE
from chaos.subject import Abilities
from chaos.vocabulary.base import Seconds, format_duration
from chaos.vocabulary.policies import POLICIES, Policy, Reaction

# Starts and lengths are multiples of this.
TICK_S = 0.25
# Around a silence whose detection is judged, nothing else may go on for so long.
ALONE_S = 10.0
MARGIN_S = 2.0
# Expectations of the scenario's own that do not depend on its timeline; `delivers` is made to fit.
KEPT = frozenset(
    {"no_leaks", "single_connection", "single_handler", "never_sends_before_open", "backoff"}
)
ALWAYS = ("single_connection", "single_handler", "never_sends_before_open", "no_leaks")
_FINAL_CODES = (1000, 4000, 4003, 1008, 1003, 4403)


@dataclass(frozen=True, slots=True, kw_only=True)
class Ground:
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
        """The longest window worth trying: long enough for a heartbeat to notice, and then some."""
        return min(120.0, max(6.0, math.ceil(1.5 * self.beat_s) + MARGIN_S))

    @property
    def span_s(self) -> float:
        """The time over which faults begin."""
        return min(120.0, max(12.0, 2 * self.window_s))

    def kinds(self) -> tuple[Kind, ...]:
        """Return the kinds of entries that make sense here, the weakest first."""
        return tuple(kind for kind in KINDS if self._fits(kind))

    def strengths(self, kind: Kind) -> tuple[Mapping[str, Any], ...]:
        """Return the parameters that a kind may have here, the weakest first."""
        return tuple(row for row in kind.strengths if self._may(kind, row))

    def _fits(self, kind: Kind) -> bool:
        if kind.kind == "action" and not kind.by_runner:
            abilities = self.client if kind.by == "client" else self.server
            if kind.word not in abilities.actions:
                return False
        return bool(self.strengths(kind))

    def _may(self, kind: Kind, row: Mapping[str, Any]) -> bool:
        # an RST that only the server gets leaves the client with a connection that nobody else has
        unsaid = str(row.get("action", "")).startswith("drop") or row.get("side") == "server"
        silent = kind.silent or unsaid
        if silent and self.scenario.client.heartbeat is None:
            return False
        if "status" in row and self.policy.on_status(row["status"]) not in _COMES_BACK:
            return False
        return "code" not in row or self.policy.on_close(row["code"]) in _COMES_BACK

    def finals(self) -> tuple[Entry, ...]:
        """Return the last words after which no client may come back."""
        codes = [code for code in _FINAL_CODES if self.policy.on_close(code) is Reaction.NEVER]
        found = [("server", code) for code in codes if "close" in self.server.actions]
        found += [("client", 1000)] if "close" in self.client.actions else []
        return tuple(
            make_entry("action", "close", {"code": code}, at_s=0.0, by=by) for by, code in found
        )


_COMES_BACK = (Reaction.NOW, Reaction.BACKOFF, Reaction.LONG)


@dataclass(frozen=True, slots=True, kw_only=True)
class Schedule:
    """Entries with their times, and the last word, whose time follows from theirs."""

    entries: tuple[Entry, ...] = ()
    final: Entry | None = None

    def cost(self) -> tuple[float, ...]:
        """Return by what schedules are compared: fewer, simpler, rounder, shorter, earlier is less."""
        rows = self.entries
        spent = [row.for_s or 0.0 for row in rows]
        times = [*spent, *(row.at_s or 0.0 for row in rows)]
        final = self.final
        return (
            len(rows) + (final is not None),
            0 if final is None else _FINAL_CODES.index(final.parameters["code"]),
            sum(kind_of(row).rank for row in rows),
            sum(kind_of(row).strength(row) for row in rows),
            sum(row.stream == "both" and kind_of(row).kind == "toxic" for row in rows),
            sum(time_s % 1 != 0 for time_s in times),
            sum(spent),
            sum(row.at_s or 0.0 for row in rows),
        )


def make_entry(
    kind: str, word: str, parameters: Mapping[str, Any], *, at_s: float, **rest: Any
) -> Entry:
    """Return an entry; `for_s` among the rest is in seconds."""
    for_s = rest.pop("for_s", None)
    times = {"at_s": Seconds(at_s)} | ({} if for_s is None else {"for_s": Seconds(for_s)})
    row = {"kind": kind, "word": word, "parameters": dict(parameters), **times, **rest}
    return Entry.model_validate(row)


def beat_bound_s(subject: Subject) -> float:
    """Return how long a peer's heartbeat may take to notice a silence; 0 without one."""
    beat: Heartbeat | None = subject.heartbeat
    return 0.0 if beat is None else subject.misses * (beat.interval_s + beat.timeout_s)


def policy_of(scenario: Scenario) -> Policy:
    """Return the close-code policy that the scenario states for its client."""
    stated = scenario.client.policy
    if isinstance(stated, str):
        return POLICIES[stated]
    own = {int(code): Reaction(reaction) for code, reaction in stated.items()}
    return replace(POLICIES["rfc"], codes={**POLICIES["rfc"].codes, **own})


def end_s(entry: Entry) -> float:
    """Return when an entry of a schedule is over."""
    return (entry.at_s or 0.0) + (entry.for_s or 0.0)


def admitted(entries: Iterable[Entry]) -> tuple[Entry, ...]:
    """Return the entries in order of time, without those that cannot stand beside an earlier one."""
    kept: list[Entry] = []
    for entry in sorted(entries, key=lambda row: (row.at_s or 0.0, end_s(row))):
        if not any(_collide(entry, other) for other in kept):
            kept.append(entry)
    return tuple(kept)


def _collide(one: Entry, other: Entry) -> bool:
    if (one.at_s or 0.0) >= end_s(other) + TICK_S and (other.at_s or 0.0) >= end_s(one) + TICK_S:
        return False
    apart = (one.at_s or 0.0) >= end_s(other) + TICK_S or (other.at_s or 0.0) >= end_s(one) + TICK_S
    if apart:
        return False
    if one.kind == other.kind == "action":
        # a peer that restarts, drains or is offline does one thing at a time
        return one.by == other.by
    return one.word == other.word and one.word in NOT_TWICE


def back_again_s(ground: Ground, entries: Sequence[Entry]) -> float:
    """Return within what time after the last fault every correct client is connected again.

    The sum of all that may still be under way then, none of which may be cut short: an attempt that hangs, a dead
    connection that the heartbeat has yet to notice, a closing handshake, two of the longest delays (an attempt may
    meet a server that is just back), a Retry-After, what the link still holds back, and the first frame.
    """
    client = ground.scenario.client
    backoff_s = max(client.backoff.max_s, client.backoff.initial_s)
    held_s = sum(added_s(entry) for entry in entries)
    every = [row.every_s for row in ground.scenario.workload]
    frame_s = min([*every, client.heartbeat.interval_s if client.heartbeat else 30.0])
    total_s = client.connect_timeout_s + ground.beat_s + client.close_timeout_s
    return math.ceil(total_s + 2 * backoff_s + held_s + frame_s + MARGIN_S)


def compose(ground: Ground, schedule: Schedule) -> Scenario:
    """Return the whole scenario that a schedule makes of the one that is hunted in."""
    base = ground.scenario
    entries = named(admitted(schedule.entries))
    last_s = max([ground.start_s, *(end_s(entry) for entry in entries)])
    healed_s = math.ceil(last_s + back_again_s(ground, entries)) if entries else last_s
    settle_s = max(MARGIN_S, base.settle_s if base.settle_s < healed_s else MARGIN_S)
    timeline = entries
    stop_s = healed_s + settle_s + MARGIN_S
    if schedule.final is not None:
        at_s = float(healed_s + 1 if entries else healed_s)
        timeline = (*entries, moved(schedule.final, at_s=at_s, name=_final_name(schedule.final)))
        stop_s = at_s + max(2 * base.client.backoff.max_s, MARGIN_S) + settle_s
    return base.model_copy(
        update={
            "timeline": timeline,
            "expect": tuple(expectations(ground, entries, timeline[len(entries) :], healed_s)),
            "duration_s": float(math.ceil(stop_s)),
            "settle_s": float(settle_s),
            "networks": ("simulated",),
            "steady_state": "default",
            "cell": "",
        }
    )


def _final_name(final: Entry) -> str:
    return "goodbye" if final.by == "client" else "last-word"


def moved(entry: Entry, **changes: Any) -> Entry:
    """Return an entry with other values."""
    return entry.model_copy(update=changes)


def named(entries: Sequence[Entry]) -> tuple[Entry, ...]:
    """Return the entries, each with a name of its own: its word, numbered where it stands twice."""
    seen: dict[str, int] = {}
    rows = []
    for entry in entries:
        word = entry.word.replace("_", "-")
        seen[word] = seen.get(word, 0) + 1
        name = word if seen[word] == 1 else f"{word}-{seen[word]}"
        rows.append(moved(entry, name=name))
    return tuple(rows)


def expect(check: str, **parameters: Any) -> Expectation:
    """Return an expectation; numbers of seconds are given as text with their unit."""
    return Expectation.model_validate({"check": check, "parameters": parameters})


def expectations(
    ground: Ground, entries: Sequence[Entry], final: Sequence[Entry], healed_s: float
) -> Iterator[Expectation]:
    """Yield what holds for every correct client under these entries."""
    for entry in final:
        yield expect("never_reconnects", after=entry.name)
    yield from _detections(ground, entries)
    if _comes_back(ground, entries):
        for entry in entries:
            within = format_duration(healed_s - end_s(entry))
            yield expect("reconnects", after=entry.name, within=within)
    if _path_is_fair(ground, entries):
        yield expect("no_false_alarm")
    own = {row.check: row for row in ground.scenario.expect if _is_kept(row)}
    for check in ALWAYS:
        yield own.get(check, expect(check))
    if "backoff" in own and not _upsets_backoff(entries):
        yield own["backoff"]
    yield from _deliveries(ground, entries, final)


def _is_kept(row: Expectation) -> bool:
    return row.check in KEPT and not {"after", "during", "cycles"} & set(row.parameters)


def _comes_back(ground: Ground, entries: Sequence[Entry]) -> bool:
    """Tell whether every correct client must be back: it may give up after attempts, or answers that mean never."""
    limited = ground.scenario.client.backoff.attempts_max is not None
    return not limited and not any(kind_of(entry).final for entry in entries)


def _upsets_backoff(entries: Sequence[Entry]) -> bool:
    # what is told that it is online tries at once, and a new process knows of no failures
    return any(entry.by == "client" and entry.word in ("offline", "restart") for entry in entries)


def _path_is_fair(ground: Ground, entries: Sequence[Entry]) -> bool:
    """Tell whether slow entries together stay far below every heartbeat's patience."""
    subjects = (ground.scenario.client, ground.scenario.server)
    waits = [subject.heartbeat.timeout_s for subject in subjects if subject.heartbeat is not None]
    slow_s = sum(added_s(entry) for entry in entries)
    return (
        not any(kind_of(entry).chokes for entry in entries)
        and slow_s <= min(waits, default=0.0) / 2
    )


def _detections(ground: Ground, entries: Sequence[Entry]) -> Iterator[Expectation]:
    for entry in entries:
        if (
            not is_silent(entry)
            or entry.word not in ("blackhole", "stall")
            or not has_window(entry)
        ):
            continue
        if any(other is not entry and _near(entry, other) for other in entries):
            continue
        for by in ("client", "server"):
            subject = ground.scenario.client if by == "client" else ground.scenario.server
            bound_s = math.ceil(beat_bound_s(subject) + subject.close_timeout_s + 1)
            if subject.heartbeat is not None and (entry.for_s or 0.0) > bound_s:
                within = format_duration(float(bound_s))
                yield expect("detects_dead_peer", by=by, during=entry.name, within=within)


def _near(entry: Entry, other: Entry) -> bool:
    until = (entry.at_s or 0.0) - ALONE_S
    return end_s(other) > until and (other.at_s or 0.0) < end_s(entry) + TICK_S


def _deliveries(
    ground: Ground, entries: Sequence[Entry], final: Sequence[Entry]
) -> Iterator[Expectation]:
    senders = sorted({row.sender for row in ground.scenario.workload})
    forgets = any(entry.word == "restart" for entry in entries) or bool(final)
    for sender in senders:
        lines = [row for row in ground.scenario.workload if row.sender == sender]
        resumes = all(row.delivery == "resume" for row in lines)
        lost = {"lost": 0} if resumes and not forgets and _comes_back(ground, entries) else {}
        yield expect("delivers", **{"from": sender}, **lost, duplicated=0, reordered=0)
