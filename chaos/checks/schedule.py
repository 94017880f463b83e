"""The delays between connection attempts as the link saw them, each with the place it has in its series.

A series starts when a connection that was open for at least `stable_after` is lost (or with the first attempt of
all), and goes on through failed attempts and through connections that did not live that long.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

from chaos.checks.connections import ConnectionRecord, close_code, is_close_frame
from chaos.checks.context import Context, concerns
from chaos.checks.paths import client_round_trip_s, delay_after_s, path_hides_client
from chaos.scenario.model import Client
from chaos.vocabulary.policies import Policy, Reaction

# how far the link's view of a connection's age may differ from the client's
AGE_MARGIN_S = 0.5
# the probe that measures the loop's lag may run this much after what was late
LAG_MARGIN_S = 0.1
# a client that waits for the whole close timeout cuts its socket just after it
END_MARGIN_S = 0.1


@dataclass(frozen=True, slots=True, kw_only=True)
class Delay:
    """One wait between the end of an attempt and the start of the next.

    The end is a range, since a client may start its wait at the first sign of the end or after its teardown:
    `long_s` counts from the first sign, `short_s` from the end of its socket, less what the event loop was late in
    between: a wait ends no sooner than the loop answers. `step` counts failures in the series
    from 0. `exempt`: another rule set this delay (Retry-After, a policy's own reaction). `long_wait`: a reaction
    made the series start at its maximum. `cold`: the client had not been connected before.
    """

    client: int
    step: int
    start_s: float
    next_s: float
    long_s: float
    short_s: float
    exempt: bool
    long_wait: bool
    cold: bool


def reaction_to(policy: Policy, connection: ConnectionRecord) -> Reaction:
    """Return how the policy answers to what ended this connection or attempt."""
    refusal = connection.refusal()
    if refusal is not None and refusal.kind == "response":
        return policy.on_status(int(refusal.get("status", 0)))
    if refusal is not None and is_close_frame(refusal):
        return policy.on_close(close_code(refusal))
    return Reaction.BACKOFF


def ends_of(
    connection: ConnectionRecord, client: Client, before_s: float
) -> tuple[float, float] | None:
    """Return the first sign of this attempt's end at the client, and the end of its socket, before a time.

    None when the next attempt began without either.
    """
    # on a connection that never was open, a Close frame cannot come, so these are FIN, RST and refusals
    ends = (connection.ending_by("client"), connection.refusal())
    times = [event.at_s for event in ends if event is not None]
    signs = [at_s for at_s in (*times, connection.client_socket_end_s()) if at_s <= before_s]
    if not signs:
        return None
    first_s = min(signs)
    last_s = max(
        (
            event.at_s
            for event in connection.events
            if event.kind in ("fin", "rst") and event.get("side") == "client"
            if event.at_s <= min(before_s, first_s + client.close_timeout_s + END_MARGIN_S)
        ),
        default=first_s,
    )
    return first_s, max(first_s, last_s)


def read_delays(context: Context, client: int) -> list[Delay]:
    """Return the delays of one client in order. Series whose start is uncertain are left out."""
    if path_hides_client(context):
        return []
    settings = context.scenario.client
    policy, margin_s = Policy.parse(settings.policy), AGE_MARGIN_S + client_round_trip_s(context)
    delays: list[Delay] = []
    step, certain, long_wait, connected = 0, True, False, False
    for connection, following in pairwise(context.of_client(client)):
        next_s = following.attempt_s
        ends = ends_of(connection, settings, next_s)
        ages = _ages_s(connection, ends[0] if ends else next_s)
        connected = connected or ages is not None
        if ages is not None and ages[0] >= settings.stable_after_s + margin_s:
            step, certain, long_wait = 0, True, False
        elif ages is not None and ages[1] > settings.stable_after_s - margin_s:
            certain = False  # nobody can tell from here whether this one was stable
        reaction, refusal = reaction_to(policy, connection), connection.refusal()
        long_wait = long_wait or reaction is Reaction.LONG
        if ends is not None:
            certain = certain and not _hidden(context, client, ends[0], next_s)
        if ends is not None and certain:
            told = refusal is not None and refusal.get("retry_after_s") is not None
            delay = Delay(
                client=client,
                step=step,
                start_s=ends[0],
                next_s=next_s,
                long_s=next_s - ends[0],
                short_s=max(0.0, next_s - ends[1] - _lag_s(context, ends[0], next_s)),
                exempt=told or reaction in (Reaction.NOW, Reaction.AUTH, Reaction.NEVER),
                long_wait=long_wait,
                cold=not connected,
            )
            delays.append(delay)
        # a reconnection at once is no step of the schedule
        step += reaction is not Reaction.NOW
    return delays


def _hidden(context: Context, client: int, start_s: float, end_s: float) -> bool:
    """Tell whether attempts may have been made in this time that nobody saw: nobody listened in a part of it.

    The reference client's sockets record their refused attempts; those of a client in another process, or with
    sockets of its own, do not. Where one attempt in the window was recorded, all were. An attempt whose SYN is lost
    below the link is seen by nobody, unless a later SYN gets through; a failed name is recorded by the resolver.
    """
    seen = context.attempts_of(client)
    records_all = context.scenario.client.use == "reference"
    for index, word in enumerate(context.words):
        loses = word.hides_client() and concerns(context.entry(index), client)
        for row in context.occurrences[index]:
            late_s = delay_after_s(context, row) if loses else 0.0
            if row.start_s >= end_s or row.end_s + late_s <= start_s:
                continue
            unseen = word.refuses and not any(row.start_s < at_s < row.end_s for at_s in seen)
            if loses or (unseen and not records_all):
                return True
    return False


def _ages_s(connection: ConnectionRecord, ended_s: float) -> tuple[float, float] | None:
    """Return the least and the greatest age at which the client may see this connection end; None if never open.

    A client that gave up a silent connection may count its life to the end, or only to the last frame it got.
    """
    opened, refusal = connection.open_s, connection.refusal()
    if opened is None:
        return None
    oldest_s = ended_s - opened
    if refusal is not None and refusal.at_s <= ended_s:
        return oldest_s, oldest_s
    heard = [e.at_s for e in connection.delivered_frames() if e.delivered_to("client")]
    last_s = max((at_s for at_s in heard if at_s <= ended_s), default=opened)
    return last_s - opened, oldest_s


def _lag_s(context: Context, start_s: float, end_s: float) -> float:
    """Return by how much the event loop was late in this time, all in all."""
    return sum(lag_s for at_s, lag_s in context.lags if start_s <= at_s <= end_s + LAG_MARGIN_S)
