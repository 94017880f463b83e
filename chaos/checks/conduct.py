"""`single_connection`, `close_code`, `handshake` and `never_sends_before_open`: manners on the wire."""

from __future__ import annotations

from bisect import bisect_right, insort
from collections.abc import Iterator

from chaos.checks.connections import ConnectionRecord, is_close_frame
from chaos.checks.connections import close_code as code_of
from chaos.checks.context import EPSILON_S, Context, Scope, seconds, window_line
from chaos.checks.paths import cut_off, read_from_s, unread
from chaos.checks.spans import first_after
from chaos.checks.verdict import Judgement, Outcome, failed, passed, undecided, worst
from chaos.trace import Event
from chaos.vocabulary.checks import CloseCode, Handshake, NeverSendsBeforeOpen, SingleConnection

# timers may fire this much early on a real clock, and the refusal is recorded just before it is sent
EARLY_S = 0.05
# beside how many older connections of a kind a newer one is judged: one would do, if all could be seen
RIVALS_MAX = 4


def single_connection(context: Context, settings: SingleConnection, scope: Scope) -> Judgement:
    """Judge that, `grace` after a connection opened, no older connection or attempt of that client lives.

    An attempt that never opens counts as well: beside another attempt no longer than `grace` (RFC 6455 §4.1: one
    connection in a CONNECTING state at a time), beside an open connection, which it may be about to replace, no
    longer than `grace` and its `connect_timeout`. An old one is over with its own FIN or RST at its side, with one
    delivered to the client, or when the link closed it. A connection in a blackhole delivers nothing, so only the
    client can end it. INCONCLUSIVE when no client had two connections, or none opened early enough before the end to
    be judged.
    """
    parts = (
        _judge_pair(context, older, newer, settings.grace_s, scope.tolerance_s)
        for client in context.clients
        for older, newer in _pairs(context.of_client(client))
    )
    return worst(parts, nothing="no client opened a second connection")


def _pairs(
    connections: list[ConnectionRecord],
) -> Iterator[tuple[ConnectionRecord, ConnectionRecord]]:
    """Yield each connection or attempt with those before it that lived the longest, of each kind.

    No other can have lived longer beside it: a client with thousands of connections need not be judged pair by pair.
    """
    # the ends of those before, the latest last: of attempts and of connections, as a newer one of each kind sees it
    ends: dict[tuple[bool, bool], list[tuple[float, int]]] = {
        (is_open, newer_opens): [] for is_open in (False, True) for newer_opens in (False, True)
    }
    for position, newer in enumerate(connections):
        found = {
            place
            for is_open in (False, True)
            for _, place in ends[is_open, newer.open_s is not None][-RIVALS_MAX:]
        }
        for place in sorted(found, reverse=True):
            yield connections[-place], newer
        kind = newer.open_s is not None
        # of equal ends the first connection is the last here
        insort(ends[kind, True], (newer.client_socket_end_s(), -position))
        insort(ends[kind, False], (newer.over_s(), -position))


def _judge_pair(
    context: Context,
    older: ConnectionRecord,
    newer: ConnectionRecord,
    grace_s: float,
    tolerance_s: float,
) -> Judgement | None:
    allowed_s = grace_s
    if newer.open_s is None and older.open_s is not None:
        allowed_s += context.scenario.client.connect_timeout_s
    # before the link reads from the older one, it cannot see that the client has ended it
    since_s = newer.attempt_s if newer.open_s is None else newer.open_s
    together_s = max(since_s, read_from_s(context, older))
    limit_s = together_s + allowed_s + tolerance_s
    ended_s, newer_ended_s = older.client_socket_end_s(), newer.client_socket_end_s()
    hidden = ended_s > limit_s and (unread(context, older) or cut_off(context, older, together_s))
    if newer.open_s is None:
        ended_s, newer_ended_s = older.over_s(), newer.over_s()
        hidden = hidden or unread(context, newer) or cut_off(context, newer, together_s)
    # a newer connection that ended within the grace is no proof that both lived on
    if hidden or limit_s > context.end_s:
        return None
    overlap_s = min(ended_s, newer_ended_s, context.end_s) - together_s
    client = newer.client
    measured = {"client": client, "overlap_s": round(max(0.0, overlap_s), 6)}
    if ended_s <= limit_s or overlap_s <= limit_s - together_s:
        reason = f"client {client} had one connection at a time"
        return passed(reason, badness=overlap_s, measured=measured)
    until = f"until {seconds(ended_s)}" if ended_s < context.end_s else "to the end of the run"
    what = "connection" if older.open_s is not None else "attempt"
    beside = f"connection {newer.number}"
    rule = ""
    if newer.open_s is None:
        beside = f"attempt {newer.number}"
        rule = " (RFC 6455 §4.1)" if older.open_s is None else ""
    reason = (
        f"client {client} kept {what} {older.number} {until}, {seconds(overlap_s)} beside {beside} "
        f"(expected at most {allowed_s:g} s){rule}"
    )
    began = "open" if newer.open_s is not None else "attempted"
    evidence = (
        f"{seconds(older.attempt_s)}: attempt of connection {older.number}",
        f"{seconds(since_s)}: connection {newer.number} {began}",
        f"{seconds(limit_s)}: the grace passed; {what} {older.number} was still there",
    )
    return failed(reason, badness=overlap_s, culprit="client", evidence=evidence, measured=measured)


