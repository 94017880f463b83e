"""`handshake`: conduct after a refused handshake."""

from __future__ import annotations

from collections.abc import Iterator

from chaos.checks.context import EPSILON_S, Context, Judgement, inconclusive, seconds, worst
from chaos.checks.verdict import Finding, Outcome
from chaos.scenario.model import Expectation
from chaos.scenario.rules import speaks_of
from chaos.trace import Event
from chaos.vocabulary.checks import Handshake

# timers may fire this much early on a real clock, and the refusal is recorded just before it is sent
EARLY_S = 0.05


def handshake(context: Context, settings: Handshake, expectation: Expectation) -> Finding:
    """Judge what each client did after its handshakes were refused, from the time the entry took effect.

    `status`: a refusal with that status must have been seen. `attempts_max`: attempts after a client's first refusal,
    up to the one that opens; a refusal after that begins a new count, and the highest is judged. `retry_after`: no
    attempt before the Retry-After of a refusal has passed. INCONCLUSIVE when no handshake was refused, or none with
    Retry-After where that is asked for.
    """
    index = speaks_of(context.scenario, expectation)
    rows = context.occurrences[index] if index is not None else ()
    if index is not None and not rows:
        return inconclusive(settings.word, f"entry {settings.after!r} never took effect")
    since_s = rows[0].start_s if rows else 0.0
    refusals = {client: _refusals(context, client, since_s) for client in context.clients}
    refusals = {client: events for client, events in refusals.items() if events}
    if not refusals:
        return inconclusive(settings.word, "no handshake was refused")
    seen = sorted({int(e["status"]) for events in refusals.values() for e in events})
    if settings.status is not None and settings.status not in seen:
        reason = f"expected a refusal with HTTP {settings.status}, saw {', '.join(map(str, seen))}"
        return Finding(check=settings.word, outcome=Outcome.FAIL, reason=reason)
    parts = [
        part
        for client, events in refusals.items()
        for part in _judge_client(context, settings, client, events)
    ]
    return worst(settings.word, parts, nothing="no refusal carried a Retry-After")


def _refusals(context: Context, client: int, since_s: float) -> list[Event]:
    return [
        event
        for connection in context.of_client(client)
        for event in connection.events
        if event.kind == "response"
        and event.at_s >= since_s
        and event.get("side", "client") == "client"
        and int(event.get("status", 0)) >= 200
    ]


def _judge_client(
    context: Context, settings: Handshake, client: int, events: list[Event]
) -> list[Judgement]:
    attempts = context.attempts.get(client, [])
    refused, after = max(_tries(context, client, events), key=lambda row: len(row[1]))
    first = f"{seconds(refused.at_s)}: HTTP {refused['status']} to client {client}"
    measured = (("client", client), ("refusals", len(events)), ("attempts_after", len(after)))
    parts: list[Judgement] = []
    limit = settings.attempts_max
    if limit is not None or not settings.retry_after:
        over = limit is not None and len(after) > limit
        text = f"client {client} made {len(after)} attempts after its first refusal"
        parts.append(
            Judgement(
                outcome=Outcome.FAIL if over else Outcome.PASS,
                reason=f"{text}; expected at most {limit}" if over else text,
                badness=len(after),
                evidence=(first, *(f"{seconds(at_s)}: attempt" for at_s in after[:8]))
                if over
                else (),
                measured=measured,
            )
        )
    if settings.retry_after:
        told = [event for event in events if event.get("retry_after_s") is not None]
        parts += [_judge_wait(context, client, event, attempts) for event in told]
    return parts


def _tries(
    context: Context, client: int, refusals: list[Event]
) -> Iterator[tuple[Event, list[float]]]:
    """Yield each first refusal since an opening, and the attempts that came after it until one opened."""
    opened = [c for c in context.of_client(client) if c.open_s is not None]
    until_s = float("-inf")
    for refusal in refusals:
        if refusal.at_s <= until_s:
            continue
        worked = [c.attempt_s for c in opened if c.attempt_s > refusal.at_s]
        until_s = min(worked, default=float("inf"))
        attempts = context.attempts.get(client, [])
        yield refusal, [at_s for at_s in attempts if refusal.at_s < at_s <= until_s]


def _judge_wait(context: Context, client: int, event: Event, attempts: list[float]) -> Judgement:
    wait_s = float(event["retry_after_s"])
    early_s = EPSILON_S if context.virtual else EARLY_S
    following = [at_s for at_s in attempts if at_s > event.at_s]
    told = f"{seconds(event.at_s)}: HTTP {event['status']} with Retry-After {wait_s:g} s"
    if following and following[0] < event.at_s + wait_s - early_s:
        waited_s = following[0] - event.at_s
        return Judgement(
            outcome=Outcome.FAIL,
            reason=f"client {client} tried again after {seconds(waited_s)}; Retry-After asked for {wait_s:g} s",
            badness=wait_s - waited_s,
            evidence=(told, f"{seconds(following[0])}: attempt"),
            measured=(("client", client), ("waited_s", round(waited_s, 6))),
        )
    if not following and context.end_s < event.at_s + wait_s:
        reason = f"the run ended before the Retry-After of {wait_s:g} s had passed"
        return Judgement(outcome=Outcome.INCONCLUSIVE, reason=reason, evidence=(told,))
    waited = f"{seconds(following[0] - event.at_s)}" if following else "to the end"
    reason = f"client {client} waited {waited} after Retry-After {wait_s:g} s"
    return Judgement(outcome=Outcome.PASS, reason=reason, measured=(("client", client),))
