"""A builder of literal traces: what the link would have recorded, one call per thing that happened."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import pytest
from support.figures import figures

from chaos.checks.judge import judge
from chaos.checks.verdict import Finding, Outcome, Verdict
from chaos.scenario.model import Scenario
from chaos.trace import Event, Header, Trace

BEAT = {"interval": "5s", "timeout": "3s"}


class Story:
    """Collects events in any order; `trace()` sorts them by time, keeping the order of ties."""

    def __init__(self, network: str = "simulated", **scenario: Any) -> None:
        rows = {"version": 1, "name": "story", "duration": "120s", **scenario}
        rows.setdefault("client", {"use": "reference", "heartbeat": BEAT})
        rows.setdefault("server", {"use": "reference", "heartbeat": BEAT})
        self.scenario = Scenario.model_validate(rows)
        self.network = network
        self.events: list[Event] = []
        self.add(0.0, "start")

    def add(
        self,
        at_s: float,
        kind: str,
        *,
        client: int | None = None,
        connection: int | None = None,
        stream: str | None = None,
        **data: Any,
    ) -> Story:
        self.events.append(
            Event(
                at_s=at_s, kind=kind, client=client, connection=connection, stream=stream, data=data
            )  # type: ignore[arg-type]
        )
        return self

    def connect(
        self, at_s: float, number: int = 1, *, client: int = 1, frame: bool = True
    ) -> Story:
        """An attempt that is open at once, and a data frame from the server 10 ms later."""
        self.add(at_s, "attempt", client=client, connection=number, port=40000 + number)
        self.add(
            at_s, "request", client=client, connection=number, stream="upstream", side="client"
        )
        self.add(at_s, "open", client=client, connection=number)
        if frame:
            self.frame(at_s + 0.01, number, client=client)
        return self

    def refused(self, at_s: float, number: int, *, client: int = 1) -> Story:
        """An attempt that is answered with an RST at once."""
        self.add(at_s, "attempt", client=client, connection=number, port=1)
        self.add(at_s, "dial_failed", client=client, connection=number, error="refused")
        self.end(at_s, "rst", number, "client", by="server", client=client)
        return self.add(at_s, "closed", client=client, connection=number)

    def rejected(
        self, at_s: float, number: int, status: int, *, client: int = 1, **data: Any
    ) -> Story:
        """An attempt that is answered with an HTTP status."""
        self.add(at_s, "attempt", client=client, connection=number, port=1)
        self.add(
            at_s,
            "response",
            client=client,
            connection=number,
            stream="downstream",
            side="client",
            status=status,
            **data,
        )
        self.end(at_s, "fin", number, "client", client=client)
        return self.add(at_s, "closed", client=client, connection=number)

    def frame(
        self,
        at_s: float,
        number: int = 1,
        *,
        by: str = "server",
        sides: tuple[str, ...] = (),
        opcode: str = "text",
        client: int = 1,
        **data: Any,
    ) -> Story:
        """A frame seen at both sides of the link, its sender's first (or at those given)."""
        stream = "downstream" if by == "server" else "upstream"
        other = "client" if by == "server" else "server"
        for side in sides or (by, other):
            self.add(
                at_s,
                "frame",
                client=client,
                connection=number,
                stream=stream,
                side=side,
                opcode=opcode,
                **{"bytes": 64, **data},
            )
        return self

    def close(
        self, at_s: float, number: int = 1, *, by: str = "server", code: int = 1000, **data: Any
    ) -> Story:
        """A Close frame of a peer, delivered."""
        return self.frame(at_s, number, by=by, opcode="close", code=code, **data)

    def end(
        self,
        at_s: float,
        kind: str,
        number: int,
        side: str,
        *,
        by: str | None = None,
        client: int = 1,
    ) -> Story:
        """A FIN or RST at one side, sent by that side, or by the other one."""
        stream = "upstream" if (by or side) == "client" else "downstream"
        return self.add(at_s, kind, client=client, connection=number, stream=stream, side=side)

    def apply(self, at_s: float, entry: int = 0, change: str = "on", **data: Any) -> Story:
        row = self.scenario.timeline[entry]
        return self.add(
            at_s, "apply", entry=entry, name=row.name, what=row.word, change=change, **data
        )

    def felt(self, at_s: float, entry: int = 0, number: int = 1, *, client: int = 1) -> Story:
        row = self.scenario.timeline[entry]
        return self.add(
            at_s,
            "felt",
            client=client,
            connection=number,
            entry=entry,
            name=row.name,
            how="held 6 bytes",
        )

    def steady(self, at_s: float = 2.0) -> Story:
        return self.add(at_s, "steady")

    def trace(self, end_s: float | None = None, *, ended: bool = True) -> Trace:
        until_s = self.scenario.duration_s if end_s is None else end_s
        events = sorted(self.events, key=lambda event: event.at_s)
        if ended:
            before = [e for e in events if e.at_s <= until_s]
            after = [e for e in events if e.at_s > until_s]
            events = [*before, Event(at_s=until_s, kind="end"), *after]
        header = Header(scenario=self.scenario.to_json(), network=self.network, seed=1)
        return Trace(header, tuple(events))

    def verdict(self, **options: Any) -> Verdict:
        return judge(self.trace(), **options)

    def finding(self, check: str, **options: Any) -> Finding:
        """Return the only finding of a check."""
        found = [f for f in self.verdict(**options).findings if f.check == check]
        assert len(found) == 1, found
        return found[0]

    def result(self, check: str) -> tuple[str | float, ...]:
        """Return the outcome of a check's only finding, and the numbers of its reason."""
        return figures(self.finding(check))


@pytest.fixture
def story() -> Callable[..., Story]:
    return Story


def entry(word: str, kind: str = "fault", **data: Any) -> Mapping[str, Any]:
    return {"kind": kind, "word": word, **data}


@pytest.fixture(name="entry")
def entry_fixture() -> Callable[..., Mapping[str, Any]]:
    return entry


@pytest.fixture
def expect() -> Callable[..., Mapping[str, Any]]:
    return lambda check, **parameters: {"check": check, "parameters": parameters, "line": 7}


__all__ = ["Outcome", "Story"]
