"""What a workload's rate makes due: how many messages should have been sent, and where none passed for too long.

Silence is judged, not excused: a subject that stops sending, or that is sent nothing any more since it did not
subscribe again, loses no message and yet is broken.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Container, Iterable, Iterator
from itertools import pairwise

from chaos.checks.connections import ConnectionRecord
from chaos.checks.context import Context, concerns
from chaos.checks.paths import (
    added_latency_s,
    delay_after_s,
    heartbeat_timeout_s,
    in_force_late,
)
from chaos.checks.spans import between
from chaos.trace import DATA, OTHER, STREAM_FROM, Event, Side

Span = tuple[float, float]

_NAMES_CLIENT = re.compile(r"client-[0-9]{1,9}")

# the share of the handled messages whose numbers must have been read from frames, to trust what was read
READ_SHARE = 0.9
DECLARED_SHARE = 0.7


def rates(context: Context) -> dict[Side, float]:
    """Return the seconds between two messages, by who sends them; who sends none is left out."""
    found: dict[Side, float] = {}
    for line in context.scenario.workload:
        per_s = 1 / found[line.sender] if line.sender in found else 0.0
        found[line.sender] = 1 / (per_s + 1 / line.every_s)
    return found


def is_data(event: Event) -> bool:
    """Tell whether the event is the first frame of a data message."""
    return event.kind == "frame" and event.get("opcode") in DATA


def client_of_message(context: Context, event: Event) -> int | None:
    """Return which client a `message` or `send` event is about, as the receiver or the sender.

    An event that does not say so is about the only client, if there is only one.
    """
    sender = str(event.get("sender", ""))
    client = event.client
    if event.kind == "send":
        to = event.get("to")
        client = to if isinstance(to, int) else client
    elif _NAMES_CLIENT.fullmatch(sender):
        client = int(sender[7:])
    if event.get("subject") == "client":
        client = event.client
    if client is None:
        return 1 if len(context.clients) == 1 else None
    return client


def ids_are_read(
    context: Context, sender: Side, handled: Iterable[int], delivered: Container[int]
) -> bool:
    """Tell whether the numbers that the link read from delivered frames are those that the receiver reports.

    They are where messages name their `sender`, as workload messages do. Else nearly all that was handled must have
    been delivered under the same number; most of it, where the scenario says where to find the numbers.
    """
    if context.once(f"named by {sender}", lambda: _names_sender(context, sender)):
        return True
    lines = [line for line in context.scenario.workload if line.sender == sender]
    share = DECLARED_SHARE if any(line.id_at is not None for line in lines) else READ_SHARE
    numbers = list(handled)
    found = sum(number in delivered for number in numbers)
    return bool(numbers) and found >= share * len(numbers)


def _names_sender(context: Context, sender: Side) -> bool:
    frames = context.trace.select("frame")
    return any(e.get("sender") is not None and e.stream == STREAM_FROM[sender] for e in frames)


def arrivals(context: Context, connection: ConnectionRecord, sender: Side) -> list[float]:
    """Return when data messages of this sender arrived at the other side, in order.

    That is when the receiver said that it had handled them, where it says so; else when their frames left the link,
    which cannot see what is lost behind it.
    """
    handled = _handled_times(context).get((OTHER[sender], connection.client))
    if handled:
        return list(between(handled, connection.open_s or 0.0, connection.lost_s()))
    stream = STREAM_FROM[sender]
    return [
        event.at_s
        for event in connection.events
        if event.stream == stream and is_data(event) and not event.is_sent
    ]


def _handled_times(context: Context) -> dict[tuple[str, int | None], list[float]]:
    """Return when messages were handled, by whom and of which client, in order."""
    return context.once("handled times", lambda: _read_handled(context))


def _read_handled(context: Context) -> dict[tuple[str, int | None], list[float]]:
    found: dict[tuple[str, int | None], list[float]] = defaultdict(list)
    for event in context.trace.select("message"):
        found[str(event["subject"]), client_of_message(context, event)].append(event.at_s)
    return {key: sorted(times) for key, times in found.items()}


def usable_spans(context: Context, connection: ConnectionRecord) -> list[Span]:
    """Return the times in which bytes could pass on this connection.

    It is usable from its open until the first sign of its ending. While an entry silences its path it is not: from
    the moment the entry is felt on it, or, where it was not, not at all, to the entry's end; for good where the harm
    lasts.
    """
    opened = connection.open_s
    if opened is None:
        return []
    spans: list[Span] = [(opened, min(connection.lost_s(), context.end_s))]
    for index, entry in enumerate(context.scenario.timeline):
        words = context.words[index]
        if not words.silences():
            continue
        if words.on_path:
            # a path belongs to a host: all connections of that host are silent
            if concerns(entry, connection.client) and spans:
                for row in context.in_force(index).meeting(spans[0][0], spans[-1][1]):
                    spans = without(spans, (row.start_s, row.end_s))
            continue
        for event in connection.events:
            if event.kind != "felt" or event.get("entry") != index:
                continue
            ends = [row.end_s for row in context.in_force(index).meeting(event.at_s, event.at_s)]
            until_s = float("inf") if words.lasting else max(ends, default=event.at_s)
            spans = without(spans, (event.at_s, until_s))
    return [span for span in spans if span[1] > span[0]]


def silent_spans(context: Context, connection: ConnectionRecord) -> Iterator[Span]:
    """Yield the times in which due messages did not arrive, one way or the other, though the connection was open.

    A message may be late by another interval and the longest wait for a pong: so long both peers would bear it.
    """
    opened = connection.open_s
    lost = connection.undecoded()
    end_s = min(connection.lost_s(), context.end_s, lost.at_s if lost else float("inf"))
    if opened is None or end_s <= opened:
        return
    for sender, every_s in rates(context).items():
        added_s = added_latency_s(context, opened, end_s, connection.client)
        allowed_s = 2 * every_s + heartbeat_timeout_s(context) + added_s
        times = [at_s for at_s in arrivals(context, connection, sender) if at_s < end_s]
        for before_s, after_s in pairwise([opened, *times, end_s]):
            if after_s - before_s > allowed_s:
                yield before_s + every_s, after_s


def clear_spans(context: Context, connection: ConnectionRecord) -> list[Span]:
    """Return the times in which the connection was usable and no entry touched it that may slow or stop messages."""
    spans = usable_spans(context, connection)
    for index, entry in enumerate(context.scenario.timeline):
        if not concerns(entry, connection.client) or entry.word == "noop":
            continue
        touched_s, words = context.touched(index, connection), context.words[index]
        if touched_s is None and entry.kind != "action":
            continue
        if touched_s is not None and words.lasting:
            spans = without(spans, (touched_s, float("inf")))
        if words.has_window(entry.for_s) and spans:
            for row in in_force_late(context, index, spans[0][0], spans[-1][1]):
                spans = without(spans, (row.start_s, row.end_s + delay_after_s(context, row)))
    return spans


def due(every_s: float, spans: Iterable[Span]) -> int:
    """Return how many messages at least are due in these times, whatever the phase of who sends them."""
    return sum(int(max(0.0, (end_s - start_s) / every_s - 1)) for start_s, end_s in spans)


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
