"""The delays between connection attempts as the link saw them, each with the rule that sets it.

A series starts when a connection that was open for at least `stable_after` is lost (or with the first attempt of
all), and goes on through failed attempts and through connections that did not live that long. Each slot of a client
(`assign_slots`) has series of its own.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum
from itertools import pairwise

from chaos.checks.connections import (
    ConnectionRecord,
    assign_slots,
    close_code,
    is_close_frame,
)
from chaos.checks.context import Context, concerns
from chaos.checks.paths import (
    client_round_trip_s,
    cut_off,
    delay_after_s,
    in_force_late,
    path_hides_client,
    unread,
)
from chaos.checks.spans import between, first_after
from chaos.scenario.model import Client
from chaos.trace import Event
from chaos.vocabulary.policies import Policy, Reaction

# how far the link's view of a connection's age may differ from the client's
AGE_MARGIN_S = 0.5
VIRTUAL_AGE_MARGIN_S = 0.05
# the probe that measures the loop's lag may run this much after what was late
LAG_MARGIN_S = 0.1
# a client that waits for the whole close timeout cuts its socket just after it
END_MARGIN_S = 0.1
# no client need believe a server that asks for more
RETRY_AFTER_S_MAX = 3600.0
# the statuses of a handshake that a client may follow (RFC 6455 §4.1, RFC 9110 §15.4), and how often in a row
REDIRECTS = frozenset({301, 302, 303, 307, 308})
REDIRECTS_MAX = 20


class Rule(Enum):
    """What sets the length of a delay; the value is how findings name it."""

    SCHEDULE = "schedule"  # the stated backoff
    LONG = "long"  # the policy asks for a long wait
    NOW = "now"  # the policy allows one attempt at once
    AUTH = "auth"  # the policy allows one attempt with new credentials
    NEVER = "never"  # the policy allows none
    RETRY_AFTER = "retry_after"  # the server has told how long
    REDIRECT = "redirect"  # the server has told where else to go


@dataclass(frozen=True, slots=True, kw_only=True)
class Delay:
    """One wait between the end of an attempt and the start of the next in the same slot.

    The end is a range, since a client may start its wait at the first sign of the end or after its teardown: `long_s`
    counts from the first sign, `short_s` from the end of its socket, less what the event loop was late in between: a
    wait ends no sooner than the loop answers. `step` counts failures in the series from 0. `after_long`: a long wait
    came before in this series. `cold`: the client had not been connected before. `lasted_s` is how long the failed
    attempt itself took; 0 after a connection. `told_s` is what Retry-After asked for at least, and `told_late_s` by
    the latest of the clocks in question. `cause` is the event that ended the attempt. `doubtful`: its step is not
    known, since nobody can tell whether the connection before was stable. `beside`: the attempt before was still
    going on; then the delay counts from its start, and its greatest length is not known.
    """

    client: int
    step: int
    rule: Rule
    start_s: float
    next_s: float
    long_s: float
    short_s: float
    after_long: bool
    cold: bool
    lasted_s: float
    told_s: float = 0.0
    told_late_s: float = 0.0
    cause: Event | None = None
    beside: bool = False
    doubtful: bool = False


class Conduct:
    """Which reaction the policy asks of a client after each ending, given what came before. One per slot."""

    def __init__(self, policy: Policy) -> None:
        self._policy = policy
        self._jumped = self._refreshed = False
        self._repeated: tuple[int | None, int] = (None, 0)

    def settled(self) -> None:
        """The last connection was stable: what is allowed once is allowed again."""
        self._jumped = self._refreshed = False

    def after(self, refusal: Event | None) -> Rule:
        """Return the rule for the attempt that follows this ending."""
        reaction = self._reaction(refusal)
        status, times = self._repeated
        if status in REDIRECTS and times <= REDIRECTS_MAX:
            return Rule.REDIRECT
        if reaction is Reaction.NOW:
            first, self._jumped = not self._jumped, True
            return Rule.NOW if first else Rule.SCHEDULE
        if reaction is Reaction.AUTH:
            first, self._refreshed = not self._refreshed, True
            return Rule.AUTH if first else Rule.NEVER
        if reaction is Reaction.NEVER:
            return Rule.NEVER
        if refusal is not None and refusal.get("retry_after_s") is not None:
            return Rule.RETRY_AFTER
        return Rule.LONG if reaction is Reaction.LONG else Rule.SCHEDULE

    def _reaction(self, refusal: Event | None) -> Reaction:
        status = None
        if refusal is not None and refusal.kind == "response":
            status = int(refusal.get("status", 0))
        before, times = self._repeated
        self._repeated = (status, times + 1 if status == before else 1)
        if status is not None:
            return self._policy.on_status(status, self._repeated[1])
        if refusal is not None and is_close_frame(refusal):
            return self._policy.on_close(close_code(refusal))
        return Reaction.BACKOFF


def told_by_peer(connection: ConnectionRecord, before_s: float) -> Event | None:
    """Return with what somebody else told the client that this attempt or connection is over, before a time.

    None where the client itself gave it up first: the answer to its own Close tells it nothing.
    """
    refusal, own = connection.refusal(), connection.ending_by("client")
    if refusal is None or refusal.at_s > before_s:
        return None
    return None if own is not None and own.at_s < refusal.at_s else refusal


def last_told(context: Context, client: int, at_s: float) -> Event | None:
    """Return what last told this client, before a time, that it is refused or its connection is over."""
    rows = (told_by_peer(connection, at_s) for connection in context.of_client(client))
    told = (event for event in rows if event is not None and event.kind in ("frame", "response"))
    return max(told, key=lambda event: event.at_s, default=None)


def rule_after_last(context: Context, client: int, at_s: float) -> Rule | None:
    """Return the rule for an attempt of this client at a time, by what ended last; None if nothing has ended."""
    settings = context.scenario.client
    last: tuple[float, Rule] | None = None
    for slot in context.slots_of(client):
        conduct = Conduct(Policy.parse(settings.policy))
        for connection in slot:
            refusal = told_by_peer(connection, at_s)
            over_s = min(connection.over_s(), refusal.at_s if refusal is not None else math.inf)
            if over_s > at_s:
                continue
            ages = _ages_s(connection, over_s)
            if ages is not None and ages[0] >= settings.stable_after_s:
                conduct.settled()
            row = (over_s, conduct.after(refusal))
            last = row if last is None or row[0] >= last[0] else last
    return last[1] if last is not None else None


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


def read_delays(context: Context, client: int, *, one_series: bool = False) -> list[Delay]:
    """Return the delays of one client in order.

    With `one_series` an attempt follows whichever connection or attempt was over last; else each slot has a series.
    """
    if path_hides_client(context):
        return []
    slots = context.slots_of(client)
    if one_series and len(slots) > 1:
        slots = assign_slots(context.of_client(client), newest=True)
    rows = [delay for slot in slots for delay in _of_slot(context, slot, one_series=one_series)]
    return sorted([*rows, *_side_by_side(context, client)], key=lambda delay: delay.next_s)


def _of_slot(
    context: Context, slot: list[ConnectionRecord], *, one_series: bool
) -> Iterator[Delay]:
    settings, client = context.scenario.client, slot[0].client
    conduct = Conduct(Policy.parse(settings.policy))
    margin_s = VIRTUAL_AGE_MARGIN_S if context.virtual else AGE_MARGIN_S
    margin_s += client_round_trip_s(context)
    step, certain, after_long, connected = 0, True, False, False
    for connection, following in pairwise(slot):
        next_s = following.attempt_s
        ends = ends_of(connection, settings, next_s)
        ages = _ages_s(connection, ends[0] if ends else next_s)
        connected = connected or ages is not None
        if ages is not None and ages[0] >= settings.stable_after_s + margin_s:
            step, certain, after_long = 0, True, False
            conduct.settled()
        elif ages is not None and ages[1] > settings.stable_after_s - margin_s:
            certain = False  # nobody can tell from here whether this one was stable
        refusal = told_by_peer(connection, next_s)
        rule = conduct.after(refusal)
        seen = ends is not None and not _hidden(context, client, ends[0], next_s)
        certain = certain and (seen or ends is None)
        spare = _has_another(context, connection, following)
        if one_series and _has_another(context, connection, following, opened=False):
            continue  # an attempt beside another is none of the series
        # who has another connection need not wait, and who lost none has nothing to wait for
        judged = rule in (Rule.NEVER, Rule.RETRY_AFTER) or (seen and not (spare and ages))
        if ends is not None and judged and not _told_otherwise(context, client, ends[0], next_s):
            told_s = refusal.get("retry_after_s") if refusal is not None else None
            late_s = refusal.get("retry_after_late_s", told_s) if refusal is not None else None
            yield Delay(
                client=client,
                step=step,
                rule=rule,
                start_s=ends[0],
                next_s=next_s,
                long_s=next_s - ends[0],
                short_s=0.0
                if spare
                else max(0.0, next_s - ends[1] - _lag_s(context, ends[0], next_s)),
                after_long=after_long,
                cold=not connected,
                lasted_s=0.0 if ages is not None else ends[0] - connection.attempt_s,
                told_s=min(float(told_s or 0.0), RETRY_AFTER_S_MAX),
                told_late_s=float(late_s or 0.0),
                cause=refusal,
                beside=spare,
                doubtful=not certain,
            )
        after_long = after_long or rule is Rule.LONG
        # a reconnection at once is no step of the schedule
        step += rule not in (Rule.NOW, Rule.REDIRECT)


def _has_another(
    context: Context,
    connection: ConnectionRecord,
    following: ConnectionRecord,
    *,
    opened: bool = True,
) -> bool:
    """Tell whether the client had yet another connection, or without `opened` an attempt, when it made this one."""
    at_s = following.attempt_s
    own = sum(
        other.attempt_s <= at_s < other.over_s()
        and (not opened or (other.open_s is not None and other.open_s <= at_s))
        for other in {connection, following}
    )
    return context.alive(connection.client, opened=opened).at(at_s) > own


def _side_by_side(context: Context, client: int) -> Iterator[Delay]:
    """Yield the delays between attempts of which the later began while the earlier went on without an answer."""
    step = 0
    rows = context.of_client(client)
    for connection, following in pairwise(rows):
        next_s = following.attempt_s
        # two attempts of which one opens are a race (RFC 8305), and no impatience
        hangs = connection.open_s is None and connection.over_s() > next_s
        hangs = hangs and following.open_s is None
        alive = context.alive(client, opened=True).at(next_s) > 0
        unseen = unread(context, connection) or cut_off(context, connection, next_s)
        if not hangs or alive or unseen:
            step = 0
            continue
        if not _hidden(context, client, connection.attempt_s, next_s):
            yield Delay(
                client=client,
                step=step,
                rule=Rule.SCHEDULE,
                start_s=connection.attempt_s,
                next_s=next_s,
                long_s=next_s - connection.attempt_s,
                short_s=0.0,
                after_long=False,
                cold=False,
                lasted_s=0.0,
                beside=True,
            )
        step += 1


def _told_otherwise(context: Context, client: int, start_s: float, end_s: float) -> bool:
    """Tell whether something else than a policy decided on this wait: the client was started anew, or was offline."""
    if between(context.starts_of(client), start_s, end_s):
        return True
    return any(
        context.in_force(index).meets(start_s, end_s)
        for index, entry in enumerate(context.scenario.timeline)
        if entry.word == "offline" and concerns(entry, client)
    )


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
        if not loses and (records_all or not word.refuses):
            continue
        for row in (
            in_force_late(context, index, start_s, end_s)
            if loses
            else context.in_force(index).meeting(start_s, end_s)
        ):
            late_s = delay_after_s(context, row) if loses else 0.0
            if row.start_s >= end_s or row.end_s + late_s <= start_s:
                continue
            first_s = first_after(seen, row.start_s)
            unseen = word.refuses and (first_s is None or first_s >= row.end_s)
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
    """Return by how much the harness was late in this time: its event loop, and whatever else when forgiving."""
    lateness = context.lateness
    late_s = lateness.between(start_s, end_s + LAG_MARGIN_S) if context.forgiving else 0.0
    return max(late_s, lateness.lagged(start_s, end_s + LAG_MARGIN_S))
