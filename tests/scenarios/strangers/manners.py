"""What every client here does alike, whatever library it is written with: when to come back, and what to report."""

from __future__ import annotations

import json
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

import trio

from chaos import report

FINAL_CODES = {1002, 1003, 1007, 1008, 1010, 3003, 4403, *range(4000, 4100)}
LONG_CODES = {1011, 1013}
FINAL_STATUSES = {400, 401, 403, 404, 405, 410, 426, 501, 505}
LONG_STATUSES = {429, 500}


class Silent(Exception):
    """The peer has not answered in time."""


@dataclass
class Ending:
    """How a connection or an attempt ended: with a close code, with a status, or without either."""

    code: int | None = None
    status: int | None = None
    retry_after: str | None = None


@dataclass
class Manners:
    """Backoff with full jitter; Retry-After; no return after a final refusal."""

    options: dict[str, Any]
    failures: int = 0
    rng: random.Random = field(init=False)

    def __post_init__(self) -> None:
        self.rng = random.Random(f"{self.options['seed']}/{self.options.get('number', 1)}")
        self.last_id = 0

    @property
    def interval_s(self) -> float:
        return float(self.options["heartbeat"]["interval_s"])

    @property
    def timeout_s(self) -> float:
        return float(self.options["heartbeat"]["timeout_s"])

    @property
    def connect_timeout_s(self) -> float:
        return float(self.options["connect_timeout_s"])

    async def keep(self, connect: Callable[[], Awaitable[Ending]]) -> None:
        """Connect again and again; after a final refusal stay away."""
        while True:
            started_s = self.opened_s = trio.current_time()
            report("state", state="connecting")
            ending = await connect()
            report("state", state="closed")
            lived_s = trio.current_time() - self.opened_s if self.opened_s > started_s else 0.0
            if ending.code in FINAL_CODES or ending.status in FINAL_STATUSES:
                await trio.sleep_forever()
            await trio.sleep(self.delay_s(lived_s, ending))

    def opened(self) -> None:
        """Note that a connection is open."""
        self.opened_s = trio.current_time()
        report("state", state="open")

    def delay_s(self, lived_s: float, ending: Ending) -> float:
        """Return how long to wait before the next attempt."""
        if lived_s >= self.options["stable_after_s"]:
            self.failures = 0
        plan = self.options["backoff"]
        cap_s = min(plan["max_s"], plan["initial_s"] * plan["factor"] ** min(self.failures, 64))
        self.failures += 1
        if ending.retry_after is not None and ending.retry_after.isdecimal():
            return float(ending.retry_after) + self.rng.uniform(0, plan["initial_s"])
        if ending.code in LONG_CODES or ending.status in LONG_STATUSES:
            return self.rng.uniform(plan["max_s"] / 2, plan["max_s"])
        return self.rng.uniform(0, cap_s)

    async def send_all(self, send: Callable[[str], Awaitable[None]]) -> None:
        """Send the client's lines of the workload by a library's own call."""
        async with trio.open_nursery() as nursery:
            for line in self.options["workload"]:
                if line["sender"] == "client":
                    nursery.start_soon(self._send_line, send, line)

    async def _send_line(
        self, send: Callable[[str], Awaitable[None]], line: dict[str, Any]
    ) -> None:
        while True:
            self.last_id += 1
            row = {"id": self.last_id, "sender": f"client-{self.options.get('number', 1)}"}
            report("send", id=row["id"])
            await send(json.dumps(row).ljust(line["size"]))
            await trio.sleep(line["every_s"])


def handle(message: str | bytes) -> None:
    """Handle a workload message."""
    row = json.loads(message)
    if isinstance(row, dict) and "sender" in row:
        report("message", id=row["id"], sender=row["sender"])


def parts(url: str) -> tuple[str, int, str]:
    """Return the host, the port and the target of a URL."""
    target = urlsplit(url)
    return target.hostname or "", target.port or 80, f"{target.path or '/'}?{target.query}"


def first_of(group: BaseExceptionGroup[Any], kind: type[Any]) -> Any:
    """Return the first exception of a kind in a group, or None."""
    found = group.subgroup(kind)
    while isinstance(found, BaseExceptionGroup):
        found = found.exceptions[0]
    return found
