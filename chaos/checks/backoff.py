"""`backoff`: delays between attempts follow the stated schedule, the policy and Retry-After, seen at the link."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Literal

from chaos.checks.connections import describe_ending
from chaos.checks.context import Context, Scope, seconds
from chaos.checks.paths import client_lateness_s
from chaos.checks.schedule import Delay, Rule, read_delays
from chaos.checks.statistics import (
    ALPHA,
    distance_at_least,
    excess_above,
    excess_below,
    least_mean,
    range_at_most,
    sum_at_most,
)
from chaos.checks.verdict import Judgement, Measure, Outcome, failed, passed, undecided
from chaos.vocabulary.checks import Backoff

# connecting, scheduling and the link's own step lie between a wait's end and the attempt seen at the link
SLACK_S = 0.15
SPREAD_FROM = 20
# a mean below this share of the caps says nothing that a bound would not
POWER_MIN = 1e-3
# a client may exceed what Retry-After asks for by this factor, and by one step of its schedule
RETRY_AFTER_FACTOR = 1.25

# identity is enough here, and hashing them is slow: these are asked of every delay, a dozen times
_BY_SCHEDULE = (Rule.SCHEDULE, Rule.LONG)

LongWait = Literal["cap", "half", "ordinary"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Law:
    """One reading of the schedule. A client is right under any reading, if it keeps to that one.

    Clients differ in whether the random first delay (RFC 6455 §7.2.3) is the schedule's first step (`shift` 0) or
    stands before it (1); in whether a delay counts from the end of the attempt or, as gRPC has it, from its start;
    and in what a long wait is: drawn up to the maximum (`cap`), at least half of it (`half`), or the ordinary
    schedule from its first step.
    """

    settings: Backoff
    first_delay: str
    shift: int
    long: LongWait
    from_start: bool
    # by how much a delay may seem longer and shorter than the client made it, for the path between
    late_s: float = 0.0
    early_s: float = 0.0

    def cap_s(self, delay: Delay) -> float:
        """Return the cap of a delay, in seconds."""
        if self.long != "ordinary" and (delay.after_long or delay.rule is Rule.LONG):
            return self.settings.max_s
        step = delay.step if delay.cold else max(0, delay.step - self.shift)
        grown = self.settings.initial_s * self.settings.factor ** min(step, 1000 // 4)
        return min(self.settings.max_s, grown)

    def bounds_s(self, delay: Delay) -> tuple[float, float]:
        """Return the least and the greatest delay that this reading allows, counted from the attempt's end."""
        low_s, high_s = self._range_s(delay)
        if self.from_start and delay.rule in (Rule.SCHEDULE, Rule.LONG):
            low_s, high_s = max(0.0, low_s - delay.lasted_s), max(0.0, high_s - delay.lasted_s)
        return low_s, high_s

    def _range_s(self, delay: Delay) -> tuple[float, float]:
        cap_s, jitter, max_s = self.cap_s(delay), self.settings.jitter, self.settings.max_s
        if delay.rule not in _BY_SCHEDULE:
            longest_s = max(delay.told_s, delay.told_late_s) * RETRY_AFTER_FACTOR + max_s
            by_rule = {Rule.RETRY_AFTER: (delay.told_s, longest_s), Rule.NOW: (0.0, cap_s)}
            return by_rule.get(delay.rule, (0.0, math.inf))
        if delay.doubtful:
            return 0.0, max_s
        if delay.rule is Rule.LONG and self.long != "ordinary":
            return (0.0 if self.long == "cap" and jitter == "full" else max_s / 2), max_s
        if delay.step == 0 or (delay.after_long and self.long != "ordinary"):
            return 0.0, max_s if jitter == "decorrelated" else cap_s
        low_s = {"none": cap_s, "equal": cap_s / 2, "full": 0.0}
        decorrelated = jitter == "decorrelated"
        return low_s.get(jitter, self.settings.initial_s), max_s if decorrelated else cap_s

    def drawn(self, delay: Delay) -> bool:
        """Tell whether the delay is drawn uniformly between its bounds."""
        jitter = self.settings.jitter
        if delay.rule not in (Rule.SCHEDULE, Rule.LONG) or delay.doubtful:
            return False
        if self.long != "ordinary" and (delay.after_long or delay.rule is Rule.LONG):
            return self.long == "cap" and jitter == "full" and delay.rule is Rule.LONG
        if self.from_start and delay.lasted_s >= self.cap_s(delay):
            return False  # the attempt itself took as long as any delay could
        if delay.step == 0:
            return jitter in ("none", "full") and self.first_delay == "random"
        return jitter in ("full", "equal")

    def censored(self, delay: Delay) -> bool:
        """Tell whether the attempt itself may have taken the whole delay: then it is known to be no longer."""
        return self.from_start and delay.lasted_s > SLACK_S and delay.long_s <= SLACK_S

    def share(self, delay: Delay, delay_s: float) -> float:
        """Return where a delay lies between its bounds: 0 at the least, 1 at the greatest, beyond for noise."""
        low_s, high_s = self._range_s(delay)
        from_s = delay_s + (delay.lasted_s if self.from_start else 0.0)
        return (from_s - low_s) / max(high_s - low_s, 1e-9)


