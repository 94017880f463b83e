"""`detects_dead_peer`: a peer gives up a dead connection in time."""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Mapping
from itertools import pairwise

from chaos.checks.connections import ConnectionRecord, is_close_frame
from chaos.checks.context import Context, Occurrence, Scope, label, seconds, window_line
from chaos.checks.paths import added_latency_s
from chaos.checks.spans import first_after
from chaos.checks.verdict import Judgement, failed, passed, undecided, worst
from chaos.trace import Event, Side
from chaos.vocabulary.checks import DetectsDeadPeer

_ALARM_STATES = ("closing", "closed", "connecting")
# how a peer shows that it has noticed, by the name of the figure that says when
SIGNS: Mapping[str, str] = {
    "close_frame_at_s": "sent a Close frame",
    "socket_end_at_s": "ended its TCP connection",
    "attempt_at_s": "made its next attempt",
    "state_at_s": "reported its state",
    "told_at_s": "was told by a FIN or RST",
}


def detects_dead_peer(context: Context, settings: DetectsDeadPeer, scope: Scope) -> Judgement:
    """Judge, for each connection that was alive when the entry began, how soon the peer noticed.

    The earliest counts of: the peer's Close frame, FIN or RST at its own side of the link, its next connection
    attempt in place of this connection (a client's only), its reported state `closing`, `closed` or `connecting`
    (of a client with one connection), and a FIN or RST that reached
    it: from then on the network itself has said so, and nobody need find out. Where the entry applies
    to a share of the connections only (`toxicity`), those count that felt it. INCONCLUSIVE where no connection was
    alive, where the path came back before the bound, and where the run ended before it.
    """
    entry = label(context.entry(scope.rows[0].index))
    parts = (
        _judge_connection(context, settings, row, connection, scope.tolerance_s)
        for row in scope.rows
        for client in scope.clients
        for connection in _alive_at(context, row, client)
    )
    return worst(parts, nothing=f"no connection was alive when {entry} began")


def _judge_connection(
    context: Context,
    settings: DetectsDeadPeer,
    row: Occurrence,
    connection: ConnectionRecord,
    tolerance_s: float,
) -> Judgement:
    by, client = settings.by, connection.client
    who = f"client {client}" if by == "client" else f"the server (connection of client {client})"
    signs = _signs(context, connection, by, row.start_s)
    seen = sorted(((SIGNS[name], at_s) for name, at_s in signs.items()), key=lambda sign: sign[1])
    deadline_s = row.start_s + settings.within_s + tolerance_s
    took_s = seen[0][1] - row.start_s if seen else None
    until_s = row.start_s + settings.within_s
    added_s = added_latency_s(context, row.start_s, until_s, client)
    theory_s = theoretical_bound_s(context, by, added_s)
    figures = {
        "client": client,
        "detected_s": None if took_s is None else round(took_s, 6),
        **{name: round(at_s, 6) for name, at_s in signs.items()},
        "within_s": settings.within_s,
        "theoretical_bound_s": theory_s,
    }
    measured = {name: figure for name, figure in figures.items() if figure is not None}
    bound = f"expected within {settings.within_s:g} s"
    if theory_s is not None:
        bound += f", its heartbeat's bound is {theory_s:g} s"
    if took_s is not None and seen[0][1] <= deadline_s:
        reason = f"{who} {seen[0][0]} after {seconds(took_s)} ({bound})"
        return passed(reason, badness=took_s, measured=measured)
    evidence = _chain(
        context, by, row, connection, bound=(deadline_s, settings.within_s), seen=seen
    )
    left = seconds(context.end_s - row.start_s)
    if took_s is None and context.end_s < deadline_s:
        entry = label(context.entry(row.index))
        return undecided(f"the run ended {left} after {entry} began; {bound}", evidence=evidence)
    healed_s = _healed_at(connection, by, row)
    if healed_s is not None and healed_s < deadline_s:
        reason = f"the path came back at {seconds(healed_s)}, before the bound ({bound})"
        return undecided(reason, evidence=evidence)
    reason = f"{who} never noticed in the {left} that were left ({bound})"
    if took_s is not None:
        reason = f"{who} {seen[0][0]} only after {seconds(took_s)} ({bound})"
    badness = math.inf if took_s is None else took_s
    return failed(reason, badness=badness, culprit=by, evidence=evidence, measured=measured)


def _alive_at(context: Context, row: Occurrence, client: int) -> Iterator[ConnectionRecord]:
    """Yield the client's connections that were open and not ending when the entry began."""
    felt = context.felt_on(row.index)
    partial = context.entry(row.index).toxicity < 1
    for connection in context.opened(client).meeting(row.start_s, row.start_s):
        if not partial or (client, connection.number) in felt:
            yield connection


