"""`backoff`: delays between attempts follow the stated schedule, seen at the link."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from chaos.checks.context import Context, Scope, seconds
from chaos.checks.paths import client_lateness_s
from chaos.checks.schedule import Delay, read_delays
from chaos.checks.statistics import (
    ALPHA,
    distance_at_least,
    excess_above,
    excess_below,
    range_at_most,
    sum_at_most,
)
from chaos.checks.verdict import Judgement, Measure, failed, passed, undecided
from chaos.vocabulary.checks import Backoff

# connecting, scheduling and the link's own step lie between a wait's end and the attempt seen at the link
SLACK_S = 0.15
SPREAD_FROM = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Law:
    """A reading of the schedule: with `shift` 1 a first delay of its own precedes the schedule, with 0 none does.

    Clients differ in whether the random first delay (RFC 6455 §7.2.3) is the schedule's first step or stands
    before it. A client is right under either reading, if it keeps to one.
    """

    settings: Backoff
    first_delay: str
    shift: int
    # by how much a delay may seem longer and shorter than the client made it, for the path between
    late_s: float = 0.0
    early_s: float = 0.0

    def cap_s(self, delay: Delay) -> float:
        """Return the cap of a delay, in seconds."""
        if delay.long_wait:
            return self.settings.max_s
        step = delay.step if delay.cold else max(0, delay.step - self.shift)
        grown = self.settings.initial_s * self.settings.factor ** min(step, 1000 // 4)
        return min(self.settings.max_s, grown)

    def bounds_s(self, delay: Delay) -> tuple[float, float]:
        """Return the least and the greatest delay that the schedule allows."""
        cap_s, jitter = self.cap_s(delay), self.settings.jitter
        first, decorrelated = delay.step == 0, jitter == "decorrelated"
        high_s = self.settings.max_s if decorrelated and not delay.long_wait else cap_s
        if delay.long_wait or first:
            return 0.0, high_s
        if decorrelated:
            return self.settings.initial_s, high_s
        return {"none": cap_s, "equal": cap_s / 2, "full": 0.0}[jitter], high_s

    def drawn(self, delay: Delay) -> bool:
        """Tell whether the delay is drawn uniformly between its bounds."""
        jitter = self.settings.jitter
        if delay.step == 0:
            drawn = jitter in ("none", "full") and self.first_delay == "random"
        else:
            drawn = jitter in ("full", "equal")
        return drawn and not delay.long_wait

    def share(self, delay: Delay, delay_s: float) -> float:
        """Return where a delay lies between its bounds: 0 at the least, 1 at the greatest, beyond for noise."""
        low_s, high_s = self.bounds_s(delay)
        return (delay_s - low_s) / max(high_s - low_s, 1e-9)


def backoff(context: Context, settings: Backoff, scope: Scope) -> Judgement:
    """Judge the delays from the end of one attempt to the start of the next, at the link.

    `after` selects delays that begin at or after the entry took effect; without it all count. Each delay must lie
    within the bounds of its step (0.15 s of slack, and what the client's path adds): full jitter [0, cap],
    equal [cap / 2, cap], none the cap itself, decorrelated [initial, max]. The first delay after a loss may lie
    anywhere in [0, initial]. Jittered delays are then judged together, per client and over all clients: too short as
    a whole (hammering), too long, all alike, and from 20 on not uniform (Kolmogorov–Smirnov), each at a chance below
    1e-7. Delays that Retry-After or a close-code policy set are left out; after a LONG reaction only the maximum
    binds. INCONCLUSIVE when no client had `attempts_min` delays.
    """
    delays = [
        delay
        for client in context.clients
        for delay in read_delays(context, client)
        if not delay.exempt and delay.start_s >= scope.since_s
    ]
    first_delay = context.scenario.client.backoff.first_delay
    late_s, early_s = client_lateness_s(context)
    laws = [
        Law(settings=settings, first_delay=first_delay, shift=shift, late_s=late_s, early_s=early_s)
        for shift in (0, 1)
    ]
    complaints = [_complain(law, delays) for law in laws]
    most = max(Counter(delay.client for delay in delays).values(), default=0)
    measured: dict[str, Measure] = {"delays": len(delays), "delays_of_one_client": most}
    if delays:
        measured["shortest_s"] = round(min(delay.long_s for delay in delays), 6)
        measured["longest_s"] = round(max(delay.short_s for delay in delays), 6)
    if complaints[0] is not None and complaints[1] is not None:
        complaint, evidence = complaints[0]
        return failed(complaint, evidence=evidence, measured=measured)
    if most < settings.attempts_min:
        reason = f"only {most} delays of one client could be seen; expected at least {settings.attempts_min}"
        return undecided(reason, measured=measured)
    reason = f"{len(delays)} delays follow the schedule ({settings.jitter} jitter)"
    return passed(reason, measured=measured)


Complaint = tuple[str, tuple[str, ...]] | None


def _complain(law: Law, delays: Sequence[Delay]) -> Complaint:
    """Return what is wrong with these delays under a reading of the schedule, or None."""
    for delay in delays:
        low_s, high_s = law.bounds_s(delay)
        who = f"client {delay.client} waited"
        if delay.short_s > high_s + SLACK_S + law.late_s:
            reason = f"{who} {seconds(delay.short_s)} after failure {delay.step + 1}; expected at most {high_s:g} s"
            return reason, _series(law, delays, delay.client)
        if delay.long_s < low_s - SLACK_S - law.early_s:
            waited = f"only {seconds(delay.long_s)} after failure {delay.step + 1}"
            reason = f"{who} {waited}; expected at least {low_s:g} s"
            return reason, _series(law, delays, delay.client)
    drawn = [delay for delay in delays if law.drawn(delay)]
    for client in sorted({delay.client for delay in drawn}):
        own = [delay for delay in drawn if delay.client == client]
        complaint = _improbable(law, own, f"client {client}")
        if complaint:
            return complaint, _series(law, delays, client)
    complaint = _improbable(law, drawn, "the clients together")
    return (complaint, _series(law, drawn, drawn[0].client)) if complaint else None


def _improbable(law: Law, delays: Sequence[Delay], who: str) -> str | None:
    """Return why these delays cannot have been drawn as stated, or None."""
    count = len(delays)
    # towards short, what the link adds only lengthens a delay; towards long, what it may have added is taken off.
    # The start of a delay may have reached the link late by as much as the path takes.
    longs = [law.share(delay, delay.long_s + law.early_s) for delay in delays]
    shorts = [law.share(delay, delay.short_s - SLACK_S - law.late_s) for delay in delays]
    mean = sum(longs) / count if count else 0.0
    tests: tuple[tuple[Callable[[], float], str], ...] = (
        (
            lambda: sum_at_most(longs),
            f"hammers: its {count} delays are {mean:.1%} of their caps on average",
        ),
        (
            lambda: sum_at_most([1 - share for share in shorts]),
            f"does not jitter: its {count} delays are all near their caps",
        ),
        (
            lambda: range_at_most(longs),
            f"does not jitter: its {count} delays are the same share of their caps",
        ),
        (lambda: _alike(law, delays), "does not jitter: delays with the same cap are alike"),
        (
            lambda: _spread(longs, shorts),
            f"does not draw uniformly: its {count} delays are too far from an even spread",
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
    if len(longs) < SPREAD_FROM:
        return 1.0
    distance = max(excess_below(longs), excess_above(shorts))
    return distance_at_least(max(0.0, distance), len(longs))


def _series(law: Law, delays: Sequence[Delay], client: int) -> tuple[str, ...]:
    """Return the first delays of a client as evidence."""
    own = [delay for delay in delays if delay.client == client][:8]
    return tuple(
        f"{seconds(delay.start_s)}: attempt over; next at {seconds(delay.next_s)}, after "
        f"{seconds(delay.long_s)} (schedule: {low_s:g}–{high_s:g} s)"
        for delay in own
        for low_s, high_s in [law.bounds_s(delay)]
    )
