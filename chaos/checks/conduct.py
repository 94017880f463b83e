"""`single_connection`, `close_code` and `never_sends_before_open`: manners on the wire."""

from __future__ import annotations

from chaos.checks.connections import Connection, is_close_frame
from chaos.checks.connections import close_code as code_of
from chaos.checks.context import Context, Judgement, inconclusive, seconds, window_line, worst
from chaos.checks.entries import concerns
from chaos.checks.paths import path_hides_client
from chaos.checks.verdict import Finding, Outcome
from chaos.scenario.model import Expectation
from chaos.scenario.rules import speaks_of
from chaos.trace import Event
from chaos.vocabulary.checks import CloseCode, NeverSendsBeforeOpen, SingleConnection
from chaos.vocabulary.faults import SlowAccept


def single_connection(
    context: Context, settings: SingleConnection, expectation: Expectation
) -> Finding:
    """Judge that, `grace` after a connection opened, no older connection or attempt of that client lives.

    An old one is over with its own FIN or RST at the client's side, with one delivered to the client, or when the
    link closed it. A connection in a blackhole delivers nothing, so only the client can end it. INCONCLUSIVE when no
    client had two connections, or none opened early enough before the end to be judged.
    """
    parts = [
        _judge_pair(context, settings, expectation, older, newer)
        for client in context.clients
        for position, newer in enumerate(context.of_client(client))
        if newer.open_s is not None
        for older in context.of_client(client)[:position]
    ]
    judged = [part for part in parts if part is not None]
    return worst(settings.word, judged, nothing="no client opened a second connection")


def _judge_pair(
    context: Context,
    settings: SingleConnection,
    expectation: Expectation,
    older: Connection,
    newer: Connection,
) -> Judgement | None:
    assert newer.open_s is not None
    # before the link reads from the older one, it cannot see that the client has ended it
    opened = max(newer.open_s, _read_from_s(context, older))
    limit_s = opened + settings.grace_s + context.tolerance_s(expectation)
    ended_s = older.client_socket_end_s()
    if ended_s > limit_s and (_unread(context, older) or _cut_off(context, older, opened)):
        return None
    # a newer connection that ended within the grace is no proof that both lived on
    if limit_s > context.end_s:
        return None
    overlap_s = min(ended_s, newer.client_socket_end_s(), context.end_s) - opened
    client = newer.client
    measured = (("client", client), ("overlap_s", round(max(0.0, overlap_s), 6)))
    if ended_s <= limit_s or overlap_s <= limit_s - opened:
        reason = f"client {client} had one connection at a time"
        return Judgement(outcome=Outcome.PASS, reason=reason, badness=overlap_s, measured=measured)
    until = f"until {seconds(ended_s)}" if ended_s < context.end_s else "to the end of the run"
    what = "connection" if older.open_s is not None else "attempt"
    reason = (
        f"client {client} kept {what} {older.number} {until}, {seconds(overlap_s)} beside connection "
        f"{newer.number} (expected at most {settings.grace_s:g} s)"
    )
    evidence = (
        f"{seconds(older.attempt_s)}: attempt of connection {older.number}",
        f"{seconds(newer.open_s)}: connection {newer.number} open",
        f"{seconds(limit_s)}: the grace passed; connection {older.number} was still there",
    )
    return Judgement(
        outcome=Outcome.FAIL, reason=reason, badness=overlap_s, evidence=evidence, measured=measured
    )


def _unread(context: Context, attempt: Connection) -> bool:
    """Tell whether `slow_accept` kept the link from reading this attempt, so that its end could not be seen."""
    if attempt.open_s is not None:
        return False
    slow = {i for i, entry in enumerate(context.scenario.timeline) if entry.word == "slow_accept"}
    return any(event.kind == "felt" and event.get("entry") in slow for event in attempt.events)


def _read_from_s(context: Context, older: Connection) -> float:
    """Return when the link began to read from a connection: `slow_accept` may have kept it from that for long."""
    timeline = context.scenario.timeline
    waits = [
        event.at_s + SlowAccept.model_validate(timeline[event["entry"]].parameters).delay_s
        for event in older.events
        if event.kind == "felt" and timeline[event["entry"]].word == SlowAccept.word
    ]
    return max(waits, default=0.0)


