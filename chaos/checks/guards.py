"""Guards: may this run be judged at all? They hold for every scenario, whatever it expects.

A pass needs evidence: the subject connected, the steady state was reached before the first fault, every timeline
entry touched something, the subject lived, and the harness itself kept time.
"""

from __future__ import annotations

from collections.abc import Iterator

from chaos.checks.connections import Connection, close_code, is_close_frame
from chaos.checks.context import Context, seconds
from chaos.checks.entries import Occurrence, covering, label
from chaos.checks.verdict import Finding, Outcome
from chaos.scenario.model import Entry
from chaos.trace import Event, Side
from chaos.vocabulary.actions import ACTIONS
from chaos.vocabulary.checks import CHECKS, DetectsDeadPeer, Reconnects

FELT = "felt"
# a guard of one of these names says that nothing of the run may be judged; `felt` speaks of one entry only
VETOES = frozenset({"connected", "steady_state", "subject_alive", "loop_lag", "complete"})
LAG_SHARE = 0.1
LAG_SHARE_AT_REST = 0.5
LAG_MARGIN_S = 1.0
# what a connection does; after the last of these all is at rest
_MOVES = ("apply", "attempt", "refused", "open", "fin", "rst", "closed", "state")


def run_guards(context: Context) -> list[Finding]:
    """Return one finding per guard, in the order in which they matter, and one per unfelt entry."""
    return [
        _complete(context),
        _connected(context),
        _steady(context),
        *_every_entry_felt(context),
        _subjects_alive(context),
        _loop_lag(context),
    ]


def felt_at_s(context: Context, index: int) -> float | None:
    """Return when an entry first touched something: a `felt` event of it, or what its action left in the trace.

    For an entry that repeats, one occurrence that touched something is enough.
    """
    entry = context.entry(index)
    events = context.felt(index)
    times = [event.at_s for event in events]
    if entry.word == "noop":
        times += [row.start_s for row in context.occurrences[index]]
    if entry.word in ("refuse", "down"):
        # nobody listens then, so that no link sees the attempts: the clients' own sockets do
        refused = [event.at_s for event in context.trace.select("refused")]
        times += [at_s for at_s in refused if covering(context.occurrences[index], at_s)]
    if entry.kind == "action":
        for row in context.occurrences[index]:
            times += _traces_of_action(context, entry, row)
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
        yield from _sends_since(context, peer, row.start_s)
        return
    if entry.word in ("crash", "restart"):
        for event in context.trace.select("subject_exit", "subject_start", subject=peer):
            if event.at_s >= row.start_s:
                yield event.at_s
    for connections in context.connections.values():
        for connection in connections:
            shown = _ending_after(entry, connection, peer, row.start_s)
            if shown is not None:
                yield shown.at_s


def _ending_after(entry: Entry, connection: Connection, peer: Side, since_s: float) -> Event | None:
    """Return the event on this connection that shows the action, if there is one."""
    if entry.word in ("reject", "drain", "crash", "restart"):
        for event in connection.events:
            refused = event.kind == "response" and event.get("status") != 101
            if event.at_s >= since_s and (refused or event.kind == "dial_failed"):
                return event
    ending = connection.ending_by(peer, since_s=since_s)
    if ending is None or entry.word not in ("close", "reject"):
        return ending
    code = entry.parameters.get("code")
    wrong = is_close_frame(ending) and code is not None and close_code(ending) != code
    return None if wrong else ending


def _sends_since(context: Context, peer: Side, since_s: float) -> Iterator[float]:
    for event in context.trace.select("send", subject=peer):
        if event.at_s >= since_s:
            yield event.at_s
    for event in context.trace.select("frame", side=peer):
        if (
            event.at_s >= since_s
            and event.sent_by(peer)
            and event.get("opcode") in ("text", "binary")
        ):
            yield event.at_s


def _guard(check: str, outcome: Outcome, reason: str, *evidence: str) -> Finding:
    return Finding(
        check=check, outcome=outcome, reason=reason, evidence=tuple(evidence), guard=True
    )


