"""`availability` and `cost`: what the connection was good for, and what keeping it alive took."""

from __future__ import annotations

from chaos.checks.context import Context, Scope, seconds
from chaos.checks.traffic import length, silent_spans, usable_spans, without
from chaos.checks.verdict import Judgement, Outcome, failed, not_applicable, passed, worst
from chaos.vocabulary.checks import Availability, Cost


def availability(context: Context, settings: Availability, scope: Scope) -> Judgement:
    """Judge the share of the time from a client's start to the end in which it had a usable connection.

    What its first handshake took is left out: that is the network's.

    A connection is usable from its open until the first sign of its ending (a Close frame, FIN or RST anywhere).
    While an entry silences its path (stall, blackhole, `timeout`, `bandwidth` at 0, freeze) it is not usable: from
    the moment the entry is felt on it, or, where it was not, not at all, to the entry's end; for good where the harm
    lasts. Where the workload makes messages due, it is not usable while none arrives: from when the next was due,
    once it is late by another interval and the longest wait for a pong, at least a second, and what the path adds.
    The worst client is reported.
    """
    parts = (_judge_client(context, settings, client, scope.late_s) for client in context.clients)
    return worst(parts, nothing="no client ever had a connection open")


def _judge_client(
    context: Context, settings: Availability, client: int, late_s: float
) -> Judgement | None:
    opened = [c for c in context.of_client(client) if c.open_s is not None]
    starts = context.trace.select("subject_start", "attempt", client=client)
    first_s = opened[0].open_s - opened[0].attempt_s if opened and opened[0].open_s else 0.0
    total_s = context.end_s - starts[0].at_s - first_s if opened else 0.0
    if total_s <= 0:
        return None
    spans = []
    for connection in opened:
        usable = usable_spans(context, connection)
        for silent in silent_spans(context, connection):
            usable = without(usable, silent)
        spans += usable
    share = length(spans) / total_s
    reason = f"client {client} had a usable connection {share:.2%} of {seconds(total_s)}"
    measured = {
        "client": client,
        "availability": round(share, 6),
        "connections": len(opened),
    }
    if share + late_s / total_s >= settings.at_least - 1e-9:
        return passed(reason, badness=-share, measured=measured)
    return failed(
        f"{reason}; expected at least {settings.at_least:.2%}",
        badness=-share,
        evidence=tuple(f"usable {seconds(a)} to {seconds(b)}" for a, b in spans[:8]),
        measured=measured,
    )


def wire_bytes(payload: int, *, masked: bool) -> int:
    """Return the size on the wire of a control frame: 2 bytes of header, 4 of mask from clients (RFC 6455 §5.2)."""
    return 2 + (4 if masked else 0) + payload


def cost(context: Context, settings: Cost, _scope: Scope) -> Judgement:
    """Judge what the heartbeat costs per hour of an open connection, at the client's side of the link.

    Bytes are ping and pong frames with headers and masks, both ways (without TCP and TLS); wakeups are the ping and
    pong frames that a client sends or is sent. Both are extrapolated from the time its connections were open. One
    exchange per connection is taken off before a bound is called broken, since a span of time that begins with a
    beat holds one more than its length pays for. Not applicable where no heartbeat frame was seen.
    """
    found = [_judge_cost(context, settings, client) for client in context.clients]
    parts = [part for part in found if part is not None]
    needed = "no ping or pong was seen; a heartbeat of WebSocket pings would make it apply"
    return worst(parts, nothing="") if parts else not_applicable(needed)


def _judge_cost(context: Context, settings: Cost, client: int) -> Judgement | None:
    sizes: list[int] = []
    surplus, open_s = 0, 0.0
    for connection in context.of_client(client):
        if connection.open_s is None:
            continue
        open_s += max(0.0, min(connection.lost_s(), context.end_s) - connection.open_s)
        own = [
            wire_bytes(int(event.get("bytes", 0)), masked=event.stream == "upstream")
            for event in connection.events
            if event.kind == "frame"
            and event.get("opcode") in ("ping", "pong")
            and event.get("side") == "client"
        ]
        surplus += min(2, len(own))
        sizes += own
    if not sizes or open_s <= 0:
        return None
    hours, spare = open_s / 3600, surplus / len(sizes)
    figures = {
        "bytes_per_hour": (sum(sizes) / hours, settings.bytes_per_hour_max),
        "wakeups_per_hour": (len(sizes) / hours, settings.wakeups_per_hour_max),
    }
    texts = {name: f"{value:.0f} {name.replace('_', ' ')}" for name, (value, _) in figures.items()}
    over = [
        f"{texts[name]}, expected at most {limit}"
        for name, (value, limit) in figures.items()
        if limit is not None and value * (1 - spare) > limit
    ]
    return Judgement(
        Outcome.FAIL if over else Outcome.PASS,
        f"client {client}: {'; '.join(over) or ', '.join(texts.values())}",
        badness=figures["bytes_per_hour"][0],
        evidence=(f"{len(sizes)} heartbeat frames in {seconds(open_s)}",) if over else (),
        measured={
            "client": client,
            **{name: round(value, 1) for name, (value, _) in figures.items()},
        },
    )
