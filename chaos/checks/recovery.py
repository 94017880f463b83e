"""`reconnects` and `never_reconnects`: coming back in time, and staying away after a final refusal."""

from __future__ import annotations

from collections.abc import Iterator

from chaos.checks.connections import Connection
from chaos.checks.context import Context, Judgement, inconclusive, seconds, window_line, worst
from chaos.checks.entries import Occurrence, label
from chaos.checks.verdict import Finding, Outcome
from chaos.scenario.model import Expectation
from chaos.scenario.rules import speaks_of
from chaos.trace import Event
from chaos.vocabulary.checks import NeverReconnects, Reconnects


def reconnects(context: Context, settings: Reconnects, expectation: Expectation) -> Finding:
    """Judge, for each client and occurrence, how soon after the entry's end it was connected again.

    Connected is: a 101 delivered and one frame passed on that connection (Close frames do not count). A connection
    that was open before and survived counts as connected at once, with a remark, when frames pass on it again after
    the entry's end, each way in which they passed before. The worst client is reported.
    """
    index = speaks_of(context.scenario, expectation)
    assert index is not None, "this check always speaks of an entry"
    entry, rows = context.entry(index), context.occurrences[index]
    if not rows:
        return inconclusive(settings.word, f"{label(entry)} never took effect")
    parts = [
        _judge_client(context, settings, expectation, row, client)
        for row in rows
        for client in context.concerned(entry)
    ]
    return worst(settings.word, parts, nothing="no client to judge")


def _judge_client(
    context: Context,
    settings: Reconnects,
    expectation: Expectation,
    row: Occurrence,
    client: int,
) -> Judgement:
    bound = f"expected within {settings.within_s:g} s"
    if not row.ended:
        reason = f"the window of {label(context.entry(row.index))} did not end before the run did"
        return Judgement(outcome=Outcome.INCONCLUSIVE, reason=reason)
    deadline_s = row.end_s + settings.within_s + context.tolerance_s(expectation)
    at_s, survived = _connected_at(context, row, client, deadline_s)
    attempts = [
        t for t in context.attempts.get(client, []) if row.start_s <= t <= (at_s or context.end_s)
    ]
    measured: list[tuple[str, float | int | str]] = [
        ("client", client),
        ("attempts", len(attempts)),
    ]
    if survived:
        measured.append(("remark", "the connection survived"))
    if at_s is not None:
        took_s = max(0.0, at_s - row.end_s)
        measured.append(("reconnected_s", round(took_s, 6)))
        on_time = at_s <= deadline_s
        how = "kept its connection" if survived else f"was connected again after {seconds(took_s)}"
        return Judgement(
            outcome=Outcome.PASS if on_time else Outcome.FAIL,
            reason=f"client {client} {how} ({bound})",
            badness=took_s,
            evidence=() if on_time else tuple(_chain(context, row, client, deadline_s)),
            measured=tuple(measured),
        )
    evidence = tuple(_chain(context, row, client, deadline_s))
    if context.end_s < deadline_s:
        reason = f"the run ended {seconds(context.end_s - row.end_s)} after the entry; {bound}"
        return Judgement(outcome=Outcome.INCONCLUSIVE, reason=reason, evidence=evidence)
    mute = [c for c in _opened_since(context, row, client) if _nothing_sent(c)]
    if mute:
        reason = f"client {client} had a connection open again, but no frame was sent on it"
        return Judgement(outcome=Outcome.INCONCLUSIVE, reason=reason, evidence=evidence)
    return Judgement(
        outcome=Outcome.FAIL,
        reason=f"client {client} was never connected again ({bound})",
        badness=float("inf"),
        evidence=evidence,
        measured=tuple(measured),
    )


def _connected_at(
    context: Context, row: Occurrence, client: int, deadline_s: float
) -> tuple[float | None, bool]:
    """Return when the client was connected again (not before the entry's end), and whether it never was away."""
    for connection in context.of_client(client):
        opened = connection.open_s
        lived = opened is not None and opened <= row.start_s and connection.lost_s() > deadline_s
        if lived and _flows_again(connection, row):
            return row.end_s, True
    for connection in _opened_since(context, row, client):
        frames = connection.delivered_frames()
        if frames and connection.lost_s() > row.end_s:
            return max(row.end_s, frames[0].at_s), False
    return None, False


def _opened_since(context: Context, row: Occurrence, client: int) -> Iterator[Connection]:
    for connection in context.of_client(client):
        if connection.open_s is not None and connection.open_s > row.start_s:
            yield connection


def _flows_again(connection: Connection, row: Occurrence) -> bool:
    """Tell whether frames pass after the entry's end in each way in which they passed before it."""
    frames = connection.delivered_frames()
    before = {event.stream for event in frames if event.at_s < row.start_s}
    after = {event.stream for event in frames if event.at_s > row.end_s}
    return bool(after) and before <= after