def _cut_off(context: Context, older: Connection, opened: float) -> bool:
    """Tell whether a fault below the link may keep from it that the client has ended this connection.

    A FIN that was lost is sent again, and an RST is not: the link finds out when it next sends something. While it
    dials a server that does not answer, it does not read from the client.
    """
    if path_hides_client(context):
        return True
    dialed = older.first("dialed")
    dialing = dialed is None or dialed.at_s > opened
    for index, entry in enumerate(context.scenario.timeline):
        words = context.words[index]
        hidden = words.hides_client() or (words.hides_server() and dialing)
        if hidden and concerns(entry, older.client):
            rows = context.occurrences[index]
            if any(row.start_s <= opened and row.end_s >= older.attempt_s for row in rows):
                return True
    return False


def close_code(context: Context, settings: CloseCode, expectation: Expectation) -> Finding:
    """Judge the first Close frame that `by` sent on each client's connection at or after the entry took effect.

    Its code must be one of `code` (1005 stands for a Close frame without one). A client whose connection was open
    then and that saw no Close frame from `by` fails too. INCONCLUSIVE when no connection was open.
    """
    index = speaks_of(context.scenario, expectation)
    rows = context.occurrences[index] if index is not None else ()
    if index is not None and not rows:
        return inconclusive(settings.word, f"entry {settings.after!r} never took effect")
    since_s = rows[0].start_s if rows else 0.0
    clients = (
        context.concerned(context.entry(index)) if index is not None else list(context.clients)
    )
    causes = tuple(window_line(context, row) for row in rows[:1])
    parts = [
        part
        for client in clients
        for part in [_judge_code(context, settings, client, since_s, causes)]
        if part is not None
    ]
    return worst(settings.word, parts, nothing="no connection was open then")


def _judge_code(
    context: Context, settings: CloseCode, client: int, since_s: float, causes: tuple[str, ...]
) -> Judgement | None:
    codes = (settings.code,) if isinstance(settings.code, int) else settings.code
    expected = " or ".join(str(code) for code in codes)
    who = f"client {client}" if settings.by == "client" else f"the server, to client {client},"
    frames: list[Event] = []
    alive = False
    for connection in context.of_client(client):
        opened = connection.open_s
        alive = alive or (opened is not None and connection.lost_s() >= since_s)
        frames += [
            event
            for event in connection.events
            if event.at_s >= since_s and is_close_frame(event) and event.sent_by(settings.by)
        ]
    if not frames:
        if not alive:
            return None
        reason = f"{who} sent no Close frame; expected code {expected}"
        return Judgement(outcome=Outcome.FAIL, reason=reason, evidence=causes)
    first = min(frames, key=lambda event: event.at_s)
    code = code_of(first)
    right = code in codes
    reason = f"{who} closed with {code} at {seconds(first.at_s)}"
    return Judgement(
        outcome=Outcome.PASS if right else Outcome.FAIL,
        reason=reason if right else f"{reason}; expected {expected}",
        evidence=()
        if right
        else (*causes, f"{seconds(first.at_s)}: Close {code} by the {settings.by}"),
        measured=(("client", client), ("code", code), ("at_s", round(first.at_s, 6))),
    )


def never_sends_before_open(
    context: Context, settings: NeverSendsBeforeOpen, _expectation: Expectation
) -> Finding:
    """Judge that no client sent bytes between its handshake request and the 101. INCONCLUSIVE without a request."""
    early = context.trace.select("early_data")
    requests = context.trace.select("request")
    if early:
        first = early[0]
        reason = (
            f"client {first.client} sent {first.get('bytes')} bytes on connection {first.connection} at "
            f"{seconds(first.at_s)}, before its 101"
        )
        evidence = tuple(
            f"{seconds(e.at_s)}: request of client {e.client}, connection {e.connection}"
            for e in requests
            if (e.client, e.connection) == (first.client, first.connection)
        )
        return Finding(
            check=settings.word,
            outcome=Outcome.FAIL,
            reason=reason,
            evidence=evidence,
            measured={"times": len(early)},
        )
    if not requests:
        return inconclusive(settings.word, "no handshake request was seen")
    return Finding(
        check=settings.word,
        outcome=Outcome.PASS,
        reason=f"nothing was sent before the 101 in {len({(e.client, e.connection) for e in requests})} handshakes",
    )