def close_code(context: Context, settings: CloseCode, scope: Scope) -> Judgement:
    """Judge the first Close frame that `by` sent on each client's connection at or after the entry took effect.

    Its code must be one of `code` (1005 stands for a Close frame without one). A client whose connection was open
    then and that saw no Close frame from `by` fails too. INCONCLUSIVE when no connection was open.
    """
    causes = () if scope.index is None else (window_line(context, scope.rows[0]),)
    parts = (
        _judge_code(context, settings, client, scope.since_s, causes) for client in scope.clients
    )
    return worst(parts, nothing="no connection was open then")


def _judge_code(
    context: Context, settings: CloseCode, client: int, since_s: float, causes: tuple[str, ...]
) -> Judgement | None:
    codes = (settings.code,) if isinstance(settings.code, int) else settings.code
    expected = " or ".join(str(code) for code in codes)
    who = f"client {client}" if settings.by == "client" else f"the server, to client {client},"
    connections = context.of_client(client)
    frames = [
        event
        for connection in connections
        for event in connection.events
        if event.at_s >= since_s and is_close_frame(event) and event.sent_by(settings.by)
    ]
    if not frames:
        alive = any(c.open_s is not None and c.lost_s() >= since_s for c in connections)
        reason = f"{who} sent no Close frame; expected code {expected}"
        return failed(reason, culprit=settings.by, evidence=causes) if alive else None
    first = min(frames, key=lambda event: event.at_s)
    code, at = code_of(first), seconds(first.at_s)
    reason = f"{who} closed with {code} at {at}"
    measured = {"client": client, "code": code, "at_s": round(first.at_s, 6)}
    if code in codes:
        return passed(reason, measured=measured)
    evidence = (*causes, f"{at}: Close {code} by the {settings.by}")
    return failed(
        f"{reason}; expected {expected}", culprit=settings.by, evidence=evidence, measured=measured
    )


def handshake(context: Context, settings: Handshake, scope: Scope) -> Judgement:
    """Judge what each client did after its handshakes were refused, from the time the entry took effect.

    `status`: a refusal with that status must have been seen. `attempts_max`: attempts after a client's first refusal,
    up to the one that opens; a refusal after that begins a new count, and the highest is judged. `retry_after`: no
    attempt before the Retry-After of a refusal has passed. A client that ends with an error in place of its next
    attempt fails. INCONCLUSIVE when no handshake was refused, or none with
    Retry-After where that is asked for.
    """
    found = {client: _refusals(context, client, scope.since_s) for client in context.clients}
    refusals = {client: events for client, events in found.items() if events}
    if not refusals:
        return undecided("no handshake was refused")
    seen = sorted({int(e["status"]) for events in refusals.values() for e in events})
    if settings.status is not None and settings.status not in seen:
        saw = ", ".join(map(str, seen))
        return failed(f"expected a refusal with HTTP {settings.status}, saw {saw}")
    parts = (
        part
        for client, events in refusals.items()
        for part in _judge_refused(context, settings, client, events, scope.early_s)
    )
    return worst(parts, nothing="no refusal carried a Retry-After")


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


