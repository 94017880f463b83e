"""`no_false_alarm`: no peer gives up a connection that is alive, slow as it may be."""

from __future__ import annotations

from chaos.checks.connections import Connection, close_code, is_close_frame
from chaos.checks.context import Context, inconclusive, seconds, window_line
from chaos.checks.entries import Occurrence, concerns, covering, label
from chaos.checks.guards import acting_peer
from chaos.checks.paths import delays_after, heartbeat_timeout_s, is_killer
from chaos.checks.verdict import Finding, Outcome
from chaos.scenario.model import Expectation
from chaos.scenario.rules import speaks_of
from chaos.trace import Event, Side
from chaos.vocabulary.checks import NoFalseAlarm

_OTHER: dict[Side, Side] = {"client": "server", "server": "client"}


def no_false_alarm(context: Context, settings: NoFalseAlarm, expectation: Expectation) -> Finding:
    """Judge every ending in the window of `during` (without it: in the whole run).

    An alarm is false when all of this holds: the connection was open; its first ending of any kind (Close frame,
    FIN or RST, at any place of the link) was sent by a peer whose alarms count; no action told that peer to end it
    (an action of its own at most its close timeout and a second before; a `close` explains only its own code); and
    no entry that kills or silences a path (`paths.is_killer`) was in force on this client then, or had been at most
    one heartbeat timeout before, or had met the connection in a way that lasts. The entry that `during` names
    never excuses an alarm.
    """
    index = speaks_of(context.scenario, expectation)
    windows = _windows(context, index)
    if not windows:
        return inconclusive(settings.word, f"entry {settings.during!r} never took effect")
    alive = 0
    for client in context.clients:
        for connection in context.of_client(client):
            open_s, lost_s = connection.open_s, connection.lost_s()
            alive += open_s is not None and any(
                open_s <= row.end_s and lost_s >= row.start_s for row in windows
            )
            alarm = _false_alarm(context, settings, index, windows, connection)
            if alarm is not None:
                return _report(settings, context, index, connection, alarm)
    if not alive:
        return inconclusive(settings.word, "no connection was open in the window")
    measured = {"connections": alive}
    where = f"during {label(context.entry(index))}" if index is not None else "in the whole run"
    reason = f"no connection that was alive was given up {where}"
    return Finding(check=settings.word, outcome=Outcome.PASS, reason=reason, measured=measured)


def _windows(context: Context, index: int | None) -> tuple[Occurrence, ...]:
    if index is not None:
        return context.occurrences[index]
    return (Occurrence(index=-1, number=1, start_s=0.0, end_s=context.end_s, ended=True),)


def _false_alarm(
    context: Context,
    settings: NoFalseAlarm,
    index: int | None,
    windows: tuple[Occurrence, ...],
    connection: Connection,
) -> Event | None:
    """Return the event with which a peer gave up this connection for no reason, if one did."""
    event = connection.first_ending
    if event is None or event.kind == "closed" or not covering(windows, event.at_s):
        return None
    sides: tuple[Side, ...] = ("client", "server")
    for side in sides if settings.by == "both" else (settings.by,):
        if event.sent_by(side):
            before = connection.ending_by(_OTHER[side])
            if before is not None and before.at_s <= event.at_s:
                return None  # the other peer had given it up before it opened: this only answers
            excused = _commanded(context, side, connection, event) or _path_dead(
                context, index, connection, event
            )
            return None if excused else event
    return None


def _commanded(context: Context, side: Side, connection: Connection, event: Event) -> bool:
    """Tell whether an action told this peer to end its connections."""
    subject = context.scenario.client if side == "client" else context.scenario.server
    grace_s = subject.close_timeout_s + 1.0
    for index, entry in enumerate(context.scenario.timeline):
        if entry.kind != "action" or entry.word == "send" or acting_peer(entry) != side:
            continue
        if not covering(context.occurrences[index], event.at_s, grace_s=grace_s):
            continue
        if not concerns(entry, connection.client):
            continue
        if entry.word == "close" and is_close_frame(event):
            if close_code(event) == entry.parameters.get("code", 1000):
                return True
            continue
        return True
    return False


def _path_dead(context: Context, named: int | None, connection: Connection, event: Event) -> bool:
    """Tell whether an entry other than the named one explains that a peer gave up this connection."""
    grace_s = heartbeat_timeout_s(context)
    for index, entry in enumerate(context.scenario.timeline):
        is_action_of_peer = entry.kind == "action" and entry.word != "freeze"
        if index == named or is_action_of_peer or not is_killer(context, index):
            continue
        if not concerns(entry, connection.client):
            continue
        rows = context.occurrences[index]
        late = [
            row
            for row in rows
            if row.start_s <= event.at_s <= row.end_s + delays_after(context, row) + grace_s
        ]
        if late or covering(rows, event.at_s, grace_s=grace_s):
            return True
        opened = connection.open_s or 0.0
        met = any(row.start_s <= event.at_s and row.end_s >= opened for row in rows)
        if context.words[index].lasting and met:
            return True
    return False


def _report(
    settings: NoFalseAlarm,
    context: Context,
    index: int | None,
    connection: Connection,
    event: Event,
) -> Finding:
    side = "client" if event.sent_by("client") else "server"
    who = (
        f"client {connection.client}"
        if side == "client"
        else f"the server, towards client {connection.client},"
    )
    how = {"fin": "a FIN", "rst": "an RST"}.get(event.kind, f"Close {close_code(event)}")
    what = f"gave up connection {connection.number} at {seconds(event.at_s)} with {how}"
    reason = f"{who} {what}, though the path was alive"
    evidence = []
    if index is not None:
        evidence = [window_line(context, row) for row in context.occurrences[index]]
    frames = [row for row in connection.delivered_frames() if row.at_s <= event.at_s]
    if frames:
        last = frames[-1]
        line = f"{seconds(last.at_s)}: last frame delivered before ({last.get('opcode')}, {last.stream})"
        evidence.append(line)
    evidence.append(f"{seconds(event.at_s)}: {how} sent by the {side}")
    return Finding(
        check=settings.word,
        outcome=Outcome.FAIL,
        reason=reason,
        evidence=tuple(evidence),
        measured={"client": connection.client, "at_s": round(event.at_s, 6)},
    )