def readings(settings: Backoff, first_delay: str, lateness_s: tuple[float, float]) -> Iterator[Law]:
    """Yield the readings of a schedule, the most usual first."""
    longs: tuple[LongWait, ...] = ("cap", "half", "ordinary")
    for from_start, long, shift in product((False, True), longs, (0, 1)):
        yield Law(
            settings=settings,
            first_delay=first_delay,
            shift=shift,
            long=long,
            from_start=from_start,
            late_s=lateness_s[0],
            early_s=lateness_s[1],
        )


def backoff(context: Context, settings: Backoff, scope: Scope) -> Judgement:
    """Judge the delays from the end of one attempt to the start of the next, at the link, each by its own rule.

    `after` selects delays that begin at or after the entry took effect; without it all count. By the schedule, each
    must lie within the bounds of its step (0.15 s of slack, and what the client's path adds): full jitter [0, cap],
    equal [cap / 2, cap], none the cap itself, decorrelated [initial, max]. The first delay after a loss may lie
    anywhere in [0, initial]. Where the client's policy answers an ending otherwise: `long` is the cap's own range, at
    least half of `max`, or the ordinary schedule from its first step; `now` is one attempt at once, once between two
    stable connections; `auth` is one attempt; `never` is none; a redirect may be followed. Retry-After must have
    passed. Jittered delays are then judged together, per client and over all clients: too short as a whole
    (hammering), too long, all alike, and from 20 on not uniform (Kolmogorov–Smirnov), each at a chance below 1e-6. A
    client may read the schedule in any one way (`Law`) that it keeps to. INCONCLUSIVE when no client had
    `attempts_min` delays, or these are too few to show anything.
    """
    answer = _judge_series(context, settings, scope, one_series=False)
    several = any(len(context.slots_of(client)) > 1 for client in context.clients)
    if several and answer.outcome is Outcome.FAIL:
        other = _judge_series(context, settings, scope, one_series=True)
        return answer if other.outcome is Outcome.FAIL else other
    return answer


def _judge_series(
    context: Context, settings: Backoff, scope: Scope, *, one_series: bool
) -> Judgement:
    """Judge all delays, with one series for all connections of a client or one for each slot."""
    delays = [
        delay
        for client in context.clients
        for delay in read_delays(context, client, one_series=one_series)
        if delay.start_s >= scope.since_s
    ]
    for delay in delays:
        if delay.rule is Rule.NEVER:
            return _against_policy(context, delay)
    first: Complaint = None
    kept: Law | None = None
    first_delay = context.scenario.client.backoff.first_delay
    late_s, early_s = client_lateness_s(context)
    lateness_s = late_s, early_s + scope.early_s
    for law in readings(settings, first_delay, lateness_s):
        complaint = _complain(law, delays)
        if complaint is None:
            kept = law
            break
        first = first or complaint
    measured, most = _measure(delays), _most(delays)
    if kept is None and first is not None:
        return failed(first[0], culprit="client", evidence=first[1], measured=measured)
    if most < settings.attempts_min:
        reason = f"only {most} delays of one client could be seen; expected at least {settings.attempts_min}"
        return undecided(reason, measured=measured)
    assert kept is not None
    return _report_pass(kept, delays, measured)


def _report_pass(law: Law, delays: Sequence[Delay], measured: dict[str, Measure]) -> Judgement:
    drawn = [delay for delay in delays if law.drawn(delay)]
    counts = Counter(delay.rule for delay in delays)
    rules = ", ".join(f"{counts[rule]} by {rule.value}" for rule in Rule if counts[rule])
    reason = f"{len(delays)} delays follow the schedule ({law.settings.jitter} jitter): {rules}"
    if not drawn:
        return passed(reason, measured=measured)
    power = least_mean(len(drawn))
    bounded = any(law.bounds_s(delay)[0] > 0 or delay.rule is not Rule.SCHEDULE for delay in delays)
    if power < POWER_MIN and not bounded:
        few = f"{len(drawn)} random delays are too few to show that a client hammers"
        return undecided(few, measured=measured)
    reason += f"; {len(drawn)} random ones would have shown a mean below {power:.1%} of their caps"
    return passed(reason, measured={**measured, "least_mean_shown": round(power, 6)})


def _measure(delays: Sequence[Delay]) -> dict[str, Measure]:
    measured: dict[str, Measure] = {"delays": len(delays), "delays_of_one_client": _most(delays)}
    if delays:
        measured["shortest_s"] = round(min(delay.long_s for delay in delays), 6)
        measured["longest_s"] = round(max(delay.short_s for delay in delays), 6)
    return measured


def _most(delays: Sequence[Delay]) -> int:
    """Return how many delays the client has that has the most."""
    return max(Counter(delay.client for delay in delays).values(), default=0)