def _judge_refused(
    context: Context, settings: Handshake, client: int, events: list[Event], early_s: float
) -> Iterator[Judgement]:
    yield from _died_of(context, client, events)
    attempts, limit = context.attempts_of(client), settings.attempts_max
    if limit is not None or not settings.retry_after:
        tries = _tries(context, client, events)
        refused, after = max(tries, key=lambda row: len(row[1]))
        text = f"client {client} made {len(after)} attempts after its first refusal"
        over = limit is not None and len(after) > limit
        first = f"{seconds(refused.at_s)}: HTTP {refused['status']} to client {client}"
        evidence = (first, *(f"{seconds(at_s)}: attempt" for at_s in after[:8]))
        yield Judgement(
            Outcome.FAIL if over else Outcome.PASS,
            f"{text}; expected at most {limit}" if over else text,
            badness=len(after),
            culprit="client" if over else "",
            evidence=evidence if over else (),
            measured={
                "client": client,
                "refusals": len(events),
                "attempts_after": len(after),
            },
        )
    for event in events if settings.retry_after else ():
        if event.get("retry_after_s") is not None:
            yield _judge_wait(context, client, event, attempts, early_s)


def _died_of(context: Context, client: int, refusals: list[Event]) -> Iterator[Judgement]:
    """Yield a failure where a refusal was the last that a client saw before it ended with an error."""
    for end in context.trace.select("subject_exit", subject="client", client=client):
        before = [event for event in refusals if event.at_s <= end.at_s]
        tried = (
            any(before[-1].at_s < at_s <= end.at_s for at_s in context.attempts_of(client))
            if before
            else True
        )
        if end.get("error") and not tried:
            what = f"HTTP {before[-1]['status']}"
            yield failed(
                f"client {client} ended with {end['error']} after {what}",
                badness=float("inf"),
                culprit="client",
                evidence=(f"{seconds(before[-1].at_s)}: {what} to client {client}",),
                measured={"client": client},
            )


def _tries(
    context: Context, client: int, refusals: list[Event]
) -> Iterator[tuple[Event, list[float]]]:
    """Yield each first refusal since an opening, and the attempts that came after it until one opened."""
    opened = sorted(c.attempt_s for c in context.of_client(client) if c.open_s is not None)
    attempts = context.attempts_of(client)
    until_s = float("-inf")
    for refusal in refusals:
        if refusal.at_s > until_s:
            worked_s = first_after(opened, refusal.at_s)
            until_s = float("inf") if worked_s is None else worked_s
            after = attempts[bisect_right(attempts, refusal.at_s) : bisect_right(attempts, until_s)]
            yield refusal, after


def _judge_wait(
    context: Context, client: int, event: Event, attempts: list[float], early_s: float
) -> Judgement:
    wait_s = float(event["retry_after_s"])
    early_s += EPSILON_S if context.virtual else EARLY_S
    next_s = first_after(attempts, event.at_s)
    told = f"{seconds(event.at_s)}: HTTP {event['status']} with Retry-After {wait_s:g} s"
    if next_s is None and context.end_s < event.at_s + wait_s:
        reason = f"the run ended before the Retry-After of {wait_s:g} s had passed"
        return undecided(reason, evidence=(told,))
    if next_s is None:
        return passed(
            f"client {client} waited to the end after Retry-After {wait_s:g} s",
            measured={"client": client},
        )
    waited_s = next_s - event.at_s
    if next_s < event.at_s + wait_s - early_s:
        return failed(
            f"client {client} tried again after {seconds(waited_s)}; Retry-After asked for {wait_s:g} s "
            "(RFC 9110 §10.2.3)",
            badness=wait_s - waited_s,
            culprit="client",
            evidence=(told, f"{seconds(next_s)}: attempt"),
            measured={"client": client, "waited_s": round(waited_s, 6)},
        )
    return passed(
        f"client {client} waited {seconds(waited_s)} after Retry-After {wait_s:g} s",
        measured={"client": client},
    )


def never_sends_before_open(
    context: Context, _settings: NeverSendsBeforeOpen, _scope: Scope
) -> Judgement:
    """Judge that no client sent bytes between its handshake request and the 101. INCONCLUSIVE without a request."""
    early = context.trace.select("early_data")
    requests = context.trace.select("request")
    if early:
        first = early[0]
        own = [e for e in requests if (e.client, e.connection) == (first.client, first.connection)]
        return failed(
            f"client {first.client} sent {first.get('bytes')} bytes on connection {first.connection} at "
            f"{seconds(first.at_s)}, before its 101 (RFC 6455 §4.1)",
            culprit="client",
            evidence=tuple(
                f"{seconds(e.at_s)}: request of client {e.client}, connection {e.connection}"
                for e in own
            ),
            measured={"times": len(early)},
        )
    if not requests:
        return undecided("no handshake request was seen")
    count = len({(e.client, e.connection) for e in requests})
    return passed(f"nothing was sent before the 101 in {count} handshakes")
