"""The kinds of entries that a hunt draws from, with their parameters: both from weak to strong.

The order is what shrinking goes by: an entry of an earlier kind, or with an earlier row of parameters, says more
about a bug than a later one that does the same.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from chaos.scenario.model import Entry
from chaos.vocabulary.actions import ACTIONS
from chaos.vocabulary.base import parse_duration
from chaos.vocabulary.faults import FAULTS

Row = Mapping[str, Any]
_MIB = 1_048_576


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """One word of the vocabulary as hunts use it.

    `silent`: only a heartbeat can notice what it does. `chokes`: it slows a path by an amount that depends on the
    traffic. `shared`: it can apply to a share of the connections (`toxicity`). `final`: a correct client may take it
    for a final refusal. `greets`: it meets connections that begin in its window, and no other. `weight` is how often
    it is drawn.
    """

    kind: Literal["toxic", "fault", "action"]
    word: str
    strengths: tuple[Row, ...] = ({},)
    streams: tuple[str, ...] = ("both",)
    by: Literal["client", "server"] | None = None
    silent: bool = False
    chokes: bool = False
    shared: bool = False
    final: bool = False
    greets: bool = False
    weight: int = 4

    @property
    def instant(self) -> bool:
        """Whether it acts at one moment."""
        if self.kind == "action":
            return ACTIONS[self.word].instant
        return self.kind == "fault" and FAULTS[self.word].instant

    @property
    def by_runner(self) -> bool:
        """Whether the run does it to any subject."""
        return self.kind == "action" and ACTIONS[self.word].by_runner

    @property
    def rank(self) -> int:
        """Its place among all kinds."""
        return KINDS.index(self)

    def strength(self, entry: Entry) -> int:
        """Return the place of an entry's parameters among those of its kind; beyond the last if it has others."""
        rows = [dict(row) for row in self.strengths]
        return rows.index(dict(entry.parameters)) if dict(entry.parameters) in rows else len(rows)


_EACH_WAY = ("downstream", "upstream", "both")
_EITHER_WAY = ("both", "downstream", "upstream")
_HOSTS: tuple[Row, ...] = ({"host": "server"}, {"host": "client"})
# Shares of connections, the surest first: with less than 1, luck decides which of them meet the fault.
SHARES = (1.0, 0.5, 0.25)
_CUTS: tuple[Row, ...] = (
    {"after": "10s", "action": "fin"},
    {"after": "3s", "action": "fin"},
    {"after": "3s", "action": "rst"},
    {"after": "1s", "action": "rst"},
    {"after": "3s", "action": "drop"},
    {"after": "1s", "action": "drop_then_rst"},
    {"after": "500ms", "action": "drop"},
)

