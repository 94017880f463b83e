"""This project's faults: what Toxiproxy cannot express, under new words, never old words with new meanings."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Literal, Self

from pydantic import Field, model_validator

from chaos.vocabulary.base import Duration, Parameters
from chaos.vocabulary.presets import PRESETS, CutAction

Support = Literal["exact", "approximate", "unsupported"]
Opcode = Literal["text", "binary", "continuation", "close", "ping", "pong"]


class Fault(Parameters):
    """A fault of the link. `instant` faults have no window; `directed` ones take a stream.

    `on_path` faults act below the link, on simulated hosts and the packets between them.
    """

    instant: ClassVar[bool] = False
    directed: ClassVar[bool] = False
    on_path: ClassVar[bool] = False


class Stall(Fault):
    """Hold every byte and the FIN, reading on up to 4 MiB; on removal all of it is delivered."""

    word: ClassVar[str] = "stall"
    directed: ClassVar[bool] = True


class Blackhole(Fault):
    """Discard everything, FIN and RST too; a connection that met it stays dead after it."""

    word: ClassVar[str] = "blackhole"
    directed: ClassVar[bool] = True


class Down(Fault):
    """Toxiproxy's `enabled: false`: close every connection with FIN and refuse new ones."""

    word: ClassVar[str] = "down"


class Reset(Fault):
    """Send an RST now, on live and idle connections."""

    word: ClassVar[str] = "reset"
    instant: ClassVar[bool] = True
    side: Literal["both", "client", "server"] = Field("both", description="which peers get the RST")


class Refuse(Fault):
    """Refuse new TCP connections (ECONNREFUSED); live ones go on."""

    word: ClassVar[str] = "refuse"


class SlowAccept(Fault):
    """Leave a new connection waiting for `delay` before anything of it is read or dialed."""

    word: ClassVar[str] = "slow_accept"
    delay_s: Duration = Field(alias="delay", description="wait before the connection is served")


class RejectUpgrade(Fault):
    """Answer each handshake with an HTTP status instead of 101; the server never sees it."""

    word: ClassVar[str] = "reject_upgrade"
    status: int = Field(403, ge=200, le=599, strict=True, description="HTTP status")
    reason: str = Field("", max_length=100, description="reason phrase; default the standard one")
    headers: Mapping[str, str] = Field(default_factory=dict, description="further response headers")
    body: str = Field("", max_length=65536, description="response body")
    retry_after_s: Duration | None = Field(
        None, alias="retry_after", description="sent as Retry-After, in whole seconds"
    )


class StripUpgrade(Fault):
    """Forward the handshake as a proxy that forgets the Upgrade headers; the server answers."""

    word: ClassVar[str] = "strip_upgrade"
    style: Literal["nginx", "http11", "upgrade_only"] = Field(
        "nginx",
        description="nginx: HTTP/1.0 and Connection: close; http11: HTTP/1.1 and Connection: close; "
        "upgrade_only: Upgrade kept, Connection: close",
    )


class _Middlebox(Fault):
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


class IdleTimeout(_Middlebox):
    """A middlebox that ends a connection on which nothing moved for `after`."""

    word: ClassVar[str] = "idle_timeout"
    counts: Literal["bytes", "frames", "data_frames"] = Field(
        "bytes", description="what keeps the flow alive; some balancers ignore ping and pong"
    )


class MaxLifetime(_Middlebox):
    """A middlebox that ends every connection `after` its start, however busy."""

    word: ClassVar[str] = "max_lifetime"


class DropFrames(Fault):
    """Drop WebSocket frames of these opcodes whole; data frames only without compression."""

    word: ClassVar[str] = "drop_frames"
    directed: ClassVar[bool] = True
    opcodes: tuple[Opcode, ...] = Field(("pong",), min_length=1, description="frames to drop")


class DelayFrames(Fault):
    """Delay WebSocket frames of these opcodes; frames behind them wait too."""

    word: ClassVar[str] = "delay_frames"
    directed: ClassVar[bool] = True
    opcodes: tuple[Opcode, ...] = Field(("pong",), min_length=1, description="frames to delay")
    delay_s: Duration = Field(alias="delay", description="delay of each such frame")


class _OnLeg(Fault):
    on_path: ClassVar[bool] = True
    leg: Literal["client", "server"] = Field(
        "client",
        description="client: between each client's host and the link; server: between the link and the server",
    )


