"""Which entries kill a path or end connections by themselves, so that a peer's giving up is no false alarm."""

from __future__ import annotations

import math
from collections.abc import Iterator

from chaos.checks.connections import ConnectionRecord
from chaos.checks.context import Context, Occurrence, concerns
from chaos.scenario.paths import LegPath
from chaos.trace import Event
from chaos.vocabulary.faults import SlowAccept


def is_killer(context: Context, index: int) -> bool:
    """Tell whether an entry can make a correct peer give up a connection: ends, silences or slows it too much."""
    words = context.words[index]
    return words.silences() or words.deadly or _too_slow(context, index)


def _too_slow(context: Context, index: int) -> bool:
    """Tell whether the entry alone delays an answer to a ping by as long as a peer may wait for it."""
    delay_s = context.words[index].answer_delay_s(context.entry(index).stream)
    return delay_s >= min(context.pong_waits_s, default=math.inf)


def path_hides_client(context: Context) -> bool:
    """Tell whether the scenario's `paths` can lose what a client does before the link sees it."""
    leg = _client_leg(context)
    return leg is not None and (leg.loses() or math.isinf(leg.round_trip_s()))


def _client_leg(context: Context) -> LegPath | None:
    paths = context.scenario.paths
    return paths.client if paths is not None else None


def client_round_trip_s(context: Context) -> float:
    """Return how long the way from a client to the link and back takes at most (`LegPath.round_trip_s`)."""
    leg = _client_leg(context)
    return leg.round_trip_s() if leg is not None else 0.0


def client_lateness_s(context: Context) -> tuple[float, float]:
    """Return by how much a client's wait may seem longer, and shorter, than it is.

    Longer: it hears of the loss one way after the link, its next SYN takes the other, and a refusal, which is
    recorded when the client knows of it, one way more. Shorter: the sign that the wait has begun takes one way.
    """
    leg = _client_leg(context)
    if leg is None:
        return 0.0, 0.0
    down_s, up_s = (leg.way(way).reach_s() for way in ("downstream", "upstream"))
    return leg.round_trip_s() + down_s, up_s


def delay_after_s(context: Context, row: Occurrence) -> float:
    """Return for how long after its window an entry may still hold bytes back.

    TCP sends what a path lost again at doubling intervals: the next time may come as long after the window as the
    window lasted (measured: up to 0.6 of it), plus the first interval, which grows with the round trip.
    """
    if not context.words[row.index].resent:
        return 0.0
    paths = context.scenario.paths
    return row.end_s - row.start_s + 1.0 + (paths.round_trip_s() if paths else 0.0)


def in_force_late(
    context: Context, index: int, from_s: float, until_s: float
) -> Iterator[Occurrence]:
    """Yield each time that an entry was in force, or may still have held bytes back, between two times."""
    late_s = 0.0
    if context.words[index].resent:
        paths = context.scenario.paths
        late_s = 1.0 + (paths.round_trip_s() if paths else 0.0)
    return context.in_force(index, late=late_s).meeting(from_s, until_s)


def heartbeat_timeout_s(context: Context) -> float:
    """Return the longest wait for a pong of either peer, at least one second."""
    return max([1.0, *context.pong_waits_s])


def added_latency_s(context: Context, start_s: float, end_s: float, client: int) -> float:
    """Return what delays a round trip of a client in this time: the scenario's `paths`, and latency toxics.

    Both directions together. Of a path that draws its delays, what one packet in a million exceeds; infinite where
    a queue has no limit.
    """
    paths = context.scenario.paths
    total_s = paths.round_trip_s() if paths is not None else 0.0
    for index, entry in enumerate(context.scenario.timeline):
        each_s = context.words[index].round_trip_s(entry.stream)
        if each_s and concerns(entry, client):
            total_s += sum(each_s for _ in context.in_force(index).meeting(start_s, end_s))
    return total_s


def unread(context: Context, attempt: ConnectionRecord) -> bool:
    """Tell whether `slow_accept` kept the link from reading this attempt, so that its end could not be seen."""
    return attempt.open_s is None and any(_slow_accepts(context, attempt))


def read_from_s(context: Context, older: ConnectionRecord) -> float:
    """Return when the link began to read from a connection: `slow_accept` may have kept it from that for long."""
    waits = [
        event.at_s + SlowAccept.model_validate(context.entry(event["entry"]).parameters).delay_s
        for event in _slow_accepts(context, older)
    ]
    return max(waits, default=0.0)


def _slow_accepts(context: Context, connection: ConnectionRecord) -> Iterator[Event]:
    """Yield the events in which `slow_accept` touched a connection."""
    for event in connection.events:
        if event.kind == "felt" and context.entry(event["entry"]).word == SlowAccept.word:
            yield event


def cut_off(context: Context, older: ConnectionRecord, opened: float) -> bool:
    """Tell whether a fault below the link may keep from it that the client has ended this connection.

    A FIN that was lost is sent again, and an RST is not: the link finds out when it next sends something. While it
    dials a server that does not answer, it does not read from the client.
    """
    if path_hides_client(context):
        return True
    dialed = older.first("dialed")
    dialing = dialed is None or dialed.at_s > opened
    for index, entry in enumerate(context.scenario.timeline):
        words = context.words[index]
        hidden = words.hides_client() or (words.hides_server() and dialing)
        if not hidden or not concerns(entry, older.client):
            continue
        if context.in_force(index).meets(older.attempt_s, opened):
            return True
    return False