def _complete(context: Context) -> Finding:
    broken = context.trace.select("network_failed")
    if broken:
        reason = f"the network between the subjects broke: {broken[0].get('error')}"
        return _guard("complete", Outcome.INCONCLUSIVE, reason)
    events = context.trace.select("interrupted")
    if events:
        reason = f"the run was interrupted at {seconds(events[0].at_s)}"
        return _guard("complete", Outcome.INCONCLUSIVE, reason)
    if not context.trace.select("end"):
        reason = f"the trace has no end; its last event is at {seconds(context.end_s)}"
        return _guard("complete", Outcome.INCONCLUSIVE, reason)
    return _guard(
        "complete", Outcome.PASS, f"the run went on to its end at {seconds(context.end_s)}"
    )


def _connected(context: Context) -> Finding:
    handshakes_only = context.scenario.steady_state == "none"
    kind = "attempt" if handshakes_only else "open"
    seen = {event.client for event in context.trace.select(kind)}
    missing = [client for client in context.clients if client not in seen]
    what = "made a connection attempt" if handshakes_only else "had a connection open"
    if missing:
        who = ", ".join(str(client) for client in missing[:5])
        more = f" and {len(missing) - 5} more" if len(missing) > 5 else ""
        reason = f"client {who}{more} never {what}"
        return _guard(
            "connected", Outcome.INCONCLUSIVE, reason, *_first_troubles(context, missing[0])
        )
    return _guard("connected", Outcome.PASS, f"every client {what}")


def _first_troubles(context: Context, client: int) -> Iterator[str]:
    for connection in context.of_client(client)[:3]:
        refusal = connection.refusal()
        how = "no answer"
        if refusal is not None:
            detail = refusal.get("status") or refusal.get("error") or refusal.get("how") or ""
            how = f"{refusal.kind} {detail}".strip()
        yield f"{seconds(connection.attempt_s)}: attempt of client {client}: {how}"


def _first_apply(context: Context) -> Event | None:
    events = [e for e in context.trace.select("apply") if e.get("change") != "off"]
    return events[0] if events else None


def _steady(context: Context) -> Finding:
    if context.scenario.steady_state == "none":
        return _attempt_met_fault(context)
    steady_s, fault = context.steady_s, _first_apply(context)
    if steady_s is None:
        reason = "the steady state was never reached"
        return _guard("steady_state", Outcome.INCONCLUSIVE, reason)
    if fault is not None and fault.at_s < steady_s:
        reason = (
            f"the steady state was reached at {seconds(steady_s)}, after the first entry took effect "
            f"at {seconds(fault.at_s)}"
        )
        return _guard("steady_state", Outcome.INCONCLUSIVE, reason)
    return _guard("steady_state", Outcome.PASS, f"steady state at {seconds(steady_s)}")


def _attempt_met_fault(context: Context) -> Finding:
    for index, entry in enumerate(context.scenario.timeline):
        at_s = felt_at_s(context, index)
        if at_s is not None:
            reason = f"{label(entry)} was met at {seconds(at_s)}"
            return _guard("steady_state", Outcome.PASS, reason)
    if all(entry.allow_unfelt for entry in context.scenario.timeline):
        return _guard(
            "steady_state", Outcome.PASS, "no steady state asked for, no entry must be felt"
        )
    return _guard("steady_state", Outcome.INCONCLUSIVE, "no attempt met a fault")


def _every_entry_felt(context: Context) -> Iterator[Finding]:
    for index, entry in enumerate(context.scenario.timeline):
        at_s = felt_at_s(context, index)
        if at_s is not None:
            yield _guard(FELT, Outcome.PASS, f"{label(entry)} was felt at {seconds(at_s)}")
        elif entry.allow_unfelt:
            yield _guard(FELT, Outcome.PASS, f"{label(entry)} touched nothing, as allowed")
        else:
            rows = context.occurrences[index]
            when = f"from {seconds(rows[0].start_s)}" if rows else "; it never took effect"
            reason = f"{label(entry)} touched nothing {when}".replace(" ;", ";")
            yield _guard(FELT, Outcome.INCONCLUSIVE, reason)


