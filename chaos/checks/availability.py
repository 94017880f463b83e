"""`availability` and `cost`: what the connection was good for, and what keeping it alive took."""

from __future__ import annotations

from chaos.checks.connections import ConnectionRecord
from chaos.checks.context import Context, Scope, concerns, seconds
from chaos.checks.verdict import Judgement, Outcome, failed, passed, worst
from chaos.vocabulary.checks import Availability, Cost

Span = tuple[float, float]


def availability(context: Context, settings: Availability, _scope: Scope) -> Judgement:
    """Judge the share of the time from a client's first open to the end in which it had a usable connection.

    A connection is usable from its open until the first sign of its ending (a Close frame, FIN or RST anywhere).
    While an entry silences its path (stall, blackhole, `timeout`, `bandwidth` at 0, freeze) it is not usable: from
    the moment the entry is felt on it, or, where it was not, not at all, to the entry's end; for good where the harm
    lasts. The worst client is reported.
    """
    parts = (_judge_client(context, settings, client) for client in context.clients)
    return worst(parts, nothing="no client ever had a connection open")


def _judge_client(context: Context, settings: Availability, client: int) -> Judgement | None:
    opened = [c for c in context.of_client(client) if c.open_s is not None]
    total_s = context.end_s - (opened[0].open_s or 0.0) if opened else 0.0
    if total_s <= 0:
        return None
    spans = [span for connection in opened for span in usable_spans(context, connection)]
    share = length(spans) / total_s
    reason = f"client {client} had a usable connection {share:.2%} of {seconds(total_s)}"
    measured = {
        "client": client,
        "availability": round(share, 6),
        "connections": len(opened),
    }
    if share >= settings.at_least - 1e-9:
        return passed(reason, badness=-share, measured=measured)
    return failed(
        f"{reason}; expected at least {settings.at_least:.2%}",
        badness=-share,
        evidence=tuple(f"usable {seconds(a)} to {seconds(b)}" for a, b in spans[:8]),
        measured=measured,
    )


def usable_spans(context: Context, connection: ConnectionRecord) -> list[Span]:
    """Return the times in which this connection was usable."""
    opened = connection.open_s
    if opened is None:
        return []
    spans: list[Span] = [(opened, min(connection.lost_s(), context.end_s))]
    for index, entry in enumerate(context.scenario.timeline):
        words, rows = context.words[index], context.occurrences[index]
        if not words.silences():
            continue
        if words.on_path:
            # a path belongs to a host: all connections of that host are silent
            for row in rows if concerns(entry, connection.client) else ():
                spans = without(spans, (row.start_s, row.end_s))
            continue
        for event in connection.events:
            if event.kind != "felt" or event.get("entry") != index:
                continue
            ends = [row.end_s for row in rows if row.start_s <= event.at_s <= row.end_s]
            until_s = float("inf") if words.lasting else max(ends, default=event.at_s)
            spans = without(spans, (event.at_s, until_s))
    return [span for span in spans if span[1] > span[0]]


def without(spans: list[Span], hole: Span) -> list[Span]:
    """Return these spans less a hole."""
    left = [(a, min(b, hole[0])) for a, b in spans]
    right = [(max(a, hole[1]), b) for a, b in spans]
    return [(a, b) for a, b in sorted(left + right) if b > a]


def length(spans: list[Span]) -> float:
    """Return the length of the union of these spans."""
    total, reached = 0.0, float("-inf")
    for start, end in sorted(spans):
        total += max(0.0, end - max(start, reached))
        reached = max(reached, end)
    return total


def wire_bytes(payload: int, *, masked: bool) -> int:
    """Return the size on the wire of a control frame: 2 bytes of header, 4 of mask from clients (RFC 6455 §5.2)."""
    return 2 + (4 if masked else 0) + payload


def cost(context: Context, settings: Cost, _scope: Scope) -> Judgement:
    """Judge what the heartbeat costs per hour of an open connection, at the client's side of the link.

    Bytes are ping and pong frames with headers and masks, both ways (without TCP and TLS); wakeups are the ping and
    pong frames that a client sends or is sent. Both are extrapolated from the time its connections were open. One
    exchange per connection is taken off before a bound is called broken, since a span of time that begins with a
    beat holds one more than its length pays for. INCONCLUSIVE when no heartbeat frame was seen.
    """
    parts = (_judge_cost(context, settings, client) for client in context.clients)
    return worst(parts, nothing="no ping or pong was seen")


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
