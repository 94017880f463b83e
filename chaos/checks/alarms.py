"""`no_false_alarm`: a peer gives up a connection only if it is dead, or if the other peer broke a rule."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

from chaos.checks.connections import ConnectionRecord, close_code, ends_stream, is_close_frame
from chaos.checks.context import (
    Context,
    Occurrence,
    Scope,
    concerns,
    label,
    seconds,
    window_line,
)
from chaos.checks.guards import acting_peer
from chaos.checks.paths import added_latency_s, heartbeat_timeout_s, in_force_late, is_killer
from chaos.checks.spans import Spans
from chaos.checks.traffic import is_data, rates
from chaos.checks.verdict import UNDECODED_AT, Judgement, Measure, failed, passed, undecided
from chaos.trace import DATA, OTHER, SIDES, Event, Side
from chaos.vocabulary.checks import NoFalseAlarm

# how long a peer without a stated heartbeat may wait for a pong
PATIENCE_S = 1.0
# timers may fire this much early on a real clock
EARLY_S = 0.05
# a heartbeat is late when this much more than its interval has passed without one
LATE_SHARE, LATE_S = 0.5, 0.5
# so many heartbeats must have come in time, to know them for such
REGULAR_MIN = 2
# Close codes that accuse the other peer of breaking the protocol (RFC 6455 §7.4.1), soon after it did
ACCUSING = frozenset({1002, 1003, 1007, 1009, 1010})
ACCUSED_WITHIN_S = 2.0
# a connection that opens this soon after an action may still be one that it spoke of
TOLD_S = 0.05


@dataclass(frozen=True, slots=True, kw_only=True)
class Alarm:
    """A connection that was alive, or had to be, and was given up: by whom, whose fault it was, and what shows it."""

    connection: ConnectionRecord
    by: Side
    event: Event
    culprit: Side
    what: str = ""
    at_byte: int | None = None  # of the stream that is no WebSocket any more
    evidence: tuple[tuple[float, str], ...] = ()


def no_false_alarm(context: Context, settings: NoFalseAlarm, scope: Scope) -> Judgement:
    """Judge every ending in the window of `during` (without it: in the whole run).

    An alarm is false when all of this holds: the connection was open; its first ending of any kind (Close frame,
    FIN or RST, at any place of the link) was sent by a peer; no action told that peer to end it
    (an action of its own at most its close timeout and a second before; a `close` explains only its own code); and
    no entry that kills or silences a path (`paths.is_killer`) had touched this very connection and was in force
    then, or had been at most one heartbeat timeout before, or harms for good. The entry that `during` names
    never excuses an alarm. At fault is who gave up, unless the other peer had left a ping unanswered
    (RFC 6455 §5.5.2, §5.5.3) for as long as one may wait for its pong, was late with its own heartbeat, or had sent
    what is no WebSocket; `by` says whose faults count.
    """
    alive = 0
    window = Spans((row.start_s, row.end_s, row) for row in scope.rows)
    for connection in (row for client in context.clients for row in context.of_client(client)):
        open_s, lost_s = connection.open_s, connection.lost_s()
        alive += open_s is not None and window.meets(open_s, lost_s)
        alarm = _false_alarm(context, scope, window, connection)
        if alarm is not None and settings.by in ("both", alarm.culprit):
            return _report(context, scope, alarm)
    if not alive:
        return undecided("no connection was open in the window")
    where = "in the whole run"
    if scope.index is not None:
        where = f"during {label(context.entry(scope.index))}"
    reason = f"no connection that was alive was given up {where}"
    return passed(reason, measured={"connections": alive})


def _false_alarm(
    context: Context, scope: Scope, window: Spans[Occurrence], connection: ConnectionRecord
) -> Alarm | None:
    """Return how a peer gave up this connection though the path was alive, if one did."""
    event = connection.first_ending
    if event is None or event.kind == "closed" or not window.meets(event.at_s, event.at_s):
        return None
    side: Side | None = next((one for one in SIDES if event.sent_by(one)), None)
    if side is None:
        return None
    before = connection.ending_by(OTHER[side])
    if before is not None and before.at_s <= event.at_s:
        return None  # the other peer had given it up before it opened: this only answers
    if _commanded(context, side, connection, event):
        return None
    if _path_dead(context, scope.index, connection, event):
        return None
    return (
        _unanswered_ping(context, connection, side, event)
        or _broken_frame(connection, side, event)
        or _late_beat(context, connection, side, event)
        or _silent_feed(context, connection, side, event)
        or Alarm(connection=connection, by=side, event=event, culprit=side)
    )


def _commanded(context: Context, side: Side, connection: ConnectionRecord, event: Event) -> bool:
    """Tell whether an action told this peer to end its connections."""
    grace_s = context.subject(side).close_timeout_s + 1.0
    for index, entry in enumerate(context.scenario.timeline):
        if entry.kind != "action" or entry.word == "send" or acting_peer(entry) != side:
            continue
        opened = connection.open_s or 0.0
        # an action speaks of the connections that are open in its window
        earliest_s = max(opened - TOLD_S, event.at_s - grace_s)
        told = context.in_force(index).meets(earliest_s, event.at_s)
        if told and concerns(entry, connection.client):
            code = entry.parameters.get("code", 1000)
            if entry.word != "close" or not is_close_frame(event) or close_code(event) == code:
                return True
    return False


def _path_dead(
    context: Context, named: int | None, connection: ConnectionRecord, event: Event
) -> bool:
    """Tell whether an entry other than the named one had touched the connection so that a peer may give it up."""
    grace_s = heartbeat_timeout_s(context)
    for index, entry in enumerate(context.scenario.timeline):
        freezes = entry.kind == "action" and entry.word == "freeze"
        if index == named or (entry.kind == "action" and not freezes):
            continue
        if not is_killer(context, index) or not concerns(entry, connection.client):
            continue
        touched_s, lasting = context.touched(index, connection), context.words[index].lasting
        if not freezes and (touched_s is None or touched_s > event.at_s):
            continue
        if any(True for _ in in_force_late(context, index, event.at_s - grace_s, event.at_s)):
            return True
        if lasting and context.in_force(index).meets(connection.open_s or 0.0, event.at_s):
            return True
    return False


def _frames(connection: ConnectionRecord, until_s: float) -> Iterator[Event]:
    for event in connection.events:
        if event.kind == "frame" and event.at_s <= until_s:
            yield event


def _who(side: Side, client: int) -> str:
    return f"client {client}" if side == "client" else "the server"


def _unanswered_ping(
    context: Context, connection: ConnectionRecord, side: Side, event: Event
) -> Alarm | None:
    """Return the alarm as the other peer's fault if it left a ping of this side unanswered for too long.

    A pong must carry the payload of its ping, and may answer the newest only (RFC 6455 §5.5.3).
    """
    other = OTHER[side]
    open_pings: list[tuple[float, float]] = []  # when each was sent, and when it arrived
    sent: list[float] = []
    wrong: list[float] = []
    for frame in _frames(connection, event.at_s):
        opcode = frame.get("opcode")
        if opcode == "ping" and frame.sent_by(side):
            sent.append(frame.at_s)
        elif opcode == "ping" and frame.delivered_to(other) and sent:
            open_pings.append((sent.pop(0), frame.at_s))
        elif opcode == "pong" and frame.sent_by(other):
            if frame.get("unsolicited"):
                wrong.append(frame.at_s)
            else:
                open_pings.clear()
    beat = context.subject(side).heartbeat
    patience_s = beat.timeout_s if beat is not None else PATIENCE_S
    if not open_pings or event.at_s - open_pings[0][0] < patience_s - EARLY_S:
        return None
    sent_s, arrived_s = open_pings[0]
    client = connection.client
    pongs = [at_s for at_s in wrong if at_s >= arrived_s]
    rule, what = "§5.5.2", f"answered no ping of {_who(side, client)}"
    if pongs:
        rule, what = "§5.5.3", f"answered pings of {_who(side, client)} without their payload"
    evidence = [
        (sent_s, f"ping sent by the {side}"),
        (arrived_s, f"that ping arrived at the {other}; no pong with its payload followed"),
        *((at_s, f"pong by the {other} that answers no ping") for at_s in pongs[:2]),
    ]
    return Alarm(
        connection=connection,
        by=side,
        event=event,
        culprit=other,
        what=f"{what} (RFC 6455 {rule})",
        evidence=tuple(evidence),
    )


def accuses(connection: ConnectionRecord, undecoded: Event) -> bool:
    """Tell whether who was sent what is no WebSocket gave up the connection for it, as it must (RFC 6455 §7.1.7)."""
    ending = connection.first_ending
    if ending is None or not ends_stream(ending) or undecoded.stream == ending.stream:
        return False
    if is_close_frame(ending) and close_code(ending) not in ACCUSING:
        return False
    return 0 <= ending.at_s - undecoded.at_s <= ACCUSED_WITHIN_S


def _broken_frame(connection: ConnectionRecord, side: Side, event: Event) -> Alarm | None:
    """Return the alarm as the other peer's fault if this side closed since the other sent what is no WebSocket."""
    for row in connection.events:
        if row.kind == "undecoded" and row.sent_by(OTHER[side]) and accuses(connection, row):
            return Alarm(
                connection=connection,
                by=side,
                event=event,
                culprit=OTHER[side],
                what=f"broke the protocol: {row.get('why', '')}",
                evidence=((row.at_s, f"byte {row.get('at_byte')} of its stream"),),
                at_byte=row.get("at_byte"),
            )
    return None