def _subjects_alive(context: Context) -> Finding:
    felt = [felt_at_s(context, index) for index in range(len(context.scenario.timeline))]
    first_s = min((at_s for at_s in felt if at_s is not None), default=float("inf"))
    for event in context.trace.select("subject_exit"):
        if _exit_expected(context, event):
            continue
        who = event.get("subject")
        who = f"client {event.client}" if who == "client" and event.client else who
        error = event.get("error")
        how = f"ended with {error}" if error else "ended by itself"
        if event.at_s < first_s:
            reason = f"{who} {how} at {seconds(event.at_s)}, before the first felt fault"
            return _guard("subject_alive", Outcome.INCONCLUSIVE, reason)
        reason = f"{who} {how} at {seconds(event.at_s)}"
        evidence = f"{seconds(first_s)}: first fault felt"
        return _guard("subject_alive", Outcome.FAIL, reason, evidence)
    return _guard("subject_alive", Outcome.PASS, "no subject ended unexpectedly")


def _exit_expected(context: Context, event: Event) -> bool:
    """Tell whether the scenario makes a subject end: it is killed, or it may give up for good."""
    subject = event.get("subject")
    for index, entry in enumerate(context.scenario.timeline):
        if entry.word == "host_crash":
            peer = entry.parameters.get("host", "server")
        elif entry.kind == "action" and entry.word in ("crash", "restart"):
            peer = acting_peer(entry)
        else:
            continue
        rows = context.occurrences[index]
        if peer == subject and any(row.start_s <= event.at_s for row in rows):
            return True
    if subject != "client":
        return False
    # the exit must follow a refusal: giving up for good is an answer to one
    connections = context.of_client(event.client or 1)
    refusals = [row for row in (c.refusal() for c in connections) if row is not None]
    refused = any(row.at_s <= event.at_s for row in refusals)
    gives_up = {"never_reconnects", "handshake"} & {e.check for e in context.scenario.expect}
    limited = context.scenario.client.backoff.attempts_max is not None
    return refused and (bool(gives_up) or limited)


def tightest_bound_s(context: Context) -> float | None:
    """Return the shortest bound that the loop's lag could spoil: a `within`, or a heartbeat's timeout."""
    bounds: list[float] = []
    for expectation in context.scenario.expect:
        kind = CHECKS.get(expectation.check)
        if kind in (DetectsDeadPeer, Reconnects):
            settings = kind.model_validate(expectation.parameters)
            assert isinstance(settings, DetectsDeadPeer | Reconnects)
            bounds.append(settings.within_s)
    peers = (context.scenario.client, context.scenario.server)
    bounds += [peer.heartbeat.timeout_s for peer in peers if peer.heartbeat is not None]
    return min(bounds, default=None)


def _loop_lag(context: Context) -> Finding:
    """Judge how late the event loop was: at most a tenth of the tightest bound while something is being timed.

    That is from shortly before the first timeline entry until connections have come to rest. Before and after it only
    heartbeats are timed, which a lag of half the bound does not spoil: the burst at the start of many clients, or of
    many runs side by side, is no reason to discard the rest.
    """
    bound_s = tightest_bound_s(context)
    lags = [e for e in context.trace.select("lag") if 0 <= e.at_s <= context.end_s]
    if bound_s is None or not lags:
        return _guard("loop_lag", Outcome.PASS, "the event loop kept time")
    from_s = min((e.at_s for e in context.trace.select("apply")), default=0.0) - LAG_MARGIN_S
    moves = context.trace.select(*_MOVES)
    until_s = max((e.at_s for e in moves if e.at_s <= context.end_s), default=0.0) + LAG_MARGIN_S
    rows = [
        (float(e["lag_s"]), LAG_SHARE if from_s <= e.at_s <= until_s else LAG_SHARE_AT_REST, e)
        for e in lags
    ]
    lag_s, share, worst = max(rows, key=lambda row: row[0] / row[1])
    limit_s = share * bound_s
    text = f"the event loop was {seconds(lag_s)} late at {seconds(worst.at_s)}"
    if lag_s > limit_s:
        reason = f"{text}; at most {seconds(limit_s)} is fair to the tightest bound of {seconds(bound_s)}"
        hint = "a subject in this process that blocks the loop stops the link too"
        return _guard("loop_lag", Outcome.INCONCLUSIVE, reason, hint)
    return _guard("loop_lag", Outcome.PASS, text)
