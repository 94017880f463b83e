"""This project's faults: what Toxiproxy cannot express, under new words, never old words with new meanings."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, Self

from pydantic import Field, model_validator

from chaos.vocabulary.base import Duration
from chaos.vocabulary.presets import PRESETS, CutAction
from chaos.vocabulary.word import (
    EITHER_WAY,
    EVERYWHERE,
    ON_PATHS,
    Draw,
    How,
    Peer,
    Streams,
    Word,
    except_on,
)

Opcode = Literal["text", "binary", "continuation", "close", "ping", "pong"]


_ONLY_THE_ANSWER: How = (
    "approximate",
    "the kernel completes the TCP handshake; only the answer waits",
)


class Fault(Word):
    """A fault of this project's own, applied by the link."""

    kind = "fault"
    served = True
    support = except_on(
        EVERYWHERE, toxiproxy=("exact", "applied by the link in front of Toxiproxy")
    )


class PathFault(Fault):
    """A fault below the link, on simulated hosts and the packets between them."""

    on_path = True
    served = False
    support = ON_PATHS


def retry_s(retry_after_s: float | None) -> float:
    """Return for how long a correct client that was told to wait may stay away: it spreads its return."""
    return 0.0 if retry_after_s is None else 1.2 * retry_after_s + 1


class Stall(Fault):
    """Hold every byte and the FIN, reading on up to 4 MiB; on removal all of it is delivered."""

    directed = exclusive = silent = shrinkable = True
    draws = (Draw(rank=60, streams=EITHER_WAY, shared=True),)

    def witnesses(self) -> tuple[Peer, ...]:
        return ("client", "server")


class Blackhole(Fault):
    """Discard everything, FIN and RST too; a connection that met it stays dead after it."""

    directed = exclusive = silent = lasting = swallows = shrinkable = True
    draws = (Draw(rank=50, streams=EITHER_WAY, silent=True, shared=True, weight=6),)

    def witnesses(self) -> tuple[Peer, ...]:
        return ("client", "server")


class Down(Fault):
    """Toxiproxy's `enabled: false`: close every connection with FIN and refuse new ones."""

    exclusive = deadly = refuses = True
    served = False  # it is the API's own `enabled: false`
    support = except_on(EVERYWHERE, toxiproxy=("exact", "Toxiproxy's own `enabled: false`"))
    draws = (Draw(rank=20),)


class Reset(Fault):
    """Send an RST now, on live and idle connections."""

    instant = deadly = True
    draws = (Draw(rank=0, strengths=({}, {"side": "client"}, {"side": "server"}), weight=6),)
    side: Literal["both", "client", "server"] = Field("both", description="which peers get the RST")


class Refuse(Fault):
    """Refuse new TCP connections (ECONNREFUSED); live ones go on."""

    exclusive = refuses = True
    draws = (Draw(rank=30, greets=True),)


class SlowAccept(Fault):
    """Leave a new connection waiting for `delay` before anything of it is read or dialed."""

    support = except_on(EVERYWHERE, embedded=_ONLY_THE_ANSWER, toxiproxy=_ONLY_THE_ANSWER)
    draws = (
        Draw(
            rank=80, strengths=({"delay": "500ms"}, {"delay": "2s"}, {"delay": "20s"}), greets=True
        ),
    )
    delay_s: Duration = Field(alias="delay", description="wait before the connection is served")

    def added_s(self, window_s: float) -> float:
        return self.delay_s


class RejectUpgrade(Fault):
    """Answer each handshake with an HTTP status instead of 101; the server never sees it."""

    draws = (
        Draw(
            rank=40,
            strengths=(
                {"status": 503},
                {"status": 502},
                {"status": 500},
                {"status": 503, "retry_after": "2s"},
                {"status": 429, "retry_after": "5s"},
            ),
            greets=True,
        ),
    )
    status: int = Field(403, ge=200, le=599, strict=True, description="HTTP status")
    reason: str = Field("", max_length=100, description="reason phrase; default the standard one")
    headers: Mapping[str, str] = Field(default_factory=dict, description="further response headers")
    body: str = Field("", max_length=65536, description="response body")
    retry_after_s: Duration | None = Field(
        None, alias="retry_after", description="sent as Retry-After, in whole seconds"
    )

    def added_s(self, window_s: float) -> float:
        return retry_s(self.retry_after_s)


