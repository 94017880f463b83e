"""`reconnects` and `never_reconnects`: coming back in time, and staying away after a final refusal."""

from __future__ import annotations

from collections.abc import Iterator

from chaos.checks.connections import ConnectionRecord
from chaos.checks.context import Context, Occurrence, Scope, label, seconds, window_line
from chaos.checks.verdict import Judgement, Measure, Outcome, failed, passed, undecided, worst
from chaos.trace import Event
from chaos.vocabulary.checks import NeverReconnects, Reconnects


def reconnects(context: Context, settings: Reconnects, scope: Scope) -> Judgement:
    """Judge, for each client and occurrence, how soon after the entry's end it was connected again.

    Connected is: a 101 delivered and one frame passed on that connection (Close frames do not count). A connection
    that was open before and survived counts as connected at once, with a remark, when frames pass on it again after
    the entry's end, each way in which they passed before. The worst client is reported.
    """
    parts = (
        _judge_client(context, row, client, settings.within_s, scope.tolerance_s)
        for row in scope.rows
        for client in scope.clients
    )
    return worst(parts, nothing="no client to judge")


def _judge_client(
    context: Context, row: Occurrence, client: int, within_s: float, tolerance_s: float
) -> Judgement:
    bound = f"expected within {within_s:g} s"
    if not row.ended:
        entry = label(context.entry(row.index))
        return undecided(f"the window of {entry} did not end before the run did")
    deadline_s = row.end_s + within_s + tolerance_s
    at_s, survived = _connected_at(context, row, client, deadline_s)
    until_s = at_s or context.end_s
    attempts = [t for t in context.attempts_of(client) if row.start_s <= t <= until_s]
    measured: dict[str, Measure] = {"client": client, "attempts": len(attempts)}
    if survived:
        measured["remark"] = "the connection survived"
    evidence = tuple(_chain(context, row, client, deadline_s))
    if at_s is not None:
        took_s, on_time = max(0.0, at_s - row.end_s), at_s <= deadline_s
        measured["reconnected_s"] = round(took_s, 6)
        how = "kept its connection" if survived else f"was connected again after {seconds(took_s)}"
        return Judgement(
            Outcome.PASS if on_time else Outcome.FAIL,
            f"client {client} {how} ({bound})",
            badness=took_s,
            evidence=() if on_time else evidence,
            measured=measured,
        )
    if context.end_s < deadline_s:
        reason = f"the run ended {seconds(context.end_s - row.end_s)} after the entry; {bound}"
        return undecided(reason, evidence=evidence)
    if any(_nothing_sent(connection) for connection in _opened_since(context, row, client)):
        reason = f"client {client} had a connection open again, but no frame was sent on it"
        return undecided(reason, evidence=evidence)
    reason = f"client {client} was never connected again ({bound})"
    return failed(reason, badness=float("inf"), evidence=evidence, measured=measured)


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


def _opened_since(context: Context, row: Occurrence, client: int) -> Iterator[ConnectionRecord]:
    for connection in context.of_client(client):
        if connection.open_s is not None and connection.open_s > row.start_s:
            yield connection


def _flows_again(connection: ConnectionRecord, row: Occurrence) -> bool:
    """Tell whether frames pass after the entry's end in each way in which they passed before it."""
    frames = connection.delivered_frames()
    before = {event.stream for event in frames if event.at_s < row.start_s}
    after = {event.stream for event in frames if event.at_s > row.end_s}
    return bool(after) and before <= after


def _nothing_sent(connection: ConnectionRecord) -> bool:
    sent = any(
        event.kind == "frame" and (event.sent_by("client") or event.sent_by("server"))
        for event in connection.events
    )
    return not sent and connection.first_ending is None


def _chain(context: Context, row: Occurrence, client: int, deadline_s: float) -> Iterator[str]:
    yield window_line(context, row)
    tries = [c for c in context.of_client(client) if c.attempt_s >= row.start_s]
    if not tries:
        yield f"client {client} made no attempt after {seconds(row.start_s)}"
    for connection in tries[-3:]:
        yield f"{seconds(connection.attempt_s)}: attempt: {_fate(connection)}"
    yield f"{seconds(deadline_s)}: the bound passed"


def _fate(connection: ConnectionRecord) -> str:
    refusal, opened = connection.refusal(), connection.open_s
    if opened is not None:
        frames = connection.delivered_frames()
        first = f"first frame at {seconds(frames[0].at_s)}" if frames else "no frame passed"
        return f"open at {seconds(opened)}, {first}"
    if refusal is None:
        return "no answer"
    detail = refusal.get("status") or refusal.get("how") or refusal.get("error") or ""
    return f"{refusal.kind} {detail} at {seconds(refusal.at_s)}".replace("  ", " ")


def never_reconnects(context: Context, _settings: NeverReconnects, scope: Scope) -> Judgement:
    """Judge that no client makes an attempt after it was refused, until the end of the run.

    The refusal is the first Close frame, FIN, RST, refused handshake or refused attempt that reached the client at
    or after the entry took effect (or the Close frame it sent itself, where the entry told it to close).
    INCONCLUSIVE when what is left of the run is shorter than twice the client's longest backoff: it may still wait.
    """
    parts = (_judge_absence(context, client, scope.rows[0]) for client in scope.clients)
    return worst(parts, nothing="no client to judge")


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
    more: dict[str, Measure] = {
        "after_s": row.start_s,
        "entry": "window" if context.entry(row.index).has_window else "instant",
    }
    refused = _refused_at(context, client, row.start_s)
    if refused is None:
        reason = f"no refusal reached client {client} after {seconds(row.start_s)}"
        return undecided(reason, measured=more)
    what = _describe(refused)
    later = [at for at in context.attempts_of(client) if at > refused.at_s]
    measured: dict[str, Measure] = {
        "client": client,
        "refused_at_s": round(refused.at_s, 6),
        "attempts": len(later),
        **more,
    }
    if later:
        first = seconds(later[0] - refused.at_s)
        evidence = (
            window_line(context, row),
            f"{seconds(refused.at_s)}: {what}",
            *(f"{seconds(at)}: attempt" for at in later[:5]),
        )
        reason = f"client {client} tried again {first} after {what} (attempts in all: {len(later)})"
        return failed(reason, badness=len(later), evidence=evidence, measured=measured)
    left_s, needed_s = context.end_s - refused.at_s, 2 * context.scenario.client.backoff.max_s
    if left_s < needed_s:
        expected = f"expected at least {seconds(needed_s)}, twice backoff.max"
        reason = f"only {seconds(left_s)} were left after {what}; {expected}"
        return undecided(reason, measured=measured)
    reason = f"client {client} made no attempt in {seconds(left_s)} after {what}"
    return passed(reason, badness=-left_s, measured=measured)


def _describe(event: Event) -> str:
    if event.kind == "response":
        return f"HTTP {event.get('status')}"
    if event.kind == "frame":
        side = "its own " if event.delivered_to("server") or event.stream == "upstream" else ""
        return f"{side}Close {event.get('code', 1005)}"
    return {"fin": "a FIN", "rst": "an RST", "refused": "a refused attempt"}.get(
        event.kind, event.kind
    )
