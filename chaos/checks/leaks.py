"""`no_leaks`: nothing of an old connection stays, at the end and as a slope over reconnect cycles."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import replace
from itertools import pairwise

from chaos.checks.context import Context, Scope, seconds
from chaos.checks.statistics import slope
from chaos.checks.verdict import Judgement, Outcome, failed, passed, undecided, worst
from chaos.trace import Event, Side
from chaos.vocabulary.checks import NoLeaks

CYCLES_MIN = 5
# the first cycles warm caches: counting starts after the second
WARM_UP = 1
# a slope below this is no leak per cycle, whatever the last sample says
SLOPE_MIN = 0.25
# a leak comes with every other cycle at least: what has not grown over so many cycles has reached its limit
FULL_AFTER = 3
OWNED_FIRST = 1000
# what no subject may own after its stop
NONE_LEFT = ("tasks", "sockets")
# sockets that are closed and to which something still refers, such as an old connection
CLOSED_SOCKETS = "closed socket objects"


def no_leaks(context: Context, settings: NoLeaks, _scope: Scope) -> Judgement:
    """Judge what each subject owns, from its `resources` samples.

    At its stop: no task and no open socket may be left. Memory channels and connection objects may stay, as those of
    an application object that a global keeps, but no more than in the steady state; or, when there are enough `cycle`
    samples for a slope, than after the last cycle.

    As a slope, when there are at least 5 `cycle` samples: after the warm-up of the first cycle, no count may have
    grown by half a unit per cycle or more, in every other cycle at least and within the last 3, with a Theil-Sen
    slope that agrees, to above what it was in the steady state. With `cycles`, fewer samples than that are
    INCONCLUSIVE, and so is a subject that gives no samples (level 2).
    """
    sides: tuple[Side, ...] = ("client", "server")
    if settings.by != "both":
        sides = (settings.by,)
    parts: list[Judgement] = []
    for side in sides:
        groups: dict[int | None, list[Event]] = defaultdict(list)
        for event in context.trace.select("resources", subject=side):
            groups[event.client].append(event)
        # a subject in another process has nothing that could be counted
        if not groups and (settings.by != "both" or context.subject(side).use is not None):
            parts.append(undecided(f"the {side} gave no account of its resources (level 2)"))
        for client, events in groups.items():
            who = side if client is None else f"{side} {client}"
            parts += [_at_stop(who, events), *_as_slope(who, events, settings.cycles)]
    part = worst(parts, nothing="no subject gave an account of its resources (level 2)")
    if part.outcome is Outcome.PASS:
        return replace(part, reason=_all_is_well(parts, sides))
    more = (row.reason for row in parts if row.outcome is part.outcome is Outcome.FAIL)
    evidence = (*part.evidence, *(reason for reason in more if reason != part.reason))
    return replace(part, evidence=evidence)


def _all_is_well(parts: list[Judgement], sides: tuple[Side, ...]) -> str:
    who = " and ".join(f"the {side}" for side in sides)
    judged = any("cycles" in part.reason for part in parts)
    return f"{who} left nothing behind" + (
        ", and nothing grew with the reconnect cycles" if judged else ""
    )


def counts_of(event: Event) -> dict[str, int]:
    """Return what a sample counted, by resource; connection objects by class. What was not counted is left out."""
    names, objects = ("tasks", "sockets", "channels"), event.get("objects")
    counts = {name: int(event[name]) for name in names if event.get(name) is not None}
    if isinstance(objects, Mapping):
        counts |= {f"{name} objects": int(count) for name, count in objects.items()}
    return counts


def _at_stop(who: str, events: list[Event]) -> Judgement:
    stopped = [event for event in events if event.get("point") == "stopped"]
    if not stopped:
        return undecided(f"the {who} was not sampled after its stop")
    left, base = counts_of(stopped[-1]), _baseline(events)
    allowed = {name: 0 if name in NONE_LEFT else base.get(name, 0) for name in left}
    more = {name: count for name, count in left.items() if count > allowed[name]}
    measured = {f"{name} left": count for name, count in left.items()}
    if not more:
        return passed(f"the {who} left nothing behind at its stop", measured=measured)
    text = ", ".join(f"{count} {name} (expected {allowed[name]})" for name, count in more.items())
    counted = ", ".join(f"{count} {name}" for name, count in left.items())
    return failed(
        f"the {who} still owned {text} after its stop",
        badness=sum(more.values()),
        evidence=(f"{seconds(stopped[-1].at_s)}: sample after the stop: {counted}",),
        measured=measured,
    )


def _baseline(events: list[Event]) -> dict[str, int]:
    """Return what may be there after the stop, at most: see `no_leaks`. A sample of the start is the least of it."""
    cycles = [event for event in events if event.get("point") == "cycle"]
    steady = [event for event in events if event.get("point") == "steady"]
    samples = [event for event in events if event.get("point") == "start"]
    samples += steady or cycles[:1]
    if len(cycles) >= CYCLES_MIN:
        samples.append(cycles[-1])
    rows = [counts_of(event) for event in samples]
    for row in rows:  # a socket that is open then is closed by the stop, and may be kept as long as its connection
        row[CLOSED_SOCKETS] = row.get(CLOSED_SOCKETS, 0) + row.get("sockets", 0)
    return {name: max(row.get(name, 0) for row in rows) for name in {n for r in rows for n in r}}


def _as_slope(who: str, events: list[Event], cycles: int | None) -> list[Judgement]:
    samples = [event for event in events if event.get("point") == "cycle"]
    needed = max(CYCLES_MIN, cycles or 0)
    if len(samples) < needed:
        if cycles is None:
            return []
        seen = f"only {len(samples)} reconnect cycles of the {who} were sampled"
        return [undecided(f"{seen}; expected {needed}")]
    rows = [counts_of(event) for event in samples]
    names = sorted({name for row in rows for name in row})
    # a class of objects that a sample does not mention had none then
    series = {name: [row.get(name, 0) for row in rows[WARM_UP:]] for name in names}
    steady = next((counts_of(event) for event in events if event.get("point") == "steady"), {})
    return [_judge_series(who, name, row, steady.get(name, 0)) for name, row in series.items()]


def _judge_series(who: str, name: str, values: list[int], usual: int) -> Judgement:
    """Judge one count. A server that closes at once leaves samples without a connection: `usual` is no growth."""
    growth, steps, per_cycle = values[-1] - values[0], len(values) - 1, slope(values)
    measured = {f"{name} per cycle": round(per_cycle, 3)}
    # one leap is a dead connection that its peer has yet to notice; a leak comes with every other cycle at least
    rises = sum(after > before for before, after in pairwise(values))
    often = growth >= (steps + WARM_UP) / 2 and 2 * rises >= steps
    still = values[-1] > values[max(0, steps - FULL_AFTER)]
    if growth > 0 and often and still and per_cycle >= SLOPE_MIN and values[-1] > usual:
        return failed(
            f"the {who} gains {per_cycle:.2f} {name} per reconnect cycle ({values[0]} to {values[-1]})",
            # what the system runs out of says more than the objects that hang on it
            badness=per_cycle + (OWNED_FIRST if name in NONE_LEFT else 0),
            evidence=(f"{name} after each cycle from the second: {', '.join(map(str, values))}",),
            measured=measured,
        )
    reason = f"the {who} keeps its {name} over {steps + 1 + WARM_UP} cycles"
    return passed(reason, badness=per_cycle, measured=measured)