class Partition(_OnLeg):
    """No packet passes on one leg; TCP sends them again after it."""

    word: ClassVar[str] = "partition"
    directed: ClassVar[bool] = True


class Loss(_OnLeg):
    """A share of the packets on one leg is lost: seen as retransmission delay."""

    word: ClassVar[str] = "loss"
    directed: ClassVar[bool] = True
    rate: float = Field(ge=0, le=1, description="share of packets that are lost")


class SynDrop(_OnLeg):
    """No SYN towards the server's end of one leg arrives; connections that are open go on."""

    word: ClassVar[str] = "syn_drop"


class HostCrash(Fault):
    """A host loses power, without FIN or RST; after the window its subject starts again, old connections get RST."""

    word: ClassVar[str] = "host_crash"
    on_path: ClassVar[bool] = True
    host: Literal["client", "server"] = Field("server", description="whose host")


class HostFreeze(Fault):
    """A host's programs stop; its kernel still accepts and acknowledges until its buffers are full."""

    word: ClassVar[str] = "host_freeze"
    on_path: ClassVar[bool] = True
    host: Literal["client", "server"] = Field("server", description="whose host")


class DnsFailure(Fault):
    """The client's host cannot resolve names, or only slowly; connections that are open go on."""

    word: ClassVar[str] = "dns_failure"
    on_path: ClassVar[bool] = True
    mode: Literal["nxdomain", "servfail", "slow"] = Field(
        "nxdomain", description="no such name, a failing name server, or an answer after `delay`"
    )
    delay_s: Duration = Field(0.0, alias="delay", description="wait before the answer or error")


FAULTS: Mapping[str, type[Fault]] = {
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

NETWORKS = ("embedded", "toxiproxy", "simulated")
_EXACT: tuple[Support, str] = ("exact", "")
_FRONT = "applied by the link in front of Toxiproxy"

# Which network applies which fault, how well, and why not exactly. Toxics are added below.
SUPPORT: dict[str, dict[str, tuple[Support, str]]] = {
    name: {"embedded": _EXACT, "toxiproxy": ("exact", _FRONT), "simulated": _EXACT}
    for name in FAULTS
}
SUPPORT["down"]["toxiproxy"] = ("exact", "Toxiproxy's own `enabled: false`")
SUPPORT["slow_accept"]["embedded"] = (
    "approximate",
    "the kernel completes the TCP handshake; only the answer waits",
)
SUPPORT["slow_accept"]["toxiproxy"] = SUPPORT["slow_accept"]["embedded"]
_NO_PATHS: tuple[Support, str] = ("unsupported", "acts below sockets: simulated TCP only")
# the scenario's `paths` are no fault, and supported just where path faults are
PATHS_SUPPORT: Mapping[str, tuple[Support, str]] = {
    "embedded": _NO_PATHS,
    "toxiproxy": _NO_PATHS,
    "simulated": _EXACT,
}
for _name in (name for name, kind in FAULTS.items() if kind.on_path):
    SUPPORT[_name] |= {"embedded": _NO_PATHS, "toxiproxy": _NO_PATHS}
SUPPORT["host_freeze"]["simulated"] = (
    "approximate",
    "the program's timers go on; what it does reaches the network after the window",
)
for _name in (
    "latency", "bandwidth", "slow_close", "timeout", "reset_peer", "slicer", "limit_data", "noop",
):  # fmt: skip
    SUPPORT[_name] = {"embedded": _EXACT, "toxiproxy": _EXACT, "simulated": _EXACT}
SUPPORT["latency"]["toxiproxy"] = (
    "approximate",
    "chained latencies do not add up under load; jitter cannot be seeded",
)
SUPPORT["bandwidth"]["toxiproxy"] = ("approximate", "9 % slow at 100 MB/s, exact below 10 MB/s")
SUPPORT["reset_peer"]["toxiproxy"] = (
    "approximate",
    "a connection older than the toxic gets FIN instead of RST",
)
SUPPORT["slicer"]["toxiproxy"] = ("approximate", "pieces depend on how reads coalesce")

__all__ = ["FAULTS", "NETWORKS", "PATHS_SUPPORT", "SUPPORT", "Fault", "Opcode", "Support"]
