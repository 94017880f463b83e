"""`reconnects` and `never_reconnects`: coming back in time, and staying away after a final refusal."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import accumulate, islice

from chaos.checks.connections import ConnectionRecord, close_code, describe_ending, is_close_frame
from chaos.checks.context import Context, Occurrence, Scope, concerns, label, seconds, window_line
from chaos.checks.paths import added_latency_s
from chaos.checks.spans import between
from chaos.checks.traffic import arrivals, rates
from chaos.checks.verdict import (
    Culprit,
    Judgement,
    Measure,
    Outcome,
    failed,
    passed,
    undecided,
    worst,
)
from chaos.trace import SIDES, Event, Side
from chaos.vocabulary.checks import NeverReconnects, Reconnects

# what a peer needs to send its first message after an opening, beside its interval
TURN_S = 0.25
# so many connections that were no recovery are told of, and looked at once the bound has passed
TROUBLES_MAX = 20


def reconnects(context: Context, settings: Reconnects, scope: Scope) -> Judgement:
    """Judge, for each client and occurrence, how soon after the entry's end it was connected again.

    Connected is: a 101 delivered and one frame passed on that connection (Close frames do not count), and the
    connection lived on for `stable_for`, in which a workload message passed each way in which one was due (one that
    another entry touched need not). A connection that was open before and survived counts as connected at once, with
    a remark, when frames pass on it again after the entry's end, each way in which they passed before. The worst
    client is reported.
    """
    parts = (
        _judge_client(context, row, client, settings, scope.tolerance_s)
        for row in scope.rows
        for client in scope.clients
    )
    return worst(parts, nothing="no client to judge")


def _judge_client(
    context: Context, row: Occurrence, client: int, settings: Reconnects, tolerance_s: float
) -> Judgement:
    bound = f"expected within {settings.within_s:g} s"
    if not row.ended:
        entry = label(context.entry(row.index))
        return undecided(f"the window of {entry} did not end before the run did")
    deadline_s = row.end_s + settings.within_s + tolerance_s
    back = _connected_at(context, row, client, deadline_s, settings.stable_for_s)
    until_s = back.at_s or context.end_s
    attempts = between(context.attempts_of(client), row.start_s, until_s)
    measured: dict[str, Measure] = {"client": client, "attempts": len(attempts)}
    if back.survived:
        measured["remark"] = "the connection survived"
    on_time = back.at_s is not None and back.at_s <= deadline_s
    needs_none = on_time and not back.cut_short
    evidence = () if needs_none else _evidence(context, row, client, deadline_s, back)
    if back.at_s is not None and back.cut_short and back.at_s <= deadline_s:
        lasted = f"before that had lasted {settings.stable_for_s:g} s"
        reason = f"client {client} was connected again, and the run ended {lasted}"
        return undecided(reason, evidence=evidence)
    if back.at_s is not None:
        took_s = max(0.0, back.at_s - row.end_s)
        measured["reconnected_s"] = round(took_s, 6)
        how = _how(back, took_s, on_time)
        return Judgement(
            Outcome.PASS if on_time else Outcome.FAIL,
            f"client {client} {how} ({bound})",
            badness=took_s,
            culprit="" if on_time else back.culprit,
            evidence=evidence,
            measured=measured,
        )
    if context.end_s < deadline_s:
        reason = f"the run ended {seconds(context.end_s - row.end_s)} after the entry; {bound}"
        return undecided(reason, evidence=evidence)
    if any(_nothing_sent(connection) for connection in _opened_since(context, row, client)):
        reason = f"client {client} had a connection open again, but no frame was sent on it"
        return undecided(reason, evidence=evidence)
    why = back.troubles[0].partition(": ")[2] if back.troubles else ""
    reason = f"client {client} was never connected again"
    if why:  # who is to blame is named first
        reason = f"{why}; {reason}" if back.culprit == "server" else f"{reason}: {why}"
    return failed(
        f"{reason} ({bound})",
        badness=float("inf"),
        culprit=back.culprit,
        evidence=evidence,
        measured=measured,
    )


def _how(back: _Back, took_s: float, on_time: bool) -> str:
    if back.survived:
        return "kept its connection"
    since = "" if on_time or not back.troubles else f", since {back.troubles[0].partition(': ')[2]}"
    return f"was connected again after {seconds(took_s)}{since}"


def _evidence(
    context: Context, row: Occurrence, client: int, deadline_s: float, back: _Back
) -> tuple[str, ...]:
    return (*_chain(context, row, client, deadline_s), *back.troubles[:TROUBLES_MAX])


@dataclass(frozen=True, slots=True, kw_only=True)
class _Back:
    """When a client was connected again, if it was; `survived`: it never was away; `cut_short`: the run ended then.

    `troubles` says of each connection that was no recovery why it was none, with its time.
    """

    at_s: float | None = None
    survived: bool = False
    cut_short: bool = False
    troubles: tuple[str, ...] = ()
    culprit: Culprit = ""


def _connected_at(
    context: Context, row: Occurrence, client: int, deadline_s: float, stable_for_s: float
) -> _Back:
    """Return when the client was connected again (not before the entry's end)."""
    for connection in context.opened(client).meeting(row.start_s, row.start_s):
        if connection.lost_s() > deadline_s and _flows_again(connection, row):
            return _Back(at_s=row.end_s, survived=True)
    troubles: list[str] = []
    culprit: Culprit = ""
    for connection in _opened_since(context, row, client):
        frames = connection.delivered_frames()
        if not frames or connection.lost_s() <= row.end_s:
            continue
        if len(troubles) >= TROUBLES_MAX and (connection.open_s or 0.0) > deadline_s:
            break  # it is late, whenever it comes
        at_s = max(row.end_s, frames[0].at_s)
        until_s = at_s + stable_for_s
        excused = _touched_until(context, connection, until_s)
        if connection.lost_s() <= until_s and not excused and connection.lost_s() < context.end_s:
            lived_s = connection.lost_s() - (connection.open_s or 0.0)
            what = f"connection {connection.number} lived {seconds(lived_s)} only"
            ended_by = _ended_by(connection)
            culprit = culprit or ended_by
            by_whom = f"; the {ended_by} ended it" if ended_by else ""
            troubles.append(f"{seconds(connection.lost_s())}: {what}{by_whom}")
            continue
        silent = None if excused else _silent_way(context, connection, until_s, stable_for_s)
        if silent is not None:
            what = f"no message of the {silent} passed on connection {connection.number}"
            troubles.append(f"{seconds(until_s)}: {what}, though one was due")
            continue
        cut_short = until_s > context.end_s
        return _Back(at_s=at_s, cut_short=cut_short, troubles=tuple(troubles), culprit=culprit)
    wrong = _wrong_answer(context, row, client)
    if wrong is not None:
        what = f"{seconds(wrong.at_s)}: the server answered with {wrong.get('wrong')}"
        return _Back(troubles=(what, *troubles), culprit="server")
    return _Back(troubles=tuple(troubles), culprit=culprit)


def _ended_by(connection: ConnectionRecord) -> Culprit:
    ending = connection.first_ending
    if ending is None or ending.kind == "closed":
        return ""
    for side in SIDES:
        if ending.sent_by(side):
            return side
    return ""


def _touched_until(context: Context, connection: ConnectionRecord, until_s: float) -> bool:
    """Tell whether an entry touched this connection by then, or an action was in force: that excuses its end."""
    for index, entry in enumerate(context.scenario.timeline):
        touched_s = context.touched(index, connection)
        if entry.word != "noop" and touched_s is not None and touched_s <= until_s:
            return True
        opened = connection.open_s or 0.0
        acted = entry.kind == "action" and concerns(entry, connection.client)
        if acted and context.in_force(index).meets(opened, until_s):
            return True
    return False


def _silent_way(
    context: Context, connection: ConnectionRecord, until_s: float, stable_for_s: float
) -> Side | None:
    """Return a peer of which no workload message had arrived by then, though one was due since the opening."""
    opened = connection.open_s or 0.0
    for sender, every_s in rates(context).items():
        late_s = added_latency_s(context, opened, until_s, connection.client) + TURN_S
        if every_s + late_s > stable_for_s or until_s > context.end_s:
            continue
        if not any(at_s <= until_s + late_s for at_s in arrivals(context, connection, sender)):
            return sender
    return None


def _opened_since(context: Context, row: Occurrence, client: int) -> Iterator[ConnectionRecord]:
    rows, latest = context.once(f"openings of {client}", lambda: _openings(context, client))
    # none before this place opened later than the entry began
    for place in range(bisect_right(latest, row.start_s), len(rows)):
        if (rows[place].open_s or 0.0) > row.start_s:
            yield rows[place]


def _openings(context: Context, client: int) -> tuple[list[ConnectionRecord], list[float]]:
    """Return a client's connections that opened, and the latest opening up to each of them."""
    rows = [c for c in context.of_client(client) if c.open_s is not None]
    return rows, list(accumulate((c.open_s or 0.0 for c in rows), max))


def _flows_again(connection: ConnectionRecord, row: Occurrence) -> bool:
    """Tell whether frames pass after the entry's end in each way in which they passed before it."""
    frames = connection.delivered_frames()
    before = {event.stream for event in frames if event.at_s < row.start_s}
    after = {event.stream for event in frames if event.at_s > row.end_s}
    return bool(after) and before <= after


def _wrong_answer(context: Context, row: Occurrence, client: int) -> Event | None:
    """Return the answer to the client's last handshake, if it was a 101 that a client must not accept."""
    answers = context.once(
        f"answers to {client}",
        lambda: [
            event
            for connection in context.of_client(client)
            for event in connection.events
            if event.kind == "response" and event.get("side") == "client"
        ],
    )
    last = next((event for event in reversed(answers) if event.at_s >= row.start_s), None)
    return last if last is not None and last.get("wrong") else None


def _nothing_sent(connection: ConnectionRecord) -> bool:
    sent = any(
        event.kind == "frame" and (event.sent_by("client") or event.sent_by("server"))
        for event in connection.events
    )
    return not sent and connection.first_ending is None


def _chain(context: Context, row: Occurrence, client: int, deadline_s: float) -> Iterator[str]:
    yield window_line(context, row)
    newest = (c for c in reversed(context.of_client(client)) if c.attempt_s >= row.start_s)
    tries = list(islice(newest, 3))
    if not tries:
        yield f"client {client} made no attempt after {seconds(row.start_s)}"
    for connection in reversed(tries):
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

    The refusal is the first Close frame, FIN, RST, refused handshake or refused attempt with which the entry reached
    the client (or the Close frame it sent itself, where the entry told it to close). Where the entry was felt on
    certain connections, only an ending of one of these counts.
    INCONCLUSIVE when what is left of the run is shorter than twice the client's longest backoff: it may still wait.
    """
    parts = (_judge_absence(context, client, scope.rows[0]) for client in scope.clients)
    return worst(parts, nothing="no client to judge")


def _refused_at(context: Context, client: int, row: Occurrence) -> Event | None:
    """Return with what the entry first told this client that it is not wanted (or its own Close)."""
    events: list[Event] = []
    entry = context.entry(row.index)
    felt = context.felt_by(row.index, client)
    code = entry.parameters.get("code") if entry.kind == "action" else None
    for connection in context.of_client(client):
        if felt - {None} and connection.number not in felt:
            continue
        if connection.attempt_s >= row.start_s or connection.lost_s() >= row.start_s:
            refusal = connection.refusal()
            own = connection.ending_by("client", since_s=row.start_s)
            found = [e for e in (refusal, own) if e is not None and e.at_s >= row.start_s]
            events += [
                e for e in found if not (code and is_close_frame(e) and close_code(e) != code)
            ]
    return min(events, key=lambda event: event.at_s, default=None)


def _judge_absence(context: Context, client: int, row: Occurrence) -> Judgement:
    more: dict[str, Measure] = {
        "after_s": row.start_s,
        "entry": "window" if context.entry(row.index).has_window else "instant",
    }
    refused = _refused_at(context, client, row)
    if refused is None:
        reason = f"no refusal reached client {client} after {seconds(row.start_s)}"
        return undecided(reason, measured=more)
    what = describe_ending(refused)
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
        return failed(
            reason, badness=len(later), culprit="client", evidence=evidence, measured=measured
        )
    left_s, needed_s = context.end_s - refused.at_s, 2 * context.scenario.client.backoff.max_s
    if left_s < needed_s:
        expected = f"expected at least {seconds(needed_s)}, twice backoff.max"
        reason = f"only {seconds(left_s)} were left after {what}; {expected}"
        return undecided(reason, measured=measured)
    reason = f"client {client} made no attempt in {seconds(left_s)} after {what}"
    return passed(reason, badness=-left_s, measured=measured)
