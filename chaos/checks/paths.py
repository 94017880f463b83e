"""Which entries kill a path or end connections by themselves, so that a peer's giving up is no false alarm."""

from __future__ import annotations

import math

from chaos.checks.context import Context, Occurrence, concerns
from chaos.scenario.paths import LegPath


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
    for rows in context.occurrences:
        for row in rows:
            entry = context.entry(row.index)
            overlaps = row.start_s <= end_s and row.end_s >= start_s
            if overlaps and concerns(entry, client):
                total_s += context.words[row.index].round_trip_s(entry.stream)
    return total_s