def _against_policy(context: Context, delay: Delay) -> Judgement:
    policy = context.scenario.client.policy
    name = policy if isinstance(policy, str) else "of the scenario"
    what = describe_ending(delay.cause)
    reason = (
        f"client {delay.client} tried again {seconds(delay.long_s)} after {what}, "
        f"which the policy {name} calls final"
    )
    evidence = (
        f"{seconds(delay.start_s)}: {what} to client {delay.client}",
        f"{seconds(delay.next_s)}: attempt",
    )
    return failed(reason, culprit="client", evidence=evidence, measured={"client": delay.client})


Complaint = tuple[str, tuple[str, ...]] | None


def _complain(law: Law, delays: Sequence[Delay]) -> Complaint:
    """Return what is wrong with these delays under a reading of the schedule, or None."""
    for delay in delays:
        reason = _out_of_bounds(law, delay)
        if reason is not None:
            return f"client {delay.client} {reason}", _series(law, delays, delay.client)
    drawn = [delay for delay in delays if law.drawn(delay)]
    by_client: dict[int, list[Delay]] = defaultdict(list)
    for delay in drawn:
        by_client[delay.client].append(delay)
    for client, own in sorted(by_client.items()):
        complaint = _improbable(law, own, f"client {client}")
        if complaint:
            return complaint, _series(law, delays, client)
    complaint = _improbable(law, drawn, "the clients together")
    return (complaint, _series(law, drawn, drawn[0].client)) if complaint else None


def _out_of_bounds(law: Law, delay: Delay) -> str | None:
    """Return how a delay lies outside its bounds, if it does."""
    low_s, high_s = law.bounds_s(delay)
    after = f"after failure {delay.step + 1}"
    if delay.rule is Rule.RETRY_AFTER:
        after = f"after Retry-After {delay.told_s:g} s (RFC 9110 §10.2.3)"
    if delay.short_s > high_s + SLACK_S + law.late_s:
        return f"waited {seconds(delay.short_s)} {after}; expected at most {high_s:g} s"
    if delay.long_s < low_s - SLACK_S - law.early_s:
        return f"waited only {seconds(delay.long_s)} {after}; expected at least {low_s:g} s"
    return None


def _improbable(law: Law, delays: Sequence[Delay], who: str) -> str | None:
    """Return why these delays cannot have been drawn as stated, or None."""
    count = len(delays)
    # towards short, what the link adds only lengthens a delay; towards long, what it may have added is taken off.
    # The start of a delay may have reached the link late by as much as the path takes.
    longs = [law.share(delay, delay.long_s + law.early_s) for delay in delays]
    exact = [delay for delay in delays if not law.censored(delay)]
    exact_longs = [
        share for share, delay in zip(longs, delays, strict=True) if not law.censored(delay)
    ]
    upper = [delay for delay in exact if not delay.beside]
    shorts = [law.share(delay, delay.short_s - SLACK_S - law.late_s) for delay in upper]
    mean = sum(longs) / count if count else 0.0
    tests: tuple[tuple[Callable[[], float], str], ...] = (
        (
            lambda: sum_at_most(longs),
            f"hammers: its {count} delays are {mean:.1%} of their caps on average",
        ),
        (
            lambda: sum_at_most([1 - share for share in shorts]),
            f"does not jitter: its {len(shorts)} delays are all near their caps",
        ),
        (
            lambda: range_at_most(exact_longs),
            f"does not jitter: its {len(exact)} delays are the same share of their caps",
        ),
        (lambda: _alike(law, exact), "does not jitter: delays with the same cap are alike"),
        (
            lambda: _spread(exact_longs, shorts),
            f"does not draw uniformly: its {len(exact)} delays are too far from an even spread",
        ),
    )
    for chance, text in tests:
        value = chance()
        if value < ALPHA:
            return f"{who} {text} (chance {max(value, 1e-99):.0e} or less)"
    return None


def _alike(law: Law, delays: Sequence[Delay]) -> float:
    """Return the chance that delays with the same bounds are as close together as these."""
    groups: dict[tuple[float, float], list[float]] = defaultdict(list)
    for delay in delays:
        groups[law.bounds_s(delay)].append(law.share(delay, delay.long_s))
    return min((range_at_most(group) for group in groups.values()), default=1.0)


def _spread(longs: Sequence[float], shorts: Sequence[float]) -> float:
    """Return the chance of the sample's distance from uniform, each side judged with what cannot feign it."""
    if len(longs) < SPREAD_FROM or len(shorts) < SPREAD_FROM:
        return 1.0
    distance = max(excess_below(longs), excess_above(shorts))
    return distance_at_least(max(0.0, distance), min(len(longs), len(shorts)))


def _series(law: Law, delays: Sequence[Delay], client: int) -> tuple[str, ...]:
    """Return the first delays of a client as evidence."""
    own = [delay for delay in delays if delay.client == client][:8]
    return tuple(
        f"{seconds(delay.start_s)}: attempt over; next at {seconds(delay.next_s)}, after "
        f"{seconds(delay.long_s)} ({delay.rule.value}: {low_s:g}–{high_s:g} s)"
        for delay in own
        for low_s, high_s in [law.bounds_s(delay)]
    )