class StripUpgrade(Fault):
    """Forward the handshake as a proxy that forgets the Upgrade headers; the server answers."""

    draws = (
        Draw(
            rank=320,
            strengths=({}, {"style": "http11"}, {"style": "upgrade_only"}),
            final=True,
            greets=True,
            weight=2,
        ),
    )
    style: Literal["nginx", "http11", "upgrade_only"] = Field(
        "nginx",
        description="nginx: HTTP/1.0 and Connection: close; http11: HTTP/1.1 and Connection: close; "
        "upgrade_only: Upgrade kept, Connection: close",
    )


_CUTS = (
    {"after": "10s", "action": "fin"},
    {"after": "3s", "action": "fin"},
    {"after": "3s", "action": "rst"},
    {"after": "1s", "action": "rst"},
    {"after": "3s", "action": "drop"},
    {"after": "1s", "action": "drop_then_rst"},
    {"after": "500ms", "action": "drop"},
)


class _Middlebox(Fault):
    deadly = lasting = True
    after_s: Duration | None = Field(None, alias="after", description="the middlebox's limit")
    action: CutAction | None = Field(
        None,
        description="fin, rst, drop (forget silently) or drop_then_rst (RST to the next sender)",
    )
    preset: str | None = Field(None, description="a name from `trio-chaos list presets`")

    @model_validator(mode="after")
    def _needs_a_limit(self) -> Self:
        preset = PRESETS.get(self.preset) if self.preset else None
        if self.preset is not None and (preset is None or preset.fault != self.word):
            fitting = [name for name, row in PRESETS.items() if row.fault == self.word]
            raise ValueError(
                f"unknown preset {self.preset!r}, expected one of {', '.join(fitting)}"
            )
        if self.after_s is None and preset is None:
            raise ValueError("expected `after` or `preset`")
        return self

    def limit_s(self) -> float:
        """Return the limit in seconds, from `after` or else from the preset."""
        if self.after_s is not None:
            return self.after_s
        assert self.preset is not None
        return PRESETS[self.preset].after_s

    def cut(self) -> CutAction:
        """Return what happens at the limit, from `action` or else from the preset."""
        if self.action is not None:
            return self.action
        return PRESETS[self.preset].action if self.preset else "fin"

    def added_s(self, window_s: float) -> float:
        return self.after_s or 0.0


class IdleTimeout(_Middlebox):
    """A middlebox that ends a connection on which nothing moved for `after`."""

    draws = (Draw(rank=170, strengths=_CUTS),)
    counts: Literal["bytes", "frames", "data_frames"] = Field(
        "bytes", description="what keeps the flow alive; some balancers ignore ping and pong"
    )


class MaxLifetime(_Middlebox):
    """A middlebox that ends every connection `after` its start, however busy."""

    draws = (Draw(rank=180, strengths=_CUTS),)


class DropFrames(Fault):
    """Drop WebSocket messages and control frames of these opcodes whole; messages only without compression.

    All fragments of a message go with its first; the control frames between them do not. A message of more than
    4 MiB passes.
    """

    directed = deadly = True
    draws = (
        Draw(
            rank=90,
            streams=EITHER_WAY,
            strengths=({"opcodes": ["pong"]}, {"opcodes": ["ping"]}, {"opcodes": ["ping", "pong"]}),
            silent=True,
        ),
    )
    opcodes: tuple[Opcode, ...] = Field(
        ("pong",), min_length=1, description="what to drop; continuation: messages in fragments"
    )


class DelayFrames(Fault):
    """Delay WebSocket frames of these opcodes, all fragments of a message; frames behind them wait too."""

    directed = shrinkable = True
    draws = (
        Draw(
            rank=100,
            streams=EITHER_WAY,
            strengths=(
                {"opcodes": ["pong"], "delay": "500ms"},
                {"opcodes": ["pong"], "delay": "2s"},
                {"opcodes": ["ping"], "delay": "2s"},
                {"opcodes": ["text"], "delay": "1s"},
                {"opcodes": ["pong"], "delay": "10s"},
            ),
            chokes=True,
        ),
    )
    opcodes: tuple[Opcode, ...] = Field(
        ("pong",), min_length=1, description="what to delay; continuation: messages in fragments"
    )
    delay_s: Duration = Field(alias="delay", description="delay of each such frame")

    def answer_delay_s(self, stream: Streams) -> float:
        return self.delay_s

    def added_s(self, window_s: float) -> float:
        return self.delay_s


