"""`herd`: many clients do not come back all at once."""

from __future__ import annotations

import math
from collections.abc import Sequence

from chaos.checks.context import Context, Scope, seconds
from chaos.checks.statistics import quantile
from chaos.checks.verdict import Judgement, Outcome, undecided
from chaos.vocabulary.checks import Herd

# what this harness adds per client on real sockets, measured about 1 ms: it spreads attempts by itself
HARNESS_S_PER_CLIENT = 0.001
HARNESS_FACTOR = 5
# the share of the clients that may stay away without putting the others' spread in doubt
AWAY_MAX = 0.2


def peak_per_second(times: Sequence[float], width_s: float = 1.0) -> tuple[int, float]:
    """Return the most attempts in any one second (or in `width_s`), half open, and when it begins."""
    ordered = sorted(times)
    best, best_s, left = 0, 0.0, 0
    for right, at_s in enumerate(ordered):
        while left < right and at_s - ordered[left] >= width_s:
            left += 1
        if right - left + 1 > best:
            best, best_s = right - left + 1, ordered[left]
    return best, best_s


def herd(context: Context, settings: Herd, scope: Scope) -> Judgement:
    """Judge the attempts of all clients from the time the entry took effect.

    `peak_per_s`: the most attempts in any sliding second. `spread`: between the 5th and the 95th percentile of each
    client's first attempt, and of the attempt with which each was connected again: those that were refused together
    must not come back together. On real sockets the harness itself spreads attempts by about 1 ms per client; an
    expected spread below five times that is INCONCLUSIVE, as are fewer than two clients that came back.
    """
    back = [
        [at_s for at_s in context.attempts_of(client) if at_s >= scope.since_s]
        for client in scope.clients
    ]
    firsts = [times[0] for times in back if times]
    clients = len(firsts)
    if clients < 2:
        return undecided(f"{clients} clients came back; expected at least 2")
    away = len(scope.clients) - clients
    attempts = [at_s for times in back for at_s in times]
    # what a late harness saw together came over as much more time
    peak, peak_s = peak_per_second(attempts, max(0.0, 1.0 - scope.early_s))
    opened = [at_s for client in scope.clients for at_s in _opened_after(context, client, scope)]
    spread_s = min(_spread_s(firsts), _spread_s(opened) if len(opened) > 1 else math.inf)
    harness_s = 0.0 if context.virtual else HARNESS_S_PER_CLIENT * clients
    added_s = round(harness_s, 6)
    outcome, reasons, evidence = Outcome.PASS, [], []
    if settings.peak_per_s is not None and peak > settings.peak_per_s:
        outcome = Outcome.FAIL
        reasons.append(f"{peak} attempts in one second, expected at most {settings.peak_per_s:g}")
        evidence.append(f"{seconds(peak_s)}: a second with {peak} attempts begins")
    if settings.spread_s is not None and spread_s < settings.spread_s - scope.early_s:
        outcome = Outcome.FAIL
        reasons.append(
            f"{'first attempts' if spread_s == _spread_s(firsts) else 'attempts that connected'} within "
            f"{seconds(spread_s)}, expected a spread of at least {settings.spread_s:g} s"
        )
    expected_s = _expected_spread_s(settings, clients)
    if not reasons and expected_s is not None and expected_s < HARNESS_FACTOR * harness_s:
        outcome = Outcome.INCONCLUSIVE
        reasons.append(
            f"the expected spread of {seconds(expected_s)} is below {HARNESS_FACTOR} times what the harness adds "
            f"({seconds(harness_s)} for {clients} clients)"
        )
    elif not reasons:
        reasons.append(
            f"{clients} clients came back over {seconds(spread_s)}, at most {peak} attempts in one second"
        )
    if outcome is Outcome.PASS and away > AWAY_MAX * len(scope.clients):
        outcome = Outcome.INCONCLUSIVE
        reasons = [
            f"{away} of {len(scope.clients)} clients never came back; who stays away is no herd"
        ]
    if added_s and outcome is not Outcome.INCONCLUSIVE:
        reasons.append(f"the harness itself adds about {added_s:g} s")
    return Judgement(
        outcome,
        "; ".join(reasons),
        culprit="client" if outcome is Outcome.FAIL else "",
        evidence=tuple(evidence),
        measured={
            "clients": clients,
            "peak_per_s": peak,
            "spread_s": round(spread_s, 6),
            "harness_adds_s": added_s,
        },
    )


def _spread_s(times: Sequence[float]) -> float:
    """Return the time between the 5th and the 95th percentile."""
    return quantile(times, 0.95) - quantile(times, 0.05)


def _opened_after(context: Context, client: int, scope: Scope) -> list[float]:
    """Return the time of the attempt with which a client was first connected again after the entry began."""
    for connection in context.of_client(client):
        if connection.attempt_s >= scope.since_s and connection.open_s is not None:
            return [connection.attempt_s]
    return []


def _expected_spread_s(settings: Herd, clients: int) -> float | None:
    if settings.spread_s is not None:
        return settings.spread_s
    return clients / settings.peak_per_s if settings.peak_per_s is not None else None
