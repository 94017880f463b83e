"""Guards: may this run be judged at all? They hold for every scenario, whatever it expects.

A pass needs evidence: the subject connected, the steady state was reached before the first fault, every timeline
entry touched something, the subject lived, and the harness itself kept time.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from itertools import islice

from chaos.checks.connections import ConnectionRecord, close_code, is_close_frame
from chaos.checks.context import Context, Occurrence, label, seconds
from chaos.checks.lateness import BUSY_SHARE
from chaos.checks.schedule import Rule, last_told, rule_after_last
from chaos.checks.verdict import (
    LATE,
    Finding,
    Judgement,
    Measure,
    Outcome,
    failed,
    passed,
    undecided,
)
from chaos.scenario.model import Entry
from chaos.trace import DATA, OTHER, Event, Side
from chaos.vocabulary.actions import ACTIONS
from chaos.vocabulary.checks import DetectsDeadPeer, NeverReconnects, Reconnects

FELT = "felt"
LOOP_LAG = "loop_lag"
# a guard of one of these names says that nothing of the run may be judged; `felt` speaks of one entry only
VETOES = frozenset({"connected", "steady_state", "subject_alive", LOOP_LAG, "complete"})
LAG_SHARE = 0.1
LAG_SHARE_AT_REST = 0.5
LAG_MARGIN_S = 1.0
# a subject that is killed, or told to close, may take this long beside its closing handshake
EXIT_GRACE_S = 2.0
# in so many of the times that an action was repeated, its traces are looked for
ROWS_MAX = 100
# what a connection does; after the last of these all is at rest
_MOVES = ("apply", "attempt", "refused", "open", "fin", "rst", "closed", "state")


def run_guards(context: Context) -> list[Finding]:
    """Return one finding per guard, in the order in which they matter, and one per entry for `felt`."""
    lag = _loop_lag(context)
    alive = _subjects_alive(context)
    if alive.outcome is Outcome.FAIL and lag.outcome is Outcome.INCONCLUSIVE:
        # who waits for something and ends when it does not come may have waited for this machine
        alive = replace(undecided(f"{alive.reason}; {lag.reason}"), evidence=alive.evidence)
    rows = [
        ("complete", _complete(context)),
        ("connected", _connected(context)),
        ("steady_state", _steady(context)),
        *((FELT, _felt(context, index)) for index in range(len(context.scenario.timeline))),
        ("subject_alive", alive),
        (LOOP_LAG, lag),
        *(("storm", row) for row in _storms(context)),
    ]
    return [
        Finding(
            check=name,
            outcome=row.outcome,
            reason=row.reason,
            evidence=row.evidence,
            measured=row.measured,
            guard=True,
            culprit=row.culprit,
        )
        for name, row in rows
    ]


def felt_at_s(context: Context, index: int) -> float | None:
    """Return when an entry first touched something: a `felt` event of it, or what its action left in the trace.

    For an entry that repeats, one occurrence that touched something is enough.
    """
    return context.once(f"felt {index}", lambda: _first_felt_s(context, index))


def _first_felt_s(context: Context, index: int) -> float | None:
    entry, rows = context.entry(index), context.occurrences[index]
    times = [event.at_s for event in context.felt(index)]
    if entry.word == "noop":
        times += [row.start_s for row in rows]
    if entry.word in ("refuse", "down"):
        # nobody listens then, so that no link sees the attempts: the clients' own sockets do
        window = context.in_force(index)
        refused = (event.at_s for event in context.trace.select("refused"))
        times += islice((at_s for at_s in refused if window.meets(at_s, at_s)), 1)
    for row in rows[:ROWS_MAX] if entry.kind == "action" else ():
        times += _traces_of_action(context, entry, row)
        if times and min(times) <= row.end_s:
            break  # none that comes later shows itself sooner
    return min(times, default=None)


def acting_peer(entry: Entry) -> Side:
    """Return who carries out an action: the stated peer, or the only one that can."""
    return entry.by or ACTIONS[entry.word].peers[0]


def _traces_of_action(context: Context, entry: Entry, row: Occurrence) -> Iterator[float]:
    """Yield the times at which this action can be seen to have happened."""
    if entry.word in ("freeze", "offline"):
        yield row.start_s  # a process that stops, or is told something, shows nothing at the link by itself
        return
    peer = acting_peer(entry)
    if entry.word == "send":
        size = int(entry.parameters.get("size", 0))
        for client in context.concerned(entry):
            yield from _sends_since(context.of_client(client), peer, row.start_s, size)
        return
    if entry.word in ("crash", "restart"):
        for event in context.trace.select("subject_exit", "subject_start", subject=peer):
            if event.at_s >= row.start_s:
                yield event.at_s
    for connection in (
        one for client in context.concerned(entry) for one in context.of_client(client)
    ):
        shown = _ending_after(entry, connection, peer, row.start_s)
        if shown is not None:
            yield shown.at_s


def _ending_after(
    entry: Entry, connection: ConnectionRecord, peer: Side, since_s: float
) -> Event | None:
    """Return the event on this connection that shows the action, if there is one."""
    if entry.word in ("reject", "drain", "crash", "restart"):
        for event in connection.events:
            refused = event.kind == "response" and event.get("status") != 101
            if event.at_s >= since_s and (refused or event.kind == "dial_failed"):
                return event
    ending = connection.ending_by(peer, since_s=since_s)
    answered = connection.ending_by(OTHER[peer])
    if ending is not None and answered is not None and answered.at_s < ending.at_s:
        return None  # the other peer had ended the connection before: this only answers
    if ending is None or entry.word not in ("close", "reject"):
        return ending
    code = entry.parameters.get("code")
    wrong = is_close_frame(ending) and code is not None and close_code(ending) != code
    return None if wrong else ending


def _sends_since(
    connections: Iterable[ConnectionRecord], peer: Side, since_s: float, size: int
) -> Iterator[float]:
    """Yield when this peer had sent a message of at least this size, in one frame or in fragments."""
    for connection in connections:
        sent = 0
        for event in connection.events:
            data = event.kind == "frame" and event.get("opcode") in (*DATA, "continuation")
            if data and event.at_s >= since_s and event.sent_by(peer):
                sent = int(event.get("bytes", 0)) + (
                    sent if event.get("opcode") == "continuation" else 0
                )
                if sent >= size:
                    yield event.at_s


def _complete(context: Context) -> Judgement:
    broken, stopped = (context.trace.select(kind) for kind in ("network_failed", "interrupted"))
    if broken:
        return undecided(f"the network between the subjects broke: {broken[0].get('error')}")
    if stopped:
        at, why = seconds(stopped[0].at_s), stopped[0].get("why")
        return undecided(
            f"the run was given up at {at}: {why}" if why else f"the run was interrupted at {at}"
        )
    end = seconds(context.end_s)
    if not context.trace.select("end"):
        return undecided(f"the trace has no end; its last event is at {end}")
    return passed(f"the run went on to its end at {end}")


def _connected(context: Context) -> Judgement:
    kind, what = "open", "had a connection open"
    if context.scenario.steady_state == "none":
        kind, what = "attempt", "made a connection attempt"
    seen = {event.client for event in context.trace.select(kind)}
    missing = [client for client in context.clients if client not in seen]
    if not missing:
        return passed(f"every client {what}")
    who = ", ".join(str(client) for client in missing[:5])
    more = f" and {len(missing) - 5} more" if len(missing) > 5 else ""
    evidence = tuple(_first_troubles(context, missing[0]))
    return undecided(f"client {who}{more} never {what}", evidence=evidence)


def _first_troubles(context: Context, client: int) -> Iterator[str]:
    for connection in context.of_client(client)[:3]:
        refusal = connection.refusal()
        how = "no answer"
        if refusal is not None:
            detail = refusal.get("status") or refusal.get("error") or refusal.get("how") or ""
            how = f"{refusal.kind} {detail}".strip()
        yield f"{seconds(connection.attempt_s)}: attempt of client {client}: {how}"


def _steady(context: Context) -> Judgement:
    if context.scenario.steady_state == "none":
        return _attempt_met_fault(context)
    steady_s = context.steady_s
    if steady_s is None:
        return undecided("the steady state was never reached")
    applied = (e.at_s for e in context.trace.select("apply") if e.get("change") != "off")
    fault_s = next(applied, steady_s)
    if fault_s < steady_s:
        return undecided(
            f"the steady state was reached at {seconds(steady_s)}, after the first entry took effect "
            f"at {seconds(fault_s)}"
        )
    return passed(f"steady state at {seconds(steady_s)}")


def _attempt_met_fault(context: Context) -> Judgement:
    for index, entry in enumerate(context.scenario.timeline):
        at_s = felt_at_s(context, index)
        if at_s is not None:
            return passed(f"{label(entry)} was met at {seconds(at_s)}")
    if all(entry.allow_unfelt for entry in context.scenario.timeline):
        return passed("no steady state asked for, no entry must be felt")
    return undecided("no attempt met a fault")


def _felt(context: Context, index: int) -> Judgement:
    """Judge that an entry touched something, unless it may touch nothing."""
    entry, at_s, rows = context.entry(index), felt_at_s(context, index), context.occurrences[index]
    if at_s is not None:
        return passed(f"{label(entry)} was felt at {seconds(at_s)}")
    if entry.allow_unfelt:
        return passed(f"{label(entry)} touched nothing, as allowed")
    when = f" from {seconds(rows[0].start_s)}" if rows else "; it never took effect"
    return undecided(f"{label(entry)} touched nothing{when}")


def _subjects_alive(context: Context) -> Judgement:
    felt = [felt_at_s(context, index) for index in range(len(context.scenario.timeline))]
    first_s = min((at_s for at_s in felt if at_s is not None), default=float("inf"))
    for event in context.trace.select("subject_exit"):
        if _exit_expected(context, event):
            continue
        who, error = event.get("subject"), event.get("error")
        who = f"client {event.client}" if who == "client" and event.client else who
        how = f"ended with {error}" if error else "ended by itself"
        reason = f"{who} {how} at {seconds(event.at_s)}"
        if event.at_s < first_s:
            return undecided(f"{reason}, before the first felt fault")
        culprit: Side = "server" if event.get("subject") == "server" else "client"
        return failed(reason, culprit=culprit, evidence=(f"{seconds(first_s)}: first fault felt",))
    return passed("no subject ended unexpectedly")


def _storms(context: Context) -> Iterator[Judgement]:
    """Yield a failure if the run was ended since a client made too many attempts."""
    for event in context.trace.select("storm"):
        limits = context.scenario.client.storm
        yield failed(
            f"client {event.client} made {event['attempts']} attempts in {seconds(event['in_s'])}; the run ended "
            f"at {seconds(event.at_s)} (at most {limits.per_second_max} in a second, "
            f"{limits.per_outage_max} in an outage)",
            culprit="client",
            measured={"client": event.client or 1, "attempts": event["attempts"]},
        )


def _exit_expected(context: Context, event: Event) -> bool:
    """Tell whether the scenario makes a subject end: it is killed, or told to close, or refused for good.

    A client may end without an error after an ending that its policy calls final, or that the scenario expects to be
    final (`never_reconnects`), and once it has made as many attempts in a row as it may. An error is never expected
    of a subject that nobody killed.
    """
    subject = event.get("subject")
    side: Side = "server" if subject == "server" else "client"
    grace_s = context.subject(side).close_timeout_s + EXIT_GRACE_S
    for index, entry in enumerate(context.scenario.timeline):
        killed = entry.word == "host_crash" or (
            entry.kind == "action" and entry.word in ("crash", "restart")
        )
        left = entry.word == "close" and entry.kind == "action" and not event.get("error")
        if not killed and not left:
            continue
        peer = (
            acting_peer(entry) if entry.kind == "action" else entry.parameters.get("host", "server")
        )
        if peer == side and context.in_force(index).meets(event.at_s - grace_s, event.at_s):
            return True
    if side == "server" or event.get("error"):
        return False
    client = event.client or 1
    rule = rule_after_last(context, client, event.at_s)
    if rule in (Rule.NEVER, Rule.AUTH, Rule.REDIRECT) or _gave_up(context, client, event.at_s):
        return True
    expects = any(row.check == NeverReconnects.word for row in context.scenario.expect)
    return expects and last_told(context, client, event.at_s) is not None


def _gave_up(context: Context, client: int, at_s: float) -> bool:
    """Tell whether a client had failed as often in a row by then as `attempts_max` allows."""
    limit = context.scenario.client.backoff.attempts_max
    if limit is None:
        return False
    stable_s = context.scenario.client.stable_after_s
    failed_in_a_row = 0
    for connection in context.of_client(client):
        if connection.attempt_s > at_s:
            break
        opened = connection.open_s
        stable = opened is not None and min(connection.over_s(), at_s) - opened >= stable_s
        failed_in_a_row = 0 if stable else failed_in_a_row + 1
    return failed_in_a_row >= limit


def tightest_bound_s(context: Context) -> float | None:
    """Return the shortest bound that the loop's lag could spoil: a `within`, or a heartbeat's timeout."""
    timed: Mapping[str, type[DetectsDeadPeer | Reconnects]] = {
        kind.word: kind for kind in (DetectsDeadPeer, Reconnects)
    }
    bounds = [
        timed[row.check].model_validate(row.parameters).within_s
        for row in context.scenario.expect
        if row.check in timed
    ]
    return min([*bounds, *context.pong_waits_s], default=None)


def _loop_lag(context: Context) -> Judgement:
    """Judge how late the event loop was: at most a tenth of the tightest bound while something is being timed.

    That is from shortly before the first timeline entry until connections have come to rest. Before and after it only
    heartbeats are timed, which a lag of half the bound does not spoil: the burst at the start of many clients, or of
    many runs side by side, is no reason to discard the rest.
    """
    bound_s, busy_s = tightest_bound_s(context), context.lateness.within(1.0)
    # so busy a machine may be why some other guard or check can say nothing
    measured: dict[str, Measure] = {LATE: round(busy_s, 6)} if busy_s > BUSY_SHARE else {}
    lags = [e for e in context.trace.select("lag") if 0 <= e.at_s <= context.end_s]
    if bound_s is None or not lags:
        return passed("the event loop kept time", measured=measured)
    from_s = min((e.at_s for e in context.trace.select("apply")), default=0.0) - LAG_MARGIN_S
    moves = context.trace.select(*_MOVES)
    until_s = max((e.at_s for e in moves if e.at_s <= context.end_s), default=0.0) + LAG_MARGIN_S
    rows = [
        (float(e["lag_s"]), LAG_SHARE if from_s <= e.at_s <= until_s else LAG_SHARE_AT_REST, e)
        for e in lags
    ]
    lag_s, share, late = max(rows, key=lambda row: row[0] / row[1])
    limit_s = share * bound_s
    text = f"the event loop was {seconds(lag_s)} late at {seconds(late.at_s)}"
    if lag_s > limit_s:
        reason = f"{text}; at most {seconds(limit_s)} is fair to the tightest bound of {seconds(bound_s)}"
        hint = "a subject in this process that blocks the loop stops the link too"
        return undecided(reason, evidence=(hint,), measured={LATE: round(lag_s, 6)})
    return passed(text, measured=measured)