def _late_beat(
    context: Context, connection: ConnectionRecord, side: Side, event: Event
) -> Alarm | None:
    """Return the alarm as the other peer's fault if its own heartbeat, regular until then, was late.

    Heartbeats are pings, unsolicited pongs, and data frames that are no workload message. After a ping the next is
    due once its pong has come: who does not answer cannot complain.
    """
    other = OTHER[side]
    beat = context.subject(other).heartbeat
    if beat is None:
        return None
    frames = list(_frames(connection, event.at_s))
    beats = [frame for frame in frames if frame.sent_by(other) and _is_beat(frame)]
    times = [frame.at_s for frame in beats]
    added_s = added_latency_s(context, connection.open_s or 0.0, event.at_s, connection.client)
    allowed_s = beat.interval_s * (1 + LATE_SHARE) + LATE_S + added_s
    gaps = [later - earlier for earlier, later in pairwise(times)]
    if sum(beat.interval_s / 2 <= gap <= allowed_s for gap in gaps) < REGULAR_MIN:
        return None
    since_s = times[-1]
    if event.at_s - since_s < beat.interval_s / 2:  # given up when the late one came
        beats, since_s = beats[:-1], times[-2]
    if beats[-1].get("opcode") == "ping":
        pongs = (f.at_s for f in frames if f.get("opcode") == "pong" and f.delivered_to(other))
        since_s = next((at_s for at_s in pongs if at_s >= since_s), event.at_s)
    gap_s = event.at_s - since_s
    if gap_s <= allowed_s:
        return None
    return Alarm(
        connection=connection,
        by=side,
        event=event,
        culprit=other,
        what=f"sent no heartbeat in time: {seconds(gap_s)} had passed, and its interval is {beat.interval_s:g} s",
        evidence=(
            (since_s, f"from here on the {other} was due to send one in {beat.interval_s:g} s"),
        ),
    )


