"""`delivers` and `single_handler`: what became of the workload's messages."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field

from chaos.checks.context import Context, Judgement, inconclusive, seconds, worst
from chaos.checks.verdict import Finding, Measure, Outcome
from chaos.scenario.model import Expectation
from chaos.trace import Event, Side
from chaos.vocabulary.checks import Delivers, SingleHandler

_OTHER: dict[Side, Side] = {"client": "server", "server": "client"}


def client_of_message(event: Event) -> int | None:
    """Return which client a `message` or `send` event is about, as the receiver or the sender."""
    if event.get("subject") == "client":
        return event.client
    if event.kind == "send":
        to = event.get("to", event.client)
        return int(to) if to is not None else None
    sender = str(event.get("sender", ""))
    if sender.startswith("client-") and sender[7:].isdigit():
        return int(sender[7:])
    return event.client


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
        return sum(restart <= at_s for restart in self.restarts)

    def first_sent(self) -> dict[tuple[int, int], float]:
        """Return when each message, by (epoch, id), was first sent."""
        first: dict[tuple[int, int], float] = {}
        for number, at_s in self.sent:
            first.setdefault((self.epoch(at_s), number), at_s)
        return first

    def handled_keys(self) -> list[tuple[tuple[int, int], float]]:
        """Return the handled messages by (epoch, id); the epoch is the newest in which that id had been sent."""
        first = self.first_sent()
        keys = []
        for number, at_s in self.handled:
            epoch = self.epoch(at_s)
            while epoch > 0 and first.get((epoch, number), float("inf")) > at_s:
                epoch -= 1
            keys.append(((epoch, number), at_s))
        return keys


@dataclass(frozen=True, slots=True, kw_only=True)
class Tally:
    """What a flow lost, handled more than once, and handled late, each as (id, time of its sending or handling)."""

    required: int
    lost: list[tuple[int, float]]
    duplicated: list[tuple[int, float]]
    reordered: list[tuple[int, float]]


def delivers(context: Context, settings: Delivers, _expectation: Expectation) -> Finding:
    """Judge, per sender and client, that what was sent was handled by the other subject.

    A message is required when it was sent at or before `duration` less `settle`; it may be handled until the end.
    Lost: required and never handled. Duplicated: each handling of an id after its first. Reordered: a first handling
    of an id below one that was handled before. Sent is what the sender reported (`send`), or, of a sender that does
    not report, the frames that entered the link. INCONCLUSIVE when nothing was sent, or the receiver reports nothing.
    """
    senders: tuple[Side, ...] = ("client", "server")
    if settings.sender != "both":
        senders = (settings.sender,)
    flows = [flow for sender in senders for flow in read_flows(context, sender)]
    if not any(flow.sent for flow in flows):
        return inconclusive(settings.word, "no workload message was sent")
    parts = [
        _judge_flow(
            context, settings, flow, tally_of(flow, context.end_s - context.scenario.settle_s)
        )
        for flow in flows
        if flow.sent
    ]
    return worst(settings.word, parts, nothing="no workload message was sent")


def read_flows(context: Context, sender: Side) -> list[Flow]:
    """Return the messages of one sender, per client."""
    flows = {client: Flow(sender, client) for client in context.clients}
    reported = context.trace.select("send", subject=sender)
    for event, client in _sent_events(context, sender, reported):
        if client in flows and isinstance(event.get("id"), int):
            flows[client].sent.append((event["id"], event.at_s))
    for event in context.trace.select("message", subject=_OTHER[sender]):
        client = client_of_message(event)
        if client is None and len(flows) == 1:
            client = 1
        if client in flows and isinstance(event.get("id"), int):
            flows[client].handled.append((event["id"], event.at_s))
    for flow in flows.values():
        starts = [
            event.at_s
            for event in context.trace.select("subject_start", subject=sender)
            if sender == "server" or event.client in (None, flow.client)
        ]
        flow.restarts = starts[1:]
    return list(flows.values())


def _sent_events(
    context: Context, sender: Side, reported: list[Event]
) -> Iterator[tuple[Event, int | None]]:
    if reported:
        for event in reported:
            client = client_of_message(event)
            yield event, 1 if client is None and len(context.clients) == 1 else client
        return
    for event in context.trace.select("frame"):
        if event.sent_by(sender) and event.get("id") is not None:
            yield event, event.client


def tally_of(flow: Flow, until_s: float) -> Tally:
    """Count what a flow lost, duplicated and reordered; messages sent after `until_s` are not required."""
    keys = flow.handled_keys()
    seen: set[tuple[int, int]] = set()
    duplicated, reordered = [], []
    highest = (-1, -1)
    for key, at_s in keys:
        if key in seen:
            duplicated.append((key[1], at_s))
        elif key < highest:
            reordered.append((key[1], at_s))
        seen.add(key)
        highest = max(highest, key)
    required = {key: at_s for key, at_s in flow.first_sent().items() if at_s <= until_s}
    lost = [(key[1], at_s) for key, at_s in required.items() if key not in seen]
    return Tally(required=len(required), lost=lost, duplicated=duplicated, reordered=reordered)


def _judge_flow(context: Context, settings: Delivers, flow: Flow, tally: Tally) -> Judgement:
    way = (
        f"server to client {flow.client}"
        if flow.sender == "server"
        else f"client {flow.client} to server"
    )
    receiver = _OTHER[flow.sender]
    if not flow.handled and not _reports_messages(context, receiver):
        reason = f"the {receiver} does not report the messages it handled (level 1)"
        return Judgement(outcome=Outcome.INCONCLUSIVE, reason=reason)
    if tally.required == 0:
        reason = f"{way}: nothing was sent before the last {context.scenario.settle_s:g} s"
        return Judgement(outcome=Outcome.INCONCLUSIVE, reason=reason)
    counts = {
        "lost": (tally.lost, settings.lost),
        "duplicated": (tally.duplicated, settings.duplicated),
        "reordered": (tally.reordered, settings.reordered),
    }
    over = {
        name: rows
        for name, (rows, limit) in counts.items()
        if limit is not None and len(rows) > limit
    }
    text = ", ".join(f"{len(rows)} {name}" for name, (rows, _) in counts.items())
    limits = ", ".join(
        f"{limit} {name}" for name, (_, limit) in counts.items() if limit is not None
    )
    reason = f"{way}: {text} of {tally.required}"
    evidence = tuple(f"{name}: {_sample(rows)}" for name, rows in over.items())
    measured: list[tuple[str, Measure]] = [("flow", way), ("sent", tally.required)]
    measured += [(name, len(rows)) for name, (rows, _) in counts.items()]
    return Judgement(
        outcome=Outcome.FAIL if over else Outcome.PASS,
        reason=f"{reason} (expected at most {limits})" if limits else reason,
        badness=sum(len(rows) for rows, _ in counts.values()),
        evidence=evidence,
        measured=tuple(measured),
    )


def _reports_messages(context: Context, receiver: Side) -> bool:
    """Tell whether this subject reports at all: it did once, or it is the reference, which always does."""
    subject = context.scenario.client if receiver == "client" else context.scenario.server
    return subject.use == "reference" or bool(context.trace.select("message", subject=receiver))


def _sample(rows: list[tuple[int, float]]) -> str:
    shown = ", ".join(f"id {number} at {seconds(at_s)}" for number, at_s in rows[:5])
    return f"{shown} and {len(rows) - 5} more" if len(rows) > 5 else shown


def single_handler(context: Context, settings: SingleHandler, _expectation: Expectation) -> Finding:
    """Judge that no message was handled more often than it was delivered on the wire.

    For each id of each client, at the side of the subject: handled times must not exceed delivered frames; anything
    more is a handler of an old connection left bound. INCONCLUSIVE when no client reconnected, when nothing was
    handled after a reconnection, and when the frames' ids cannot be read (level 0, or an unknown encoding).
    """
    handled = _handled(context)
    sides: tuple[Side, ...] = ("client", "server")
    parts = [
        part
        for receiver in sides
        for client in context.clients
        for part in [_judge_handling(context, receiver, client, handled[receiver, client])]
        if part is not None
    ]
    return worst(settings.word, parts, nothing="no subject handled a message after a reconnection")


def _handled(context: Context) -> dict[tuple[Side, int], list[Event]]:
    """Return the messages that each subject handled, by the client that they are about."""
    found: dict[tuple[Side, int], list[Event]] = defaultdict(list)
    for event in context.trace.select("message"):
        client = client_of_message(event)
        if client is None and len(context.clients) == 1:
            client = 1
        if client is not None:
            found[event["subject"], client].append(event)
    return found


def _judge_handling(
    context: Context, receiver: Side, client: int, events: list[Event]
) -> Judgement | None:
    """Judge one subject's handling of one client's messages; None if it handled none after a reconnection."""
    opened = [c.open_s for c in context.of_client(client) if c.open_s is not None]
    if len(opened) < 2:
        return None
    if not any(event.at_s >= opened[1] for event in events):
        return None
    handled: Counter[int] = Counter(event["id"] for event in events)
    delivered: Counter[int] = Counter()
    for connection in context.of_client(client):
        for event in connection.events:
            if (
                event.kind == "frame"
                and event.get("id") is not None
                and event.delivered_to(receiver)
            ):
                delivered[event["id"]] += 1
    who = f"client {client}" if receiver == "client" else f"the server, for client {client},"
    if not delivered:
        reason = f"the link could not read the ids of the frames to {who}"
        return Judgement(outcome=Outcome.INCONCLUSIVE, reason=reason)
    extra = {
        number: count - delivered[number]
        for number, count in handled.items()
        if count > delivered[number]
    }
    measured = (("messages", len(handled)), ("handled_too_often", len(extra)))
    if not extra:
        reason = (
            f"{who} handled each of {len(handled)} messages no more often than it was delivered"
        )
        return Judgement(outcome=Outcome.PASS, reason=reason, measured=measured)
    number = next(iter(extra))
    times: dict[int, list[str]] = defaultdict(list)
    for event in events:
        times[event["id"]].append(seconds(event.at_s))
    reason = (
        f"{who} handled message {number} {handled[number]} times, delivered {delivered[number]} times "
        f"({len(extra)} such messages)"
    )
    evidence = tuple(f"id {row}: handled at {', '.join(times[row])}" for row in list(extra)[:5])
    return Judgement(
        outcome=Outcome.FAIL,
        reason=reason,
        badness=len(extra),
        evidence=evidence,
        measured=measured,
    )