def _nothing_sent(connection: Connection) -> bool:
    sent = any(event.kind == "frame" and event.is_sent for event in connection.events)
    return not sent and connection.first_ending is None


def _chain(context: Context, row: Occurrence, client: int, deadline_s: float) -> Iterator[str]:
    yield window_line(context, row)
    tries = [c for c in context.of_client(client) if c.attempt_s >= row.start_s]
    if not tries:
        yield f"client {client} made no attempt after {seconds(row.start_s)}"
    for connection in tries[-3:]:
        yield f"{seconds(connection.attempt_s)}: attempt: {_fate(connection)}"
    yield f"{seconds(deadline_s)}: the bound passed"


def _fate(connection: Connection) -> str:
    refusal = connection.refusal()
    opened = connection.open_s
    if opened is not None:
        frames = connection.delivered_frames()
        first = f", first frame at {seconds(frames[0].at_s)}" if frames else ", no frame passed"
        return f"open at {seconds(opened)}{first}"
    if refusal is None:
        return "no answer"
    detail = refusal.get("status") or refusal.get("how") or refusal.get("error") or ""
    return f"{refusal.kind} {detail} at {seconds(refusal.at_s)}".replace("  ", " ")


def never_reconnects(
    context: Context, settings: NeverReconnects, expectation: Expectation
) -> Finding:
    """Judge that no client makes an attempt after it was refused, until the end of the run.

    The refusal is the first Close frame, FIN, RST, refused handshake or refused attempt that reached the client at
    or after the entry took effect (or the Close frame it sent itself, where the entry told it to close).
    INCONCLUSIVE when what is left of the run is shorter than twice the client's longest backoff: it may still wait.
    """
    index = speaks_of(context.scenario, expectation)
    assert index is not None, "this check always speaks of an entry"
    entry, rows = context.entry(index), context.occurrences[index]
    if not rows:
        return inconclusive(settings.word, f"{label(entry)} never took effect")
    since_s = rows[0].start_s
    parts = [_judge_absence(context, client, rows[0]) for client in context.concerned(entry)]
    kind = "window" if entry.has_window else "instant"
    return worst(settings.word, parts, nothing="no client to judge", after_s=since_s, entry=kind)


def _refused_at(context: Context, client: int, since_s: float) -> Event | None:
    """Return what first told this client, at or after a time, that it is not wanted (or its own Close)."""
    events: list[Event] = []
    for connection in context.of_client(client):
        if connection.attempt_s >= since_s or connection.lost_s() >= since_s:
            refusal = connection.refusal()
            own = connection.ending_by("client", since_s=since_s)
            events += [e for e in (refusal, own) if e is not None and e.at_s >= since_s]
    return min(events, key=lambda event: event.at_s, default=None)


def _judge_absence(context: Context, client: int, row: Occurrence) -> Judgement:
    refused = _refused_at(context, client, row.start_s)
    if refused is None:
        reason = f"no refusal reached client {client} after {seconds(row.start_s)}"
        return Judgement(outcome=Outcome.INCONCLUSIVE, reason=reason)
    what = _describe(refused)
    later = [at for at in context.attempts.get(client, []) if at > refused.at_s]
    measured = (
        ("client", client),
        ("refused_at_s", round(refused.at_s, 6)),
        ("attempts", len(later)),
    )
    if later:
        first_s = later[0] - refused.at_s
        reason = f"client {client} tried again {seconds(first_s)} after {what} (attempts in all: {len(later)})"
        evidence = (
            window_line(context, row),
            f"{seconds(refused.at_s)}: {what}",
            *(f"{seconds(at)}: attempt" for at in later[:5]),
        )
        return Judgement(
            outcome=Outcome.FAIL,
            reason=reason,
            badness=len(later),
            evidence=evidence,
            measured=measured,
        )
    left_s, needed_s = context.end_s - refused.at_s, 2 * context.scenario.client.backoff.max_s
    if left_s < needed_s:
        expected = f"expected at least {seconds(needed_s)}, twice backoff.max"
        reason = f"only {seconds(left_s)} were left after {what}; {expected}"
        return Judgement(outcome=Outcome.INCONCLUSIVE, reason=reason, measured=measured)
    reason = f"client {client} made no attempt in {seconds(left_s)} after {what}"
    return Judgement(outcome=Outcome.PASS, reason=reason, badness=-left_s, measured=measured)


def _describe(event: Event) -> str:
    if event.kind == "response":
        return f"HTTP {event.get('status')}"
    if event.kind == "frame":
        side = "its own " if event.delivered_to("server") or event.stream == "upstream" else ""
        return f"{side}Close {event.get('code', 1005)}"
    return {"fin": "a FIN", "rst": "an RST", "refused": "a refused attempt"}.get(
        event.kind, event.kind
    )