def _silent_feed(
    context: Context, connection: ConnectionRecord, side: Side, event: Event
) -> Alarm | None:
    """Return the alarm as the other peer's fault if its workload, which had come before, had stopped for too long.

    That is longer than two intervals and a second, and than this side's heartbeat may take; no entry had touched the
    connection.
    """
    other = OTHER[side]
    every_s = rates(context).get(other)
    times = [f.at_s for f in _frames(connection, event.at_s) if f.sent_by(other) and is_data(f)]
    touched = (
        context.touched(index, connection) is not None
        for index, entry in enumerate(context.scenario.timeline)
        if entry.word != "noop"
    )
    if every_s is None or len(times) < REGULAR_MIN or any(touched):
        return None
    beat = context.subject(side).heartbeat
    patience_s = beat.interval_s + beat.timeout_s if beat is not None else 0.0
    gap_s = event.at_s - times[-1]
    if gap_s < max(2 * every_s + PATIENCE_S, patience_s):
        return None
    return Alarm(
        connection=connection,
        by=side,
        event=event,
        culprit=other,
        what=f"sent no message for {seconds(gap_s)}, though one is due each {every_s:g} s",
        evidence=((times[-1], f"last message of the {other}"),),
    )


def _is_beat(frame: Event) -> bool:
    opcode = frame.get("opcode")
    if opcode == "pong":
        return bool(frame.get("unsolicited"))
    return opcode == "ping" or (opcode in DATA and frame.get("id") is None)


def _report(context: Context, scope: Scope, alarm: Alarm) -> Judgement:
    event, connection = alarm.event, alarm.connection
    who = _who(alarm.by, connection.client)
    to = f" of client {connection.client}" if alarm.by == "server" else ""
    how = {"fin": "a FIN", "rst": "an RST"}.get(event.kind, f"Close {close_code(event)}")
    reason = f"{who} gave up connection {connection.number}{to} at {seconds(event.at_s)} with {how}"
    if alarm.what:
        reason = f"{_who(alarm.culprit, connection.client)} {alarm.what}; {reason}"
    else:
        reason += ", though the path was alive"
    evidence = [window_line(context, row) for row in scope.rows if scope.index is not None]
    evidence += [f"{seconds(at_s)}: {text}" for at_s, text in alarm.evidence]
    frames = [row for row in connection.delivered_frames() if row.at_s <= event.at_s]
    for last in frames[-1:]:
        opcode = last.get("opcode")
        evidence.append(
            f"{seconds(last.at_s)}: last frame delivered before ({opcode}, {last.stream})"
        )
    evidence.append(f"{seconds(event.at_s)}: {how} sent by the {alarm.by}")
    measured: dict[str, Measure] = {"client": connection.client, "at_s": round(event.at_s, 6)}
    if alarm.at_byte is not None:
        measured[UNDECODED_AT] = alarm.at_byte
    return failed(
        reason,
        culprit=alarm.culprit,
        evidence=tuple(evidence),
        measured=measured,
    )
