"""What may be expected of a client that is right under a schedule, whatever the schedule.

Pure. `compose` makes a whole scenario of a schedule: the faults, a time in which everything heals, and only such
expectations as hold for every correct client:

* safety, all the time: nothing before the 101, one connection, one handler, nothing twice or out of order, no leaks;
* liveness, at the end: once the last fault is over, every client is connected again within `back_again_s`;
* a silence that outlasts a heartbeat's bound is noticed, where nothing else goes on around it;
* after a last word that the scenario's policy calls final, no further attempt.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from chaos.explore.schedules import (
    MARGIN_S,
    TICK_S,
    Schedule,
    SearchSpace,
    added_s,
    beat_bound_s,
    changed_entry,
    end_s,
    fitting,
    is_clocked,
    kind_of,
)
from chaos.scenario.model import Entry, Expectation, Scenario
from chaos.vocabulary.base import format_duration

# Around a silence whose detection is judged, nothing else may go on for so long.
ALONE_S = 10.0
# Expectations of the scenario's own that do not depend on its timeline; `delivers` is made to fit.
KEPT = frozenset(
    {"no_leaks", "single_connection", "single_handler", "never_sends_before_open", "backoff"}
)
ALWAYS = ("single_connection", "single_handler", "never_sends_before_open", "no_leaks")


def back_again_s(space: SearchSpace, entries: Sequence[Entry]) -> float:
    """Return within what time after the last fault every correct client is connected again.

    The sum of all that may still be under way then, none of which may be cut short: an attempt that hangs, a dead
    connection that the heartbeat has yet to notice, a closing handshake, two of the longest delays (an attempt may
    meet a server that is just back), a Retry-After, what the link still holds back, and the first frame.
    """
    client = space.scenario.client
    backoff_s = max(client.backoff.max_s, client.backoff.initial_s)
    held_s = sum(added_s(entry) for entry in entries)
    every = [row.every_s for row in space.scenario.workload]
    frame_s = min([*every, client.heartbeat.interval_s if client.heartbeat else 30.0])
    total_s = client.connect_timeout_s + space.beat_s + client.close_timeout_s
    return math.ceil(total_s + 2 * backoff_s + held_s + frame_s + MARGIN_S)


@dataclass(frozen=True, slots=True, kw_only=True)
class Times:
    """By when everything is well again, and what follows from it.

    `healed_s`: when every client is connected again. `after_wait_s`: the same, counted from the end of an entry that
    waited for an event. `judged_s`: by when all of that can be judged; nothing else may begin before.
    """

    healed_s: float
    after_wait_s: float
    judged_s: float


def times_of(space: SearchSpace, entries: Sequence[Entry]) -> Times:
    """Return by when a correct client has come through these entries.

    An entry that waits for an attempt or an open fires before the client is well again, or never: each adds its own
    length and one more recovery. Counted from the end of one of them, all timed entries and all others may come yet.
    """
    start_s = space.start_s
    last_s = max([start_s, *(end_s(row) for row in entries if row.on is None)])
    if not entries:
        return Times(healed_s=last_s, after_wait_s=0.0, judged_s=last_s)
    waits = [row for row in entries if row.on is not None]
    again_s = back_again_s(space, entries)
    waited_s = sum(again_s + row.then_s + (row.for_s or 0.0) for row in waits)
    healed_s = math.ceil(last_s + again_s + waited_s)
    after_s = healed_s - start_s
    judged_s = healed_s - again_s + after_s if waits else healed_s
    return Times(healed_s=healed_s, after_wait_s=after_s, judged_s=math.ceil(judged_s))


def compose(space: SearchSpace, schedule: Schedule) -> Scenario:
    """Return the whole scenario that a schedule makes of the one that is hunted in."""
    base, schedule = space.scenario, fitting(schedule)
    entries = timeline = named(schedule.entries)
    times = times_of(space, entries)
    settle_s = max(MARGIN_S, base.settle_s if base.settle_s < times.healed_s else MARGIN_S)
    stop_s = times.judged_s + settle_s + MARGIN_S
    if schedule.final is not None:
        at_s = float(times.judged_s + 1 if entries else times.judged_s)
        name = "goodbye" if schedule.final.by == "client" else "last-word"
        timeline = (*entries, changed_entry(schedule.final, at_s=at_s, name=name))
        stop_s = at_s + max(2 * base.client.backoff.max_s, MARGIN_S) + settle_s
    return base.model_copy(
        update={
            "timeline": timeline,
            "expect": tuple(expectations(space, entries, timeline[len(entries) :], times)),
            "duration_s": float(math.ceil(stop_s)),
            "settle_s": float(settle_s),
            "networks": ("simulated",),
            "steady_state": "default",
            "cell": "",
        }
    )


def named(entries: Sequence[Entry]) -> tuple[Entry, ...]:
    """Return the entries, each with a name of its own: its word, numbered where it stands twice."""
    seen: dict[str, int] = {}
    rows = []
    for entry in entries:
        word = entry.word.replace("_", "-")
        seen[word] = seen.get(word, 0) + 1
        name = word if seen[word] == 1 else f"{word}-{seen[word]}"
        rows.append(changed_entry(entry, name=name))
    return tuple(rows)


def expect(check: str, **parameters: Any) -> Expectation:
    """Return an expectation; numbers of seconds are given as text with their unit."""
    return Expectation.model_validate({"check": check, "parameters": parameters})


def expectations(
    space: SearchSpace, entries: Sequence[Entry], final: Sequence[Entry], times: Times
) -> Iterator[Expectation]:
    """Yield what holds for every correct client under these entries."""
    for entry in final:
        yield expect("never_reconnects", after=entry.name)
    yield from _detections(space, entries)
    if _must_come_back(space, entries):
        yield from _returns(entries, times)
    if _path_is_fair(space, entries):
        yield expect("no_false_alarm")
    own = {
        row.check: row
        for row in space.scenario.expect
        if row.check in KEPT and not {"after", "during", "cycles"} & set(row.parameters)
    }
    for check in ALWAYS:
        yield own.get(check, expect(check))
    if "backoff" in own and not _upsets_backoff(entries):
        yield own["backoff"]
    yield from _deliveries(space, entries, final)


def _returns(entries: Sequence[Entry], times: Times) -> Iterator[Expectation]:
    # what waits for messages or pings may cut at any time, so that only what follows it can be bounded
    clocked = [entry for entry in entries if is_clocked(entry)]
    for entry in clocked or entries:
        within_s = times.after_wait_s if entry.on is not None else times.healed_s - end_s(entry)
        yield expect("reconnects", after=entry.name, within=format_duration(within_s))


def _must_come_back(space: SearchSpace, entries: Sequence[Entry]) -> bool:
    """Tell whether every correct client must be back: it may give up after attempts, or answers that mean never."""
    limited = space.scenario.client.backoff.attempts_max is not None
    return not limited and not any(kind_of(entry).draw.final for entry in entries)


def _upsets_backoff(entries: Sequence[Entry]) -> bool:
    # a client that is told that it is online tries at once, and a new process knows of no failures
    told = any(entry.by == "client" and entry.word in ("offline", "restart") for entry in entries)
    return told or any(_new_process(entry, "client") for entry in entries)


def _new_process(entry: Entry, peer: str) -> bool:
    """Tell whether a peer starts again from nothing."""
    return entry.settings().starts_anew(entry.by) == peer


def _path_is_fair(space: SearchSpace, entries: Sequence[Entry]) -> bool:
    """Tell whether slow entries together stay far below every heartbeat's timeout."""
    subjects = (space.scenario.client, space.scenario.server)
    waits = [subject.heartbeat.timeout_s for subject in subjects if subject.heartbeat is not None]
    slow_s = sum(added_s(entry) for entry in entries)
    return (
        not any(kind_of(entry).draw.chokes for entry in entries)
        and slow_s <= min(waits, default=0.0) / 2
    )


