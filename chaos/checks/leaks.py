"""`no_leaks`: nothing of an old connection stays, at the end and as a slope over reconnect cycles."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from itertools import pairwise

from chaos.checks.context import Context, Judgement, seconds, worst
from chaos.checks.statistics import slope
from chaos.checks.verdict import Finding, Outcome
from chaos.scenario.model import Expectation
from chaos.trace import Event, Side
from chaos.vocabulary.checks import NoLeaks

CYCLES_MIN = 5
# the first cycles warm caches: counting starts after the second
WARM_UP = 1
# a slope below this is no leak per cycle, whatever the last sample says
SLOPE_MIN = 0.25
OWNED_FIRST = 1000


def no_leaks(context: Context, settings: NoLeaks, _expectation: Expectation) -> Finding:
    """Judge what each subject owns, from its `resources` samples.

    At its stop: no task and no socket may be left, and no more memory channels and connection objects of any class
    than at the start of the run (or, where that was not sampled, than in the steady state). As a slope, when there
    are at least 5 `cycle` samples: after the warm-up of the first cycle, no count may have grown by half a unit per
    cycle or more, in every other cycle at least, with a Theil-Sen slope that agrees, to above what it was in the
    steady state. With `cycles` fewer
    samples than that are INCONCLUSIVE, and so is a subject that gives no samples (level 2).
    """
    sides: tuple[Side, ...] = ("client", "server")
    if settings.by != "both":
        sides = (settings.by,)
    parts: list[Judgement] = []
    for side in sides:
        groups: dict[int | None, list[Event]] = {}
        for event in context.trace.select("resources", subject=side):
            groups.setdefault(event.client, []).append(event)
        if not groups:
            if settings.by != "both" or _in_process(context, side):
                reason = f"the {side} gave no account of its resources (level 2)"
                parts.append(Judgement(outcome=Outcome.INCONCLUSIVE, reason=reason))
            continue
        for client, events in groups.items():
            who = side if client is None else f"{side} {client}"
            parts += [_at_stop(who, events), *_as_slope(who, events, settings.cycles)]
    finding = worst(
        settings.word, parts, nothing="no subject gave an account of its resources (level 2)"
    )
    if finding.outcome is Outcome.PASS:
        return replace(finding, reason=_all_is_well(parts, sides))
    more = tuple(
        part.reason
        for part in parts
        if part.outcome is finding.outcome is Outcome.FAIL and part.reason != finding.reason
    )
    return replace(finding, evidence=(*finding.evidence, *more))


def _all_is_well(parts: list[Judgement], sides: tuple[Side, ...]) -> str:
    who = " and ".join(f"the {side}" for side in sides)
    judged = any("cycles" in part.reason for part in parts)
    grown = ", and nothing grew with the reconnect cycles" if judged else ""
    return f"{who} left nothing behind{grown}"


def _in_process(context: Context, side: Side) -> bool:
    subject = context.scenario.client if side == "client" else context.scenario.server
    return subject.use is not None


def counts_of(event: Event) -> dict[str, int]:
    """Return what a sample counted, by resource; connection objects by class. What was not counted is left out."""
    counts: dict[str, int] = {}
    for name in ("tasks", "sockets", "channels"):
        if event.get(name) is not None:
            counts[name] = int(event[name])
    objects = event.get("objects")
    if isinstance(objects, Mapping):
        counts.update({f"{name} objects": int(count) for name, count in objects.items()})
    return counts


def _at_stop(who: str, events: list[Event]) -> Judgement:
    stopped = [event for event in events if event.get("point") == "stopped"]
    if not stopped:
        reason = f"the {who} was not sampled after its stop"
        return Judgement(outcome=Outcome.INCONCLUSIVE, reason=reason)
    left = counts_of(stopped[-1])
    base = _baseline(events)
    more = {}
    for name, count in left.items():
        allowed = 0 if name in ("tasks", "sockets") else base.get(name, 0)
        if count > allowed:
            more[name] = (count, allowed)
    at = seconds(stopped[-1].at_s)
    measured = tuple((f"{name} left", count) for name, count in left.items())
    if more:
        text = ", ".join(
            f"{count} {name} (expected {allowed})" for name, (count, allowed) in more.items()
        )
        return Judgement(
            outcome=Outcome.FAIL,
            reason=f"the {who} still owned {text} after its stop",
            badness=sum(count for count, _ in more.values()),
            evidence=(f"{at}: sample after the stop: {_text(left)}",),
            measured=measured,
        )
    return Judgement(
        outcome=Outcome.PASS, reason=f"the {who} left nothing behind at its stop", measured=measured
    )


def _baseline(events: list[Event]) -> dict[str, int]:
    """Return what may be there after the stop: what was there before the start, else in the steady state."""
    for point in ("start", "steady", "cycle"):
        for event in events:
            if event.get("point") == point:
                return counts_of(event)
    return {}


def _text(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{count} {name}" for name, count in counts.items())


def _as_slope(who: str, events: list[Event], cycles: int | None) -> list[Judgement]:
    samples = [event for event in events if event.get("point") == "cycle"]
    needed = max(CYCLES_MIN, cycles or 0)
    if len(samples) < needed:
        if cycles is None:
            return []
        reason = (
            f"only {len(samples)} reconnect cycles of the {who} were sampled; expected {needed}"
        )
        return [Judgement(outcome=Outcome.INCONCLUSIVE, reason=reason)]
    rows = [counts_of(event) for event in samples]
    names = sorted({name for row in rows for name in row})
    # a class of objects that a sample does not mention had none then
    series = {name: [row.get(name, 0) for row in rows[WARM_UP:]] for name in names}
    steady = next((counts_of(event) for event in events if event.get("point") == "steady"), {})
    return [_judge_series(who, name, row, steady.get(name, 0)) for name, row in series.items()]


def _judge_series(who: str, name: str, values: list[int], usual: int) -> Judgement:
    """Judge one count. A server that closes at once leaves samples without a connection: `usual` is no growth."""
    growth, steps = values[-1] - values[0], len(values) - 1
    per_cycle = slope(values)
    measured = ((f"{name} per cycle", round(per_cycle, 3)),)
    # one leap is a dead connection that its peer has yet to notice; a leak comes with every other cycle at least
    rises = sum(after > before for before, after in pairwise(values))
    often = growth >= (steps + WARM_UP) / 2 and 2 * rises >= steps
    grows = growth > 0 and often and per_cycle >= SLOPE_MIN
    if grows and values[-1] > usual:
        return Judgement(
            outcome=Outcome.FAIL,
            reason=f"the {who} gains {per_cycle:.2f} {name} per reconnect cycle ({values[0]} to {values[-1]})",
            # what the system runs out of says more than the objects that hang on it
            badness=per_cycle + (OWNED_FIRST if name in ("tasks", "sockets") else 0),
            evidence=(f"{name} after each cycle from the second: {', '.join(map(str, values))}",),
            measured=measured,
        )
    reason = f"the {who} keeps its {name} over {steps + 1 + WARM_UP} cycles"
    return Judgement(outcome=Outcome.PASS, reason=reason, badness=per_cycle, measured=measured)
