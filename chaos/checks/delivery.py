"""`delivers` and `single_handler`: what became of the workload's messages."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from chaos.checks.context import Context, Scope, seconds
from chaos.checks.verdict import Judgement, Outcome, failed, passed, undecided, worst
from chaos.trace import Event, Side
from chaos.vocabulary.checks import Delivers, SingleHandler

_OTHER: Mapping[Side, Side] = {"client": "server", "server": "client"}
_SIDES: tuple[Side, ...] = ("client", "server")


def client_of_message(context: Context, event: Event) -> int | None:
    """Return which client a `message` or `send` event is about, as the receiver or the sender.

    An event that does not say so is about the only client, if there is only one.
    """
    sender = str(event.get("sender", ""))
    client = event.client
    if event.kind == "send":
        client = event.get("to", client)
    elif sender.startswith("client-") and sender[7:].isdigit():
        client = int(sender[7:])
    if event.get("subject") == "client":
        client = event.client
    if client is None:
        return 1 if len(context.clients) == 1 else None
    return int(client)


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
class Losses:
    """What a flow lost, handled more than once, and handled late, each as (id, time of its sending or handling).

    `required` is how many messages had to be handled.
    """

    required: int
    lost: list[tuple[int, float]]
    duplicated: list[tuple[int, float]]
    reordered: list[tuple[int, float]]


def delivers(context: Context, settings: Delivers, _scope: Scope) -> Judgement:
    """Judge, per sender and client, that what was sent was handled by the other subject.

    A message is required when it was sent at or before `duration` less `settle`; it may be handled until the end.
    Lost: required and never handled. Duplicated: each handling of an id after its first. Reordered: a first handling
    of an id below one that was handled before. Sent is what the sender reported (`send`), or, of a sender that does
    not report, the frames that entered the link. INCONCLUSIVE when nothing was sent, or the receiver reports nothing.
    """
    senders = _SIDES if settings.sender == "both" else (settings.sender,)
    flows = [flow for sender in senders for flow in read_flows(context, sender)]
    parts = (_judge_flow(context, settings, flow) for flow in flows if flow.sent)
    return worst(parts, nothing="no workload message was sent")


def read_flows(context: Context, sender: Side) -> list[Flow]:
    """Return the messages of one sender, per client."""
    flows = {client: Flow(sender, client) for client in context.clients}
    for event, client in _sent_events(context, sender):
        if client in flows and isinstance(event.get("id"), int):
            flows[client].sent.append((event["id"], event.at_s))
    for event in context.trace.select("message", subject=_OTHER[sender]):
        client = client_of_message(context, event)
        if client in flows and isinstance(event.get("id"), int):
            flows[client].handled.append((event["id"], event.at_s))
    starts = context.trace.select("subject_start", subject=sender)
    for flow in flows.values():
        flow.restarts = [
            event.at_s
            for event in starts
            if sender == "server" or event.client in (None, flow.client)
        ][1:]
    return list(flows.values())


def _sent_events(context: Context, sender: Side) -> Iterator[tuple[Event, int | None]]:
    reported = context.trace.select("send", subject=sender)
    for event in reported:
        yield event, client_of_message(context, event)
    for event in context.trace.select("frame") if not reported else ():
        if event.sent_by(sender) and event.get("id") is not None:
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


def _judge_flow(context: Context, settings: Delivers, flow: Flow) -> Judgement:
    server, receiver = flow.sender == "server", _OTHER[flow.sender]
    way = f"server to client {flow.client}" if server else f"client {flow.client} to server"
    settle_s = context.scenario.settle_s
    losses = losses_of(flow, context.end_s - settle_s)
    if not flow.handled and not _reports_messages(context, receiver):
        return undecided(f"the {receiver} does not report the messages it handled (level 1)")
    if losses.required == 0:
        return undecided(f"{way}: nothing was sent before the last {settle_s:g} s")
    counts = {
        "lost": (losses.lost, settings.lost),
        "duplicated": (losses.duplicated, settings.duplicated),
        "reordered": (losses.reordered, settings.reordered),
    }
    numbers = {name: len(rows) for name, (rows, _) in counts.items()}
    limits = {name: limit for name, (_, limit) in counts.items() if limit is not None}
    over = [name for name, limit in limits.items() if numbers[name] > limit]
    reason = f"{way}: {_listed(numbers)} of {losses.required}"
    return Judgement(
        Outcome.FAIL if over else Outcome.PASS,
        f"{reason} (expected at most {_listed(limits)})" if limits else reason,
        badness=sum(numbers.values()),
        evidence=tuple(f"{name}: {_sample(counts[name][0])}" for name in over),
        measured={"flow": way, "sent": losses.required, **numbers},
    )


def _listed(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{count} {name}" for name, count in counts.items())


def _reports_messages(context: Context, receiver: Side) -> bool:
    """Tell whether this subject reports at all: it did once, or it is the reference, which always does."""
    reported = context.trace.select("message", subject=receiver)
    return context.subject(receiver).use == "reference" or bool(reported)


def _sample(rows: list[tuple[int, float]]) -> str:
    shown = ", ".join(f"id {number} at {seconds(at_s)}" for number, at_s in rows[:5])
    return f"{shown} and {len(rows) - 5} more" if len(rows) > 5 else shown


def single_handler(context: Context, _settings: SingleHandler, _scope: Scope) -> Judgement:
    """Judge that no message was handled more often than it was delivered on the wire.

    For each id of each client, at the side of the subject: handled times must not exceed delivered frames; anything
    more is a handler of an old connection left bound. INCONCLUSIVE when no client reconnected, when nothing was
    handled after a reconnection, and when the frames' ids cannot be read (level 0, or an unknown encoding).
    """
    handled: dict[tuple[Side, int | None], list[Event]] = defaultdict(list)
    for event in context.trace.select("message"):
        handled[event["subject"], client_of_message(context, event)].append(event)
    parts = (
        _judge_handling(context, receiver, client, handled[receiver, client])
        for receiver in _SIDES
        for client in context.clients
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
    delivered: Counter[int] = Counter(
        event["id"]
        for connection in context.of_client(client)
        for event in connection.events
        if event.kind == "frame" and event.get("id") is not None and event.delivered_to(receiver)
    )
    who = f"client {client}" if receiver == "client" else f"the server, for client {client},"
    if not delivered:
        return undecided(f"the link could not read the ids of the frames to {who}")
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