def _signs(
    context: Context, connection: ConnectionRecord, by: Side, since_s: float
) -> dict[str, float]:
    """Return when the peer first showed that it had noticed, in each way in which it did."""
    found: dict[str, float] = {}
    for event in connection.events:
        if event.at_s < since_s:
            continue
        if event.kind in ("fin", "rst") and event.delivered_to(by):
            found.setdefault("told_at_s", event.at_s)
        if not event.sent_by(by):
            continue
        if is_close_frame(event):
            found.setdefault("close_frame_at_s", event.at_s)
        if event.kind in ("fin", "rst"):
            found.setdefault("socket_end_at_s", event.at_s)
    attempts = _attempts_instead(context, connection, since_s) if by == "client" else []
    alarmed = context.once(
        f"alarmed {by} {connection.client}",
        lambda: sorted(
            event.at_s
            for event in context.states(by, connection.client)
            if event.get("state") in _ALARM_STATES
        ),
    )
    states = alarmed[bisect_left(alarmed, since_s) :][:1]
    if any(rival.open_s is not None for rival in _rivals(context, connection, since_s)):
        states = []  # which of its connections a client speaks of cannot be told
    opened = connection.open_s or 0.0
    said_s = first_after(alarmed, opened)
    if said_s is not None and said_s < since_s:
        states = []  # it said so of the living connection too
    found |= {"attempt_at_s": min(attempts, default=math.inf)}
    found |= {"state_at_s": min(states, default=math.inf)}
    return {name: found[name] for name in SIGNS if found.get(name, math.inf) < math.inf}


def _healed_at(connection: ConnectionRecord, by: Side, row: Occurrence) -> float | None:
    """Return when the first frame reached this peer again after the window, on the same connection."""
    if not row.ended or row.end_s <= row.start_s:
        return None
    for event in connection.events:
        if event.kind == "frame" and event.at_s >= row.end_s and event.delivered_to(by):
            return event.at_s
    return None


def _rivals(
    context: Context, connection: ConnectionRecord, since_s: float
) -> list[ConnectionRecord]:
    """Return the connections and attempts that the client had beside this one at that time."""
    return [
        other
        for other in context.going_on(connection.client).meeting(since_s, since_s)
        if other is not connection and since_s < other.over_s()
    ]


def _attempts_instead(
    context: Context, connection: ConnectionRecord, since_s: float
) -> list[float]:
    """Return when the client made attempts that can stand for this connection.

    An attempt that follows the end of another connection or attempt stands for that one. Of those left, as many as
    the client still had beside this one may stand for these.
    """
    following, firsts = context.once(
        f"successions of {connection.client}", lambda: _successions(context, connection.client)
    )
    later = [following[connection].attempt_s] if connection in following else []
    rivals = _rivals(context, connection, since_s)
    newest = firsts[bisect_right(firsts, since_s) :][: len(rivals) + 1]
    return later + [
        at_s
        for place, at_s in enumerate(newest)
        if place >= sum(rival.over_s() > at_s for rival in rivals)
    ]


def _successions(
    context: Context, client: int
) -> tuple[dict[ConnectionRecord, ConnectionRecord], list[float]]:
    """Return what follows each connection of a client in its slot, and when each slot began, in order."""
    slots = context.slots_of(client)
    following = {one: later for slot in slots for one, later in pairwise(slot)}
    return following, sorted(slot[0].attempt_s for slot in slots)


def theoretical_bound_s(context: Context, by: Side, added_s: float) -> float | None:
    """Return K × (I + T) + C + the round trip's added latency.

    None for a peer without a heartbeat in the scenario, and where the latency has no bound.

    Ping interval I after the last pong or miss, pong timeout T, K misses; C is the wait for a Close reply, which the
    reference client does not spend on a dead peer.
    """
    subject = context.subject(by)
    beat = subject.heartbeat
    if beat is None:
        return None
    close_s = 0.0 if subject.use == "reference" else subject.close_timeout_s
    bound_s = subject.misses * (beat.interval_s + beat.timeout_s) + close_s + added_s
    return bound_s if math.isfinite(bound_s) else None


def _chain(
    context: Context,
    by: Side,
    row: Occurrence,
    connection: ConnectionRecord,
    *,
    bound: tuple[float, float],
    seen: list[tuple[str, float]],
) -> tuple[str, ...]:
    """Return the chain of causes: the fault, the ping without its pong, its deadline, the bound, what came then.

    `bound` has when it passed, and how many seconds it is.
    """
    began = seconds(row.start_s)
    lines = [(row.start_s, window_line(context, row))]
    event = context.felt_on(row.index).get((connection.client, connection.number))
    if event is not None:
        how = (
            f"{seconds(event.at_s)}: felt on connection {connection.number}: {event.get('how', '')}"
        )
        lines.append((event.at_s, how))
    ping, beat = _unanswered_ping(connection, by, row.start_s), context.subject(by).heartbeat
    if ping is None:
        lines.append((row.start_s, f"the {by} sent no ping after {began}"))
    else:
        entry = label(context.entry(row.index))
        text = f"{seconds(ping.at_s)}: ping sent by the {by}; no pong, since {entry} was in force from {began}"
        lines.append((ping.at_s, text))
        if beat is not None:
            due_s = ping.at_s + beat.timeout_s
            lines.append((due_s, f"{seconds(due_s)}: the deadline of that ping passed"))
    deadline_s, within_s = bound
    lines.append((deadline_s, f"{seconds(deadline_s)}: the bound passed (within {within_s:g} s)"))
    lines += [(at_s, f"{seconds(at_s)}: {by} {name}") for name, at_s in seen]
    if not seen:
        ended = f"{seconds(context.end_s)}: the run ended; no sign until then"
        lines.append((context.end_s, ended))
    return tuple(text for _, text in sorted(lines, key=lambda line: line[0]))


def _unanswered_ping(connection: ConnectionRecord, by: Side, since_s: float) -> Event | None:
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
