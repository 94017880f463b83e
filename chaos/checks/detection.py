"""`detects_dead_peer`: a peer notices, within a bound, that its path is dead."""

from __future__ import annotations

import math
from dataclasses import dataclass

from chaos.checks.connections import Connection, is_close_frame
from chaos.checks.context import (
    Context,
    Judgement,
    inconclusive,
    seconds,
    window_line,
    worst,
)
from chaos.checks.entries import Occurrence, label
from chaos.checks.paths import added_latency_s
from chaos.checks.verdict import Finding, Measure, Outcome
from chaos.scenario.model import Expectation, Subject
from chaos.scenario.rules import speaks_of
from chaos.trace import Event, Side
from chaos.vocabulary.checks import DetectsDeadPeer

_ALARM_STATES = ("closing", "closed", "connecting")


@dataclass(frozen=True, slots=True, kw_only=True)
class Signs:
    """When a peer first showed that it had noticed, each way it can show it; None: not this way."""

    close_s: float | None = None
    socket_s: float | None = None
    attempt_s: float | None = None
    state_s: float | None = None
    told_s: float | None = None

    def named(self) -> list[tuple[str, float]]:
        """Return the signs that were seen, the earliest first."""
        rows = [
            ("sent a Close frame", self.close_s),
            ("ended its TCP connection", self.socket_s),
            ("made its next attempt", self.attempt_s),
            ("reported its state", self.state_s),
            ("was told by a FIN or RST", self.told_s),
        ]
        return sorted(((name, at) for name, at in rows if at is not None), key=lambda row: row[1])


def detects_dead_peer(
    context: Context, settings: DetectsDeadPeer, expectation: Expectation
) -> Finding:
    """Judge, for each client whose connection was alive when the entry began, how soon the peer noticed.

    The earliest counts of: the peer's Close frame, FIN or RST at its own side of the link, its next connection
    attempt (a client's only), its reported state `closing`, `closed` or `connecting`, and a FIN or RST that reached
    it: from then on the network itself has said so, and nobody need find out. Where the entry applies
    to a share of the connections only (`toxicity`), those count that felt it. INCONCLUSIVE where no connection was
    alive, where the path came back before the bound, and where the run ended before it.
    """
    index = speaks_of(context.scenario, expectation)
    assert index is not None, "this check always speaks of an entry"
    entry = context.entry(index)
    rows = context.occurrences[index]
    if not rows:
        return inconclusive(settings.word, f"{label(entry)} never took effect")
    parts = [
        part
        for row in rows
        for client in context.concerned(entry)
        for part in [_judge_client(context, settings, expectation, row, client)]
        if part is not None
    ]
    return worst(settings.word, parts, nothing=f"no connection was alive when {label(entry)} began")


def _judge_client(
    context: Context,
    settings: DetectsDeadPeer,
    expectation: Expectation,
    row: Occurrence,
    client: int,
) -> Judgement | None:
    connection = _alive_at(context, row, client)
    if connection is None:
        return None
    by, who = settings.by, f"client {client}"
    who = who if by == "client" else f"the server (connection of client {client})"
    signs = _signs(context, connection, by, row.start_s)
    seen = signs.named()
    deadline_s = row.start_s + settings.within_s + context.tolerance_s(expectation)
    took_s = seen[0][1] - row.start_s if seen else None
    measured = _measured(context, settings, row=row, client=client, signs=signs, took_s=took_s)
    bound = f"expected within {settings.within_s:g} s"
    theory_s = dict(measured).get("theoretical_bound_s")
    if theory_s is not None:
        bound += f", its heartbeat's bound is {theory_s:g} s"
    if took_s is not None and seen[0][1] <= deadline_s:
        reason = f"{who} {seen[0][0]} after {seconds(took_s)} ({bound})"
        return Judgement(outcome=Outcome.PASS, reason=reason, badness=took_s, measured=measured)
    evidence = _chain(
        context, settings, row=row, connection=connection, deadline_s=deadline_s, seen=seen
    )
    if took_s is None and context.end_s < deadline_s:
        reason = f"the run ended {seconds(context.end_s - row.start_s)} after {label(context.entry(row.index))} began"
        return Judgement(
            outcome=Outcome.INCONCLUSIVE, reason=f"{reason}; {bound}", evidence=evidence
        )
    healed = _healed_at(connection, by, row)
    if healed is not None and healed < deadline_s:
        reason = f"the path came back at {seconds(healed)}, before the bound ({bound})"
        return Judgement(outcome=Outcome.INCONCLUSIVE, reason=reason, evidence=evidence)
    if took_s is None:
        reason = f"{who} never noticed in the {seconds(context.end_s - row.start_s)} that were left ({bound})"
    else:
        reason = f"{who} {seen[0][0]} only after {seconds(took_s)} ({bound})"
    badness = float("inf") if took_s is None else took_s
    return Judgement(
        outcome=Outcome.FAIL, reason=reason, badness=badness, evidence=evidence, measured=measured
    )


def _alive_at(context: Context, row: Occurrence, client: int) -> Connection | None:
    """Return the client's newest connection that was open and not ending when the entry began."""
    felt = {(e.client, e.connection) for e in context.felt(row.index)}
    partial = context.entry(row.index).toxicity < 1
    for connection in reversed(context.of_client(client)):
        opened = connection.open_s
        if opened is None or opened > row.start_s or connection.lost_s() < row.start_s:
            continue
        if partial and (connection.client, connection.number) not in felt:
            continue
        return connection
    return None


