"""`delivers` and `single_handler`: what became of the workload's messages."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import pairwise

from chaos.checks.context import Context, Scope, seconds
from chaos.checks.spans import count_within
from chaos.checks.traffic import (
    clear_spans,
    client_of_message,
    due,
    ids_are_read,
    is_data,
    rates,
)
from chaos.checks.verdict import (
    Judgement,
    Outcome,
    failed,
    not_applicable,
    passed,
    undecided,
    worst,
)
from chaos.trace import OTHER, SIDES, Event, Side
from chaos.vocabulary.checks import Delivers, SingleHandler

# fewer due messages than this say nothing about a rate
DUE_MIN = 4
# in how many of the newest epochs that have an id its sending is looked for
EPOCHS_MAX = 100


@dataclass(slots=True)
class Flow:
    """The messages of one sender to or from one client: (id, time) of each, in order."""

    sender: Side
    client: int
    sent: list[tuple[int, float]] = field(default_factory=list)
    handled: list[tuple[int, float]] = field(default_factory=list)
    restarts: list[float] = field(default_factory=list)

    def epoch(self, at_s: float) -> int:
        """Return how often the sender had been started anew by then: its ids begin again each time."""
        return bisect_right(self.restarts, at_s)

    def first_sent(self) -> dict[tuple[int, int], float]:
        """Return when each message, by (epoch, id), was first sent."""
        first: dict[tuple[int, int], float] = {}
        for number, at_s in self.sent:
            first.setdefault((self.epoch(at_s), number), at_s)
        return first

    def handled_keys(self) -> list[tuple[tuple[int, int], float]]:
        """Return the handled messages by (epoch, id); the epoch is the newest in which that id had been sent."""
        sent: dict[int, list[tuple[int, float]]] = defaultdict(
            list
        )  # the epochs of each id, in order
        for (epoch, number), at_s in sorted(self.first_sent().items()):
            sent[number].append((epoch, at_s))
        keys = []
        for number, at_s in self.handled:
            epochs = sent.get(number, [])
            known = bisect_right(epochs, (self.epoch(at_s), float("inf")))
            before = (
                epoch
                for epoch, sent_s in reversed(epochs[max(0, known - EPOCHS_MAX) : known])
                if sent_s <= at_s
            )
            keys.append(((next(before, 0), number), at_s))
        return keys


@dataclass(frozen=True, slots=True, kw_only=True)
class Losses:
    """What a flow lost, handled more than once, and handled late, each as (id, time of its sending or handling).

    `required` is how many messages had to be handled.
    """

    required: int
    lost: list[tuple[int, float]]
    duplicated: list[tuple[int, float]]
    reordered: list[tuple[int, float]]


def delivers(context: Context, settings: Delivers, _scope: Scope) -> Judgement:
    """Judge, per sender and client, that what was due was sent, and what was sent was handled by the other subject.

    Due is one message per interval of the workload while the client's connection was usable and no entry had
    touched it; `sent_at_least` of that must have been sent. A message is required when it was sent at or before
    `duration` less `settle`; it may be handled until the end. Lost: required and never handled. Duplicated: each
    handling of an id after its first. Reordered: a first handling of an id below one that was handled before. Sent
    is what the sender reported (`send`), or, of a sender that does not report, the frames that entered the link; a
    server's report without `to` is a broadcast, of which each client's frames count. Numbers that begin again on a
    new connection are other messages. Not applicable where the receiver reports nothing or nobody can send;
    INCONCLUSIVE when nothing was sent or due.
    """
    senders = SIDES if settings.sender == "both" else (settings.sender,)
    parts = [
        part
        for sender in senders
        for flow in read_flows(context, sender)
        for part in _judge_flow(context, settings, flow)
    ]
    if not parts and not any(sender in rates(context) for sender in senders):
        who = "nobody" if settings.sender == "both" else f"the {settings.sender}"
        return not_applicable(
            f"{who} sends a workload here; a line of `workload` that can be sent would make it apply"
        )
    return worst(parts, nothing="no workload message was sent, and none was due")


def read_flows(context: Context, sender: Side) -> list[Flow]:
    """Return the messages of one sender, per client."""
    flows = {client: Flow(sender, client) for client in context.clients}
    for event, client in _sent_events(context, sender):
        if client in flows and isinstance(event.get("id"), int):
            flows[client].sent.append((event["id"], event.at_s))
    for event in context.trace.select("message", subject=OTHER[sender]):
        client = client_of_message(context, event)
        if client in flows and isinstance(event.get("id"), int):
            flows[client].handled.append((event["id"], event.at_s))
    servers = [event.at_s for event in context.trace.select("subject_start", subject="server")]
    for flow in flows.values():
        restarts = (servers if sender == "server" else context.starts_of(flow.client))[1:]
        flow.restarts = sorted([*restarts, *_begins_again(context, flow)])
    return list(flows.values())


def _begins_again(context: Context, flow: Flow) -> Iterator[float]:
    """Yield when a sender's numbers began again on a new connection, as those of many protocols do.

    Its first message on the connection then has the lowest number of all, which was sent before, and later ones
    follow that were sent before too. A sender that only sends again what was not acknowledged goes on from there.
    """
    if not flow.sent:
        return
    first = flow.sent[0][0]
    sent = sorted(flow.sent, key=lambda row: row[1])
    times = [at_s for _, at_s in sent]
    opened = [c.open_s for c in context.of_client(flow.client) if c.open_s is not None]
    for start_s, end_s in pairwise([*opened[1:], float("inf")]):
        place = bisect_left(times, start_s)
        if place < len(sent) and times[place] < end_s and sent[place][0] == first:
            yield times[place]


def _sent_events(context: Context, sender: Side) -> Iterator[tuple[Event, int | None]]:
    reported = context.trace.select("send", subject=sender)
    to_all = sender == "server" and len(context.clients) > 1
    addressed = [e for e in reported if not to_all or client_of_message(context, e) is not None]
    if reported and len(addressed) == len(reported):
        for event in reported:
            yield event, client_of_message(context, event)
        return
    frames = [
        e for e in context.trace.select("frame") if e.sent_by(sender) and e.get("id") is not None
    ]
    # other messages of the application may have numbers as well: a workload message names its sender
    named = {event.client for event in frames if event.get("sender") is not None}
    for event in frames:
        if event.client not in named or event.get("sender") is not None:
            yield event, event.client


def losses_of(flow: Flow, until_s: float) -> Losses:
    """Count what a flow lost, duplicated and reordered; messages sent after `until_s` are not required."""
    seen: set[tuple[int, int]] = set()
    duplicated, reordered = [], []
    highest = (-1, -1)
    for key, at_s in flow.handled_keys():
        if key in seen:
            duplicated.append((key[1], at_s))
        elif key < highest:
            reordered.append((key[1], at_s))
        seen.add(key)
        highest = max(highest, key)
    required = {key: at_s for key, at_s in flow.first_sent().items() if at_s <= until_s}
    lost = [(key[1], at_s) for key, at_s in required.items() if key not in seen]
    return Losses(required=len(required), lost=lost, duplicated=duplicated, reordered=reordered)


def _judge_flow(context: Context, settings: Delivers, flow: Flow) -> Iterator[Judgement]:
    server, receiver = flow.sender == "server", OTHER[flow.sender]
    way = f"server to client {flow.client}" if server else f"client {flow.client} to server"
    settle_s = context.scenario.settle_s
    silent = _judge_rate(context, settings, flow, way)
    if silent is not None:
        yield silent
    if not flow.sent:
        return
    delivered = _delivered(context, receiver, flow.client)
    handled_ids = {number for number, _ in flow.handled}
    if ids_are_read(context, flow.sender, handled_ids, delivered):
        # who says that it handled what never came has lost it all the same
        flow.handled = [row for row in flow.handled if row[0] in delivered]
    losses = losses_of(flow, context.end_s - settle_s)
    if not handled_ids and not _reports_messages(context, receiver):
        yield not_applicable(
            f"the {receiver} does not report the messages it handles; "
            f'`report("message", id=…)` would make it apply'
        )
        return
    if losses.required == 0:
        yield undecided(f"{way}: nothing was sent before the last {settle_s:g} s")
        return
    counts = {
        "lost": (losses.lost, settings.lost),
        "duplicated": (losses.duplicated, settings.duplicated),
        "reordered": (losses.reordered, settings.reordered),
    }
    numbers = {name: len(rows) for name, (rows, _) in counts.items()}
    limits = {name: limit for name, (_, limit) in counts.items() if limit is not None}
    over = [name for name, limit in limits.items() if numbers[name] > limit]
    reason = f"{way}: {_listed(numbers)} of {losses.required}"
    yield Judgement(
        Outcome.FAIL if over else Outcome.PASS,
        f"{reason} (expected at most {_listed(limits)})" if limits else reason,
        badness=sum(numbers.values()),
        evidence=tuple(f"{name}: {_sample(counts[name][0])}" for name in over),
        measured={"flow": way, "sent": losses.required, **numbers},
    )


def _judge_rate(context: Context, settings: Delivers, flow: Flow, way: str) -> Judgement | None:
    """Return a failure where the sender did not send what the workload made due."""
    every_s = rates(context).get(flow.sender)
    if every_s is None:
        return None
    sent = 0
    expected, evidence = 0, []
    known = sorted(at_s for _, at_s in flow.sent)
    for connection in context.of_client(flow.client):
        spans = clear_spans(context, connection)
        wanted = due(every_s, spans)
        times = known or sorted(
            event.at_s
            for event in connection.events
            if is_data(event) and event.sent_by(flow.sender)
        )
        own = count_within(times, spans)
        expected, sent = expected + wanted, sent + min(own, max(wanted, 1))
        if wanted >= DUE_MIN and own < settings.sent_at_least * wanted:
            where = ", ".join(f"{seconds(a)} to {seconds(b)}" for a, b in spans[:3])
            evidence.append(f"connection {connection.number}: {own} sent of {wanted} due, {where}")
    if expected < DUE_MIN or sent >= settings.sent_at_least * expected:
        return None
    return failed(
        f"{way}: {sent} of {expected} messages that were due were sent "
        f"(expected at least {settings.sent_at_least:.0%})",
        badness=expected - sent,
        # a server that sent well before may wait for a subscription that the client owes it
        culprit=flow.sender if flow.sender == "client" or not sent else "",
        evidence=tuple(evidence[:5]),
        measured={"flow": way, "sent": sent, "due": expected},
    )


def _delivered(context: Context, receiver: Side, client: int) -> Counter[int]:
    """Return how often each number of a message was delivered to this side of a client's connections."""
    return Counter(
        event["id"]
        for connection in context.of_client(client)
        for event in connection.events
        if event.kind == "frame" and event.get("id") is not None and event.delivered_to(receiver)
    )