def _detections(space: SearchSpace, entries: Sequence[Entry]) -> Iterator[Expectation]:
    if any(entry.on is not None for entry in entries):
        return
    for entry in entries:
        if any(other is not entry and _is_near(entry, other) for other in entries):
            continue
        for by in _witnesses(entry):
            subject = space.scenario.client if by == "client" else space.scenario.server
            bound_s = math.ceil(beat_bound_s(subject) + subject.close_timeout_s + 1)
            if subject.heartbeat is not None and (entry.for_s or 0.0) > bound_s:
                within = format_duration(float(bound_s))
                yield expect("detects_dead_peer", by=by, during=entry.name, within=within)


def _witnesses(entry: Entry) -> tuple[str, ...]:
    """Return the peers that must notice an entry if it lasts, and that the link sees notice it."""
    return entry.settings().witnesses() if entry.has_window else ()


def _is_near(entry: Entry, other: Entry) -> bool:
    until = (entry.at_s or 0.0) - ALONE_S
    return end_s(other) > until and (other.at_s or 0.0) < end_s(entry) + TICK_S


def _deliveries(
    space: SearchSpace, entries: Sequence[Entry], final: Sequence[Entry]
) -> Iterator[Expectation]:
    senders = sorted({row.sender for row in space.scenario.workload})
    starts = (_new_process(entry, peer) for entry in entries for peer in ("client", "server"))
    forgets = bool(final) or any(starts)
    for sender in senders:
        lines = [row for row in space.scenario.workload if row.sender == sender]
        resumes = all(row.delivery == "resume" for row in lines)
        lost = {"lost": 0} if resumes and not forgets and _must_come_back(space, entries) else {}
        yield expect("delivers", **{"from": sender}, **lost, duplicated=0, reordered=0)
