"""What the runner waits for, seen in literal events."""

from __future__ import annotations

from typing import Any, ClassVar

from chaos.running.watch import CycleWatch, SteadyWatch, StormWatch, TriggerWatch, Watches
from chaos.scenario.model import Scenario, Storm, Trigger
from chaos.scenario.plan import Triggered
from chaos.trace import Event


def event(kind: str, at_s: float = 0.0, client: int = 1, stream: Any = None, **data: Any) -> Event:
    return Event(at_s=at_s, kind=kind, client=client, connection=1, stream=stream, data=data)


def steady(clients: int, *senders: str) -> tuple[SteadyWatch, list[bool]]:
    told: list[bool] = []
    watch = SteadyWatch(
        Scenario.model_validate(
            {
                "version": 1,
                "name": "x",
                "duration": "9s",
                "client": {"use": "reference", "count": clients},
                "workload": [{"from": sender, "every": "1s"} for sender in senders],
            }
        ),
        lambda: told.append(watch.reached),
    )
    return watch, told


async def test_steady_takes_every_client_open_and_a_message_each_declared_way() -> None:
    watch, told = steady(2, "server", "client")
    for number in (1, 2):
        assert not watch.reached
        watch.see(event("open", client=number))
        watch.see(
            event("frame", client=number, stream="downstream", side="client", opcode="text", id=1)
        )
        watch.see(
            event("frame", client=number, stream="upstream", side="client", opcode="text", id=1)
        )
        assert not watch.reached
        assert not told
        watch.see(
            event("frame", client=number, stream="upstream", side="server", opcode="text", id=1)
        )
    assert told == [True]


async def test_without_a_workload_open_connections_are_enough() -> None:
    watch, told = steady(1)
    watch.see(event("open"))
    watch.see(event("open"))
    assert told == [True]


async def test_any_close_starts_the_quiet_second_anew() -> None:
    watch, _ = steady(1)
    for at_s, what in (
        (1.0, event("fin", 1.0, side="client")),
        (2.0, event("frame", 2.0, side="client", opcode="close")),
        (3.0, event("refused", 3.0)),
    ):
        watch.see(what)
        assert watch.quiet_since_s == at_s
    watch.see(event("note", 9.0))
    assert watch.quiet_since_s == 3.0


def test_each_watch_is_shown_the_kinds_that_it_wants_while_it_is_there() -> None:
    class Kept:
        KINDS: ClassVar = frozenset(("open", "fin"))

        def __init__(self) -> None:
            self.seen: list[str] = []

        def see(self, event: Event) -> None:
            self.seen.append(event.kind)

    first, second = Kept(), Kept()
    watches = Watches(first)
    watches.add(second)
    for kind in ("open", "frame"):
        watches.see(event(kind))
    watches.remove(first)
    watches.see(event("fin"))
    assert first.seen == ["open"]
    assert second.seen == ["open", "fin"]


def test_triggers_fire_once_at_the_nth_event_over_all_clients() -> None:
    fired: list[str] = []
    rows = tuple(
        Triggered(
            trigger=Trigger.model_validate({"event": kind, "number": 2}), then_s=0.0, steps=()
        )
        for kind in ("open", "ping", "message", "attempt")
    )
    watch = TriggerWatch(rows, lambda row: fired.append(row.trigger.event))
    for client in (1, 2, 3):
        watch.see(event("attempt", client=client))
        watch.see(event("open", client=client))
        # one ping is seen at both sides of the link, and counted where it was sent
        watch.see(event("frame", client=client, stream="upstream", side="client", opcode="ping"))
        watch.see(event("frame", client=client, stream="upstream", side="server", opcode="ping"))
        watch.see(event("frame", client=client, stream="downstream", side="server", opcode="text"))
        watch.see(event("frame", client=client, stream="downstream", side="client", opcode="text"))
    assert fired == ["attempt", "open", "ping", "message"]


async def test_a_cycle_is_over_when_each_client_has_come_back() -> None:
    told: list[int] = []
    watch = CycleWatch(clients=2, told=told.append)
    for client, cycles in ((1, 0), (2, 0), (1, 0), (1, 0), (2, 1), (2, 2)):
        watch.see(event("open", client=client))
        assert watch.cycles == cycles
    assert told == [1, 2]


async def test_an_attempt_that_opens_after_the_client_gave_it_up_is_no_cycle() -> None:
    for stream, cycles in (("upstream", 0), ("downstream", 1)):
        watch = CycleWatch(1, lambda _: None)
        for kind, number in (("open", 1), ("fin", 2), ("open", 2)):
            watch.see(
                Event(
                    at_s=0.0,
                    kind=kind,
                    client=1,
                    connection=number,
                    stream=stream if kind == "fin" else None,  # type: ignore[arg-type]
                )
            )
        assert watch.cycles == cycles


def storms_of(
    *events: tuple[float, str, int], per_second_max: int = 3, per_outage_max: int = 5
) -> Any:
    told: list[tuple[int, int, float]] = []
    limits = Storm(per_second_max=per_second_max, per_outage_max=per_outage_max)
    watch = StormWatch(limits, lambda *row: told.append(row))
    for at_s, kind, client in events:
        watch.see(Event(at_s=at_s, kind=kind, client=client))
    return told


def test_a_storm_is_too_many_attempts_of_one_client_in_a_second_or_an_outage() -> None:
    assert not storms_of(*((number / 3, "attempt", 1) for number in range(5)))
    assert storms_of(*((number / 10, "attempt", 1) for number in range(9))) == [(1, 4, 0.3)]
    assert storms_of(*((number / 1.0, "attempt", 1) for number in range(9))) == [(1, 6, 5.0)]
    assert not storms_of(*((number / 10, "attempt", number) for number in range(9)))


def test_a_connection_that_opens_ends_the_outage_and_not_the_second() -> None:
    rows = [(float(number), kind, 1) for number in range(9) for kind in ("attempt", "open")]
    assert not storms_of(*rows)
    rows = [(number / 10, kind, 1) for number in range(9) for kind in ("attempt", "open")]
    assert storms_of(*rows) == [(1, 4, 0.3)]