def _signs(context: Context, connection: Connection, by: Side, since_s: float) -> Signs:
    close_s = socket_s = attempt_s = told_s = None
    for event in connection.events:
        if event.at_s < since_s:
            continue
        if event.kind in ("fin", "rst") and event.delivered_to(by) and told_s is None:
            told_s = event.at_s
        if not event.sent_by(by):
            continue
        if is_close_frame(event) and close_s is None:
            close_s = event.at_s
        if event.kind in ("fin", "rst") and socket_s is None:
            socket_s = event.at_s
    if by == "client":
        later = [at for at in context.attempts.get(connection.client, []) if at > since_s]
        attempt_s = min(later, default=None)
    states = [
        event.at_s
        for event in context.states(by, connection.client)
        if event.at_s >= since_s and event.get("state") in _ALARM_STATES
    ]
    return Signs(
        close_s=close_s,
        socket_s=socket_s,
        attempt_s=attempt_s,
        state_s=min(states, default=None),
        told_s=told_s,
    )


def _healed_at(connection: Connection, by: Side, row: Occurrence) -> float | None:
    """Return when the first frame reached this peer again after the window, on the same connection."""
    if not row.ended or row.end_s <= row.start_s:
        return None
    for event in connection.events:
        if event.kind == "frame" and event.at_s >= row.end_s and event.delivered_to(by):
            return event.at_s
    return None


def theoretical_bound_s(context: Context, by: Side, added_s: float) -> float | None:
    """Return K × (I + T) + C + the round trip's added latency; None for a peer without a heartbeat in the scenario.

    None too where the latency has no bound.

    Ping interval I after the last pong or miss, pong timeout T, K misses; C is the wait for a Close reply, which the
    reference client does not spend on a dead peer.
    """
    subject: Subject = context.scenario.client if by == "client" else context.scenario.server
    if subject.heartbeat is None:
        return None
    beat = subject.heartbeat
    close_s = 0.0 if subject.use == "reference" else subject.close_timeout_s
    bound_s = subject.misses * (beat.interval_s + beat.timeout_s) + close_s + added_s
    return bound_s if math.isfinite(bound_s) else None


def _measured(
    context: Context,
    settings: DetectsDeadPeer,
    *,
    row: Occurrence,
    client: int,
    signs: Signs,
    took_s: float | None,
) -> tuple[tuple[str, Measure], ...]:
    rows: list[tuple[str, Measure]] = [("client", client)]
    if took_s is not None:
        rows.append(("detected_s", round(took_s, 6)))
    for name, at_s in (
        ("close_frame_at_s", signs.close_s),
        ("socket_end_at_s", signs.socket_s),
        ("attempt_at_s", signs.attempt_s),
        ("state_at_s", signs.state_s),
        ("told_at_s", signs.told_s),
    ):
        if at_s is not None:
            rows.append((name, round(at_s, 6)))
    rows.append(("within_s", settings.within_s))
    until_s = row.start_s + settings.within_s
    added_s = added_latency_s(context, row.start_s, until_s, client)
    bound_s = theoretical_bound_s(context, settings.by, added_s)
    if bound_s is not None:
        rows.append(("theoretical_bound_s", bound_s))
    return tuple(rows)


def _chain(
    context: Context,
    settings: DetectsDeadPeer,
    *,
    row: Occurrence,
    connection: Connection,
    deadline_s: float,
    seen: list[tuple[str, float]],
) -> tuple[str, ...]:
    """Return the chain of causes: the fault, the ping without its pong, its deadline, the bound, what came then."""
    entry = context.entry(row.index)
    lines = [(row.start_s, window_line(context, row))]
    for event in context.felt(row.index):
        if (event.client, event.connection) == (connection.client, connection.number):
            how = f"{seconds(event.at_s)}: felt on connection {connection.number}: {event.get('how', '')}"
            lines.append((event.at_s, how))
            break
    subject = context.scenario.client if settings.by == "client" else context.scenario.server
    ping = _unanswered_ping(connection, settings.by, row.start_s)
    if ping is None:
        lines.append((row.start_s, f"the {settings.by} sent no ping after {seconds(row.start_s)}"))
    else:
        text = (
            f"{seconds(ping.at_s)}: ping sent by the {settings.by}; no pong, since {label(entry)}"
        )
        lines.append((ping.at_s, f"{text} was in force from {seconds(row.start_s)}"))
        if subject.heartbeat is not None:
            due_s = ping.at_s + subject.heartbeat.timeout_s
            lines.append((due_s, f"{seconds(due_s)}: the deadline of that ping passed"))
    lines.append(
        (deadline_s, f"{seconds(deadline_s)}: the bound passed (within {settings.within_s:g} s)")
    )
    for name, at_s in seen:
        lines.append((at_s, f"{seconds(at_s)}: {settings.by} {name}"))
    if not seen:
        lines.append(
            (context.end_s, f"{seconds(context.end_s)}: the run ended; no sign until then")
        )
    return tuple(text for _, text in sorted(lines, key=lambda line: line[0]))


def _unanswered_ping(connection: Connection, by: Side, since_s: float) -> Event | None:
    """Return the first ping of this peer that no pong followed, at or after a time (or the last before it)."""
    waiting: Event | None = None
    for event in connection.events:
        if event.kind != "frame":
            continue
        if event.get("opcode") == "ping" and event.sent_by(by) and waiting is None:
            waiting = event
        elif event.get("opcode") == "pong" and event.delivered_to(by) and event.at_s <= since_s:
            waiting = None
    return waiting
