"""Which entries kill a path or end connections by themselves, so that a peer's giving up is no false alarm."""

from __future__ import annotations

import math

from chaos.checks.context import Context
from chaos.checks.entries import Occurrence
from chaos.scenario.model import Entry
from chaos.scenario.paths import LegPath
from chaos.vocabulary.faults import FAULTS, Blackhole, DelayFrames

# no byte passes while they are in force
_SILENT = frozenset(
    {"stall", Blackhole.word, "timeout", "freeze", "partition", "host_freeze", "host_crash"}
)
# they end or doom connections, some of which outlive their window
_DEADLY = frozenset(
    {
        "down",
        "reset",
        "reset_peer",
        "limit_data",
        "idle_timeout",
        "max_lifetime",
        "drop_frames",
        "slow_close",
        "loss",
    }
)
# below the link, where it does not see what became of a packet, a connection or an attempt
_ON_PATH = frozenset(word for word, kind in FAULTS.items() if kind.on_path)
# what they did to a connection stays after their window
_LASTING = frozenset(
    {Blackhole.word, "timeout", "idle_timeout", "max_lifetime", "host_crash", "limit_data"}
)


def is_silent(entry: Entry) -> bool:
    """Tell whether no byte passes (in at least one direction) while the entry is in force."""
    starved = entry.word == "bandwidth" and entry.parameters.get("rate", 0) == 0
    return entry.word in _SILENT or starved


def is_killer(context: Context, entry: Entry) -> bool:
    """Tell whether the entry can make a correct peer give up a connection: ends, silences or slows it too much."""
    action = entry.kind == "action" and entry.word != "send"
    return is_silent(entry) or entry.word in _DEADLY or action or _too_slow(context, entry)


def _too_slow(context: Context, entry: Entry) -> bool:
    """Tell whether the entry alone delays an answer to a ping by as long as a peer may wait for it."""
    peers = (context.scenario.client, context.scenario.server)
    waits = [peer.heartbeat.timeout_s for peer in peers if peer.heartbeat is not None]
    if entry.word == "delay_frames":
        delay_s = DelayFrames.model_validate(entry.parameters).delay_s
    elif entry.word == "latency":
        delay_s = round_trip_s(entry)
    else:
        return False
    return bool(waits) and delay_s >= min(waits)


def round_trip_s(latency: Entry) -> float:
    """Return what a latency toxic can add to a round trip."""
    ways = 2 if latency.stream == "both" else 1
    parameters = latency.parameters
    return float(ways * (parameters.get("latency", 0) + parameters.get("jitter", 0)) / 1000)


def lasts(entry: Entry) -> bool:
    """Tell whether a connection that met the entry stays harmed after its window."""
    return entry.word in _LASTING


def is_on_path(entry: Entry) -> bool:
    """Tell whether the entry acts below the link, on hosts or on packets."""
    return entry.kind == "fault" and entry.word in _ON_PATH


def hides_client(entry: Entry) -> bool:
    """Tell whether the entry acts below the link on the client's side: the link sees late or never what it does."""
    if entry.word == "dns_failure":
        # a name that fails is recorded as an attempt; one that is slow may be given up unseen
        return bool(entry.parameters.get("mode") == "slow")
    on_server = entry.word in ("host_crash", "host_freeze")
    if is_behind_link(entry):
        return False
    return is_on_path(entry) and not (on_server and entry.parameters.get("host") != "client")


def is_behind_link(entry: Entry) -> bool:
    """Tell whether the entry acts on the packets between the link and the server."""
    return is_on_path(entry) and entry.parameters.get("leg") == "server"


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


def delays_after(context: Context, entry: Entry, row: Occurrence) -> float:
    """Return for how long after its window an entry may still hold bytes back.

    TCP sends what a path lost again at doubling intervals: the next time may come as long after the window as the
    window lasted (measured: up to 0.6 of it), plus the first interval, which grows with the round trip.
    """
    if entry.word in ("partition", "loss", "host_freeze"):
        paths = context.scenario.paths
        return row.end_s - row.start_s + 1.0 + (paths.round_trip_s() if paths else 0.0)
    return 0.0


def heartbeat_timeout_s(context: Context) -> float:
    """Return the longest wait for a pong of either peer, at least one second."""
    peers = (context.scenario.client, context.scenario.server)
    return max([1.0, *(peer.heartbeat.timeout_s for peer in peers if peer.heartbeat is not None)])


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
            if entry.word != "latency" or not _overlaps(row, start_s, end_s):
                continue
            if entry.clients is not None and client not in entry.clients:
                continue
            total_s += round_trip_s(entry)
    return total_s


def _overlaps(row: Occurrence, start_s: float, end_s: float) -> bool:
    return row.start_s <= end_s and row.end_s >= start_s
