"""Checks: what a scenario may expect. Each judges a trace; `needs` says which level of observation it takes.

Level 0 needs nothing of the subject, level 1 its reports (`chaos.report`), level 2 a callable in this process.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Literal

from pydantic import Field

from chaos.vocabulary.base import Duration, Parameters

Side = Literal["client", "server"]


class CheckSettings(Parameters):
    """Parameters of one expectation."""

    needs: ClassVar[int] = 0
    # whether it reads WebSocket frames: it says nothing of a connection whose frames could not be decoded
    frames: ClassVar[bool] = False
    # the parameters that name a timeline entry
    entries: ClassVar[tuple[str, ...]] = ()

    def streams(self) -> tuple[Literal["upstream", "downstream"], ...]:
        """Return the streams whose frames it reads."""
        return ("upstream", "downstream")


class _During(CheckSettings):
    entries: ClassVar[tuple[str, ...]] = ("during",)
    during: str | None = Field(None, description="name of a timeline entry with a window")


class _After(CheckSettings):
    entries: ClassVar[tuple[str, ...]] = ("after",)
    after: str | None = Field(None, description="name of a timeline entry")


class DetectsDeadPeer(_During):
    """The peer notices, within a bound, that the path is dead: it closes, reconnects or says so."""

    by: Side = Field("client", description="who must notice")
    within_s: Duration = Field(alias="within", description="from the recorded start of the entry")


class NoFalseAlarm(_During):
    """Neither peer gives up a connection that was alive, slow as it may be."""

    frames = True
    by: Literal["client", "server", "both"] = Field("both", description="whose faults count")


class Reconnects(_After):
    """Each client is connected again within a bound, and stays so: 101 delivered, frames and due messages passed."""

    frames = True
    within_s: Duration = Field(alias="within", description="from the end of the entry's window")
    stable_for_s: Duration = Field(
        1.0,
        alias="stable_for",
        description="how long the connection must then live, with a message each way in which one is due",
    )


class NeverReconnects(_After):
    """After a final refusal no client tries again, until the end of the scenario."""


class Backoff(_After):
    """Delays between attempts follow the stated schedule, seen at the link."""

    initial_s: Duration = Field(alias="initial", description="cap of the first delay")
    factor: float = Field(2.0, ge=1, le=10, description="growth of the cap per failed attempt")
    max_s: Duration = Field(alias="max", description="the cap never exceeds this")
    jitter: Literal["none", "full", "equal", "decorrelated"] = Field(
        "full", description="how a delay is drawn below its cap"
    )
    attempts_min: int = Field(
        3, ge=2, le=1000, strict=True, description="fewer delays than this cannot be judged"
    )


class Delivers(CheckSettings):
    """Workload messages that were sent are handled: counts of lost, duplicated and reordered ones."""

    frames = True
    needs: ClassVar[int] = 1
    sender: Literal["client", "server", "both"] = Field(
        "both", alias="from", description="whose messages"
    )
    sent_at_least: float = Field(
        0.8, ge=0, le=1, description="share of what the workload's rate made due that must be sent"
    )
    lost: int | None = Field(None, ge=0, strict=True, description="at most this many; unset: any")
    duplicated: int | None = Field(None, ge=0, strict=True, description="at most this many")
    reordered: int | None = Field(None, ge=0, strict=True, description="at most this many")


class NoLeaks(CheckSettings):
    """Nothing of an old connection stays: tasks, sockets, memory channels, connection objects."""

    needs: ClassVar[int] = 2
    by: Literal["client", "server", "both"] = Field("both", description="whose belongings")
    cycles: int | None = Field(
        None,
        ge=5,
        le=1000,
        strict=True,
        description="expect this many reconnect cycles at least, so that growth with each is judged; unset: what is "
        "left at the end, and growth from 5 cycles on",
    )


class SingleConnection(CheckSettings):
    """A client never has more than one connection alive: the old one is gone before the next opens."""

    grace_s: Duration = Field(
        0.5, alias="grace", description="how long an old connection may outlive the new one's open"
    )


class SingleHandler(CheckSettings):
    """Each delivered message is handled once: no handler of an old connection is left bound."""

    frames = True
    needs: ClassVar[int] = 1


class CloseCode(_After):
    """A peer closes with one of these codes."""

    frames = True
    by: Side = Field("client", description="who sends the Close frame")
    code: tuple[int, ...] | int = Field(description="the expected code or codes")

    def streams(self) -> tuple[Literal["upstream", "downstream"], ...]:
        return ("upstream",) if self.by == "client" else ("downstream",)


class Handshake(_After):
    """Conduct after a refused handshake: how many attempts, and Retry-After honoured."""

    status: int | None = Field(
        None, ge=100, le=599, strict=True, description="the status that must have been seen"
    )
    attempts_max: int | None = Field(
        None, ge=0, strict=True, description="attempts allowed after the first refusal"
    )
    retry_after: bool = Field(
        False, strict=True, description="no attempt before the Retry-After of a refusal has passed"
    )


class NeverSendsBeforeOpen(CheckSettings):
    """A client sends nothing between its handshake request and the 101."""


class Herd(_After):
    """Many clients do not come back all at once."""

    peak_per_s: float | None = Field(None, gt=0, description="most attempts in any one second")
    spread_s: Duration | None = Field(
        None, alias="spread", description="between the 5th and 95th percentile of first attempts"
    )


class Availability(CheckSettings):
    """Share of the scenario in which each client had a usable connection."""

    frames = True
    at_least: float = Field(ge=0, le=1, description="0.95 is 95 %")


class Cost(CheckSettings):
    """What the heartbeat costs, extrapolated to an hour of an idle connection."""

    frames = True
    bytes_per_hour_max: int | None = Field(
        None, ge=1, strict=True, description="ping and pong frames with headers, both ways"
    )
    wakeups_per_hour_max: int | None = Field(
        None, ge=1, strict=True, description="heartbeat frames that wake the client"
    )


CHECKS: Mapping[str, type[CheckSettings]] = {
    kind.word: kind
    for kind in (
        DetectsDeadPeer,
        NoFalseAlarm,
        Reconnects,
        NeverReconnects,
        Backoff,
        Delivers,
        NoLeaks,
        SingleConnection,
        SingleHandler,
        CloseCode,
        Handshake,
        NeverSendsBeforeOpen,
        Herd,
        Availability,
        Cost,
    )
}