KINDS: tuple[Kind, ...] = (
    Kind(
        kind="fault", word="reset", strengths=({}, {"side": "client"}, {"side": "server"}), weight=6
    ),
    Kind(
        kind="action",
        word="close",
        by="server",
        strengths=tuple({"code": code} for code in (1001, 1012, 1011, 1013, 1000, 4200)),
    ),
    Kind(kind="fault", word="down"),
    Kind(kind="fault", word="refuse", greets=True),
    Kind(
        kind="fault",
        word="reject_upgrade",
        strengths=(
            {"status": 503},
            {"status": 502},
            {"status": 500},
            {"status": 503, "retry_after": "2s"},
            {"status": 429, "retry_after": "5s"},
        ),
        greets=True,
    ),
    Kind(
        kind="fault",
        word="blackhole",
        streams=_EITHER_WAY,
        silent=True,
        shared=True,
        weight=6,
    ),
    Kind(kind="fault", word="stall", streams=_EITHER_WAY, shared=True),
    Kind(
        kind="toxic",
        word="latency",
        streams=_EACH_WAY,
        strengths=(
            {"latency": 100},
            {"latency": 400, "jitter": 100},
            {"latency": 1000},
            {"latency": 3000, "jitter": 1000},
            {"latency": 10000},
        ),
        shared=True,
    ),
    Kind(
        kind="fault",
        word="slow_accept",
        strengths=({"delay": "500ms"}, {"delay": "2s"}, {"delay": "20s"}),
        greets=True,
    ),
    Kind(
        kind="fault",
        word="drop_frames",
        streams=_EITHER_WAY,
        strengths=({"opcodes": ["pong"]}, {"opcodes": ["ping"]}, {"opcodes": ["ping", "pong"]}),
        silent=True,
    ),
    Kind(
        kind="fault",
        word="delay_frames",
        streams=_EITHER_WAY,
        strengths=(
            {"opcodes": ["pong"], "delay": "500ms"},
            {"opcodes": ["pong"], "delay": "2s"},
            {"opcodes": ["ping"], "delay": "2s"},
            {"opcodes": ["text"], "delay": "1s"},
            {"opcodes": ["pong"], "delay": "10s"},
        ),
        chokes=True,
    ),
    Kind(
        kind="toxic",
        word="bandwidth",
        streams=_EACH_WAY,
        strengths=({"rate": 64}, {"rate": 16}, {"rate": 4}, {"rate": 1}, {"rate": 0}),
        chokes=True,
        shared=True,
    ),
    Kind(
        kind="toxic",
        word="slicer",
        streams=_EACH_WAY,
        strengths=(
            {"average_size": 64, "size_variation": 32},
            {"average_size": 16, "size_variation": 8, "delay": 100},
            {"average_size": 1},
        ),
        chokes=True,
        shared=True,
    ),
    Kind(
        kind="toxic",
        word="slow_close",
        streams=_EACH_WAY,
        strengths=({"delay": 500}, {"delay": 2000}, {"delay": 10000}),
        shared=True,
    ),
    Kind(
        kind="toxic",
        word="timeout",
        streams=_EACH_WAY,
        strengths=({"timeout": 1000}, {"timeout": 0}),
        shared=True,
    ),
    Kind(
        kind="toxic",
        word="reset_peer",
        streams=_EACH_WAY,
        strengths=({"timeout": 0}, {"timeout": 1000}),
        shared=True,
    ),
    Kind(
        kind="toxic",
        word="limit_data",
        streams=_EACH_WAY,
        strengths=({"bytes": 10000}, {"bytes": 1000}, {"bytes": 100}, {"bytes": 10}),
        shared=True,
    ),
    Kind(kind="fault", word="idle_timeout", strengths=_CUTS),
    Kind(kind="fault", word="max_lifetime", strengths=_CUTS),
    Kind(
        kind="action",
        word="send",
        by="server",
        strengths=({"size": 1024}, {"size": 65536}, {"size": _MIB}),
        chokes=True,
        weight=2,
    ),
    Kind(
        kind="action",
        word="send",
        by="client",
        strengths=({"size": 1024}, {"size": 65536}, {"size": _MIB}),
        chokes=True,
        weight=2,
    ),
    Kind(kind="action", word="restart", by="server"),
    Kind(
        kind="action",
        word="drain",
        by="server",
        strengths=(
            {"code": 1001, "grace": "1s"},
            {"code": 1012, "grace": "1s"},
            {"code": 1012, "grace": "5s"},
        ),
    ),
    Kind(
        kind="action",
        word="reject",
        by="server",
        strengths=({"code": 1013}, {"status": 503}, {"status": 503, "retry_after": "3s"}),
        greets=True,
    ),
    Kind(kind="action", word="offline", by="client"),
    Kind(kind="action", word="restart", by="client", weight=2),
    Kind(kind="fault", word="syn_drop", greets=True, weight=3),
    Kind(
        kind="fault",
        word="dns_failure",
        strengths=(
            {"mode": "nxdomain"},
            {"mode": "servfail"},
            {"mode": "slow", "delay": "1s"},
            {"mode": "slow", "delay": "10s"},
        ),
        greets=True,
        weight=6,
    ),
    Kind(
        kind="fault",
        word="loss",
        streams=_EITHER_WAY,
        strengths=({"rate": 0.1}, {"rate": 0.3}, {"rate": 0.6}),
        silent=True,
        chokes=True,
        weight=2,
    ),
    Kind(kind="fault", word="partition", streams=_EITHER_WAY, silent=True, chokes=True, weight=3),
    Kind(kind="fault", word="host_freeze", strengths=_HOSTS, silent=True, chokes=True, weight=3),
    Kind(kind="fault", word="host_crash", strengths=_HOSTS, silent=True, weight=3),
    Kind(
        kind="fault",
        word="strip_upgrade",
        strengths=({}, {"style": "http11"}, {"style": "upgrade_only"}),
        final=True,
        greets=True,
        weight=2,
    ),
)
_BY_WORD = {(kind.kind, kind.word, kind.by): kind for kind in KINDS}

_KEPT_BY_TCP = frozenset({"partition", "loss", "host_freeze"})


def kind_of(entry: Entry) -> Kind:
    """Return the kind of an entry that a hunt drew. Raises KeyError for others."""
    return _BY_WORD[entry.kind, entry.word, entry.by]


def added_s(entry: Entry) -> float:
    """Return for how long an entry may hold something back, beyond its window too: delays, waits, Retry-After."""
    row = entry.parameters
    total_s = 2 * (float(row.get("latency", 0)) + float(row.get("jitter", 0))) / 1000
    if entry.word in ("slow_close", "timeout", "reset_peer"):
        total_s += float(row.get("delay", 0) + row.get("timeout", 0)) / 1000
    elif "delay" in row and entry.kind == "fault":
        total_s += parse_duration(row["delay"])
    for key in ("grace", "after"):
        if key in row:
            total_s += parse_duration(row[key])
    if entry.word in _KEPT_BY_TCP:
        # what a path lost is sent again at doubling intervals: the next time may be as far off as the loss was long
        total_s += (entry.for_s or 0.0) + 1
    # a correct client waits up to a fifth longer than it is told to, so that not all come back at once
    return total_s + (1.2 * parse_duration(row["retry_after"]) + 1 if "retry_after" in row else 0.0)