class _OnLeg(PathFault):
    leg: Literal["client", "server"] = Field(
        "client",
        description="client: between each client's host and the link; server: between the link and the server",
    )

    def hides_client(self) -> bool:
        return self.leg == "client"

    def hides_server(self) -> bool:
        return self.leg == "server"

    def shared(self, by: Peer | None) -> str | None:
        return "the path from the link to the server" if self.leg == "server" else None


class Partition(_OnLeg):
    """No packet passes on one leg; TCP sends them again after it."""

    directed = exclusive = silent = resent = shrinkable = True
    draws = (Draw(rank=290, streams=EITHER_WAY, silent=True, chokes=True, weight=3),)


class Loss(_OnLeg):
    """A share of the packets on one leg is lost: seen as retransmission delay."""

    directed = deadly = resent = True
    draws = (
        Draw(
            rank=280,
            streams=EITHER_WAY,
            strengths=({"rate": 0.1}, {"rate": 0.3}, {"rate": 0.6}),
            silent=True,
            chokes=True,
            weight=2,
        ),
    )
    rate: float = Field(ge=0, le=1, description="share of packets that are lost")

    def silences(self) -> bool:
        return self.rate >= 1


class SynDrop(_OnLeg):
    """No SYN towards the server's end of one leg arrives; connections that are open go on."""

    exclusive = True
    draws = (Draw(rank=260, greets=True, weight=3),)


class _OnHost(PathFault):
    exclusive = silent = True
    host: Literal["client", "server"] = Field("server", description="whose host")

    def hides_client(self) -> bool:
        return self.host == "client"

    def witnesses(self) -> tuple[Peer, ...]:
        return ("client",) if self.host == "server" else ()

    def shared(self, by: Peer | None) -> str | None:
        return "the server's host" if self.host == "server" else None


_HOSTS = ({"host": "server"}, {"host": "client"})


class HostCrash(_OnHost):
    """A host loses power, without FIN or RST; after the window its subject starts again, old connections get RST."""

    lasting = True
    draws = (Draw(rank=310, strengths=_HOSTS, silent=True, weight=3),)

    def hides_server(self) -> bool:
        return True

    def starts_anew(self, by: Peer | None) -> Peer | None:
        return self.host


class HostFreeze(_OnHost):
    """A host's programs stop; its kernel still accepts and acknowledges until its buffers are full."""

    resent = True
    support = except_on(
        ON_PATHS,
        simulated=(
            "approximate",
            "the program's timers go on; what it does reaches the network after the window",
        ),
    )
    draws = (Draw(rank=300, strengths=_HOSTS, silent=True, chokes=True, weight=3),)


class DnsFailure(PathFault):
    """The client's host cannot resolve names, or only slowly; connections that are open go on."""

    draws = (
        Draw(
            rank=270,
            strengths=(
                {"mode": "nxdomain"},
                {"mode": "servfail"},
                {"mode": "slow", "delay": "1s"},
                {"mode": "slow", "delay": "10s"},
            ),
            greets=True,
            weight=6,
        ),
    )
    mode: Literal["nxdomain", "servfail", "slow"] = Field(
        "nxdomain", description="no such name, a failing name server, or an answer after `delay`"
    )
    delay_s: Duration = Field(0.0, alias="delay", description="wait before the answer or error")

    def added_s(self, window_s: float) -> float:
        return self.delay_s

    def hides_client(self) -> bool:
        # a name that fails is recorded as an attempt; one that is slow may be given up unseen
        return self.mode == "slow"


FAULTS: dict[str, type[Fault]] = {
    kind.word: kind
    for kind in (
        Stall,
        Blackhole,
        Down,
        Reset,
        Refuse,
        SlowAccept,
        RejectUpgrade,
        StripUpgrade,
        IdleTimeout,
        MaxLifetime,
        DropFrames,
        DelayFrames,
        Partition,
        Loss,
        SynDrop,
        HostCrash,
        HostFreeze,
        DnsFailure,
    )
}