def _listed(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{count} {name}" for name, count in counts.items())


def _reports_messages(context: Context, receiver: Side) -> bool:
    """Tell whether this subject reports at all: it did once, or it is the reference, which always does."""
    reported = context.once(
        f"reported by {receiver}",
        lambda: bool(context.trace.select("message", subject=receiver)),
    )
    return context.subject(receiver).use == "reference" or reported


def _sample(rows: list[tuple[int, float]]) -> str:
    shown = ", ".join(f"id {number} at {seconds(at_s)}" for number, at_s in rows[:5])
    return f"{shown} and {len(rows) - 5} more" if len(rows) > 5 else shown


def single_handler(context: Context, _settings: SingleHandler, _scope: Scope) -> Judgement:
    """Judge that no message was handled more often than it was delivered on the wire.

    For each id of each client, at the side of the subject: handled times must not exceed delivered frames; anything
    more is a handler of an old connection left bound. INCONCLUSIVE when no client reconnected, when nothing was
    handled after a reconnection. Not applicable where no receiver reports what it handles, and where the frames' ids
    cannot be read (an encoding of their own).
    """
    handled: dict[tuple[Side, int | None], list[Event]] = defaultdict(list)
    for event in context.trace.select("message"):
        if event.get("id") is not None:
            handled[event["subject"], client_of_message(context, event)].append(event)
    parts = (
        _judge_handling(context, receiver, client, handled[receiver, client])
        for receiver in SIDES
        for client in context.clients
    )
    senders = rates(context) or SIDES
    if not any(_reports_messages(context, OTHER[sender]) for sender in senders):
        return not_applicable(
            'no receiver reports the messages it handles; `report("message", id=…)` would make it apply'
        )
    return worst(parts, nothing="no subject handled a message after a reconnection")


def _judge_handling(
    context: Context, receiver: Side, client: int, events: list[Event]
) -> Judgement | None:
    """Judge one subject's handling of one client's messages; None if it handled none after a reconnection."""
    opened = [c.open_s for c in context.of_client(client) if c.open_s is not None]
    if len(opened) < 2 or not any(event.at_s >= opened[1] for event in events):
        return None
    handled: Counter[int] = Counter(event["id"] for event in events)
    delivered = _delivered(context, receiver, client)
    who = f"client {client}" if receiver == "client" else f"the server, for client {client},"
    if not ids_are_read(context, OTHER[receiver], handled, delivered):
        return not_applicable(
            f"the link cannot read the ids of the frames to {who}; an `id` in `workload` that finds them would "
            "make it apply"
        )
    extra = [number for number, count in handled.items() if count > delivered[number]]
    measured = {"messages": len(handled), "handled_too_often": len(extra)}
    if not extra:
        reason = (
            f"{who} handled each of {len(handled)} messages no more often than it was delivered"
        )
        return passed(reason, measured=measured)
    times: dict[int, list[str]] = defaultdict(list)
    for event in events:
        times[event["id"]].append(seconds(event.at_s))
    number = extra[0]
    return failed(
        f"{who} handled message {number} {handled[number]} times, delivered {delivered[number]} times "
        f"({len(extra)} such messages)",
        badness=len(extra),
        evidence=tuple(f"id {row}: handled at {', '.join(times[row])}" for row in extra[:5]),
        measured=measured,
    )
