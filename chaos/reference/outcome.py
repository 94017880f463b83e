"""How a connection ended, or why a handshake failed: plain data, and what follows from it. Pure.

Close codes are those of RFC 6455 §7.4; 1005, 1006 and 1015 never travel, they stand for an ending that had no code.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from chaos.vocabulary.policies import Policy, Reaction
from chaos.wire.retry import parse_http_date

# A server that asks for more than an hour has made a mistake, or wants the client gone: it is asked once an hour.
RETRY_AFTER_S_MAX = 3_600.0
# One retry after an answer that is not WebSocket: a proxy may have been restarting. The same again is a mistake.
PROTOCOL_REFUSALS_MAX = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """The end of a connection that was open.

    `by` says who ended it: `us`, the `peer` with its Close, or the `network` (end of stream or an error without
    a Close, code 1006). `clean` is true when a Close was both sent and received.
    """

    code: int
    reason: str = ""
    clean: bool = False
    by: Literal["us", "peer", "network"] = "network"

    def __str__(self) -> str:
        text = f" {self.reason!r}" if self.reason else ""
        return f"close {self.code}{text} by {self.by}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Refused:
    """A connection attempt that did not lead to an open connection.

    `http` has a `status` and its `headers` (names in lower case); `network` is an error of the operating system;
    `timeout` means that no whole answer came in time; `tls` that the certificate or the TLS handshake is wrong;
    `protocol` that the answer is not a WebSocket handshake; `closed` that the connection ended before an answer.
    """

    kind: Literal["http", "network", "timeout", "tls", "protocol", "closed"]
    status: int | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    retry_after_s: float | None = None
    detail: str = ""

    def __str__(self) -> str:
        what = f"http status {self.status}" if self.kind == "http" else self.kind
        return f"handshake refused: {what}" + (f" ({self.detail})" if self.detail else "")


def reaction_to(outcome: Ended | Refused, policy: Policy, times: int = 1) -> Reaction:
    """Return what the policy says about this outcome, met for the nth time in a row.

    What never reached a server that speaks (network, timeout, closed) backs off whatever the policy: nobody has
    refused anything yet. A wrong certificate is the policy's 1015.
    """
    if isinstance(outcome, Ended):
        return policy.on_close(outcome.code)
    if outcome.kind == "http":
        assert outcome.status is not None, "an http refusal has a status"
        return policy.on_status(outcome.status, times)
    if outcome.kind == "tls":
        return policy.on_close(1015)
    if outcome.kind == "protocol" and times > PROTOCOL_REFUSALS_MAX:
        return Reaction.NEVER
    return Reaction.BACKOFF


def parse_retry_after(value: str, now_s: float) -> float | None:
    """Return the seconds to wait that a Retry-After header asks for, or None if it cannot be read.

    RFC 9110 §10.2.3: whole seconds or an HTTP date. `now_s` is the time in seconds since the epoch against which
    a date counts. Never negative, never above `RETRY_AFTER_S_MAX`.
    """
    text = value.strip()
    if re.fullmatch(r"[0-9]{1,18}", text):
        return min(float(text), RETRY_AFTER_S_MAX)
    date_s = parse_http_date(text, now_s)
    return None if date_s is None else min(max(0.0, date_s - now_s), RETRY_AFTER_S_MAX)


def format_retry_after(seconds: float) -> str:
    """Return the header value for a wait: whole seconds, rounded up, since fractions are not allowed."""
    return str(math.ceil(seconds))


def refused_by_http(status: int, headers: Mapping[str, str], now_s: float) -> Refused:
    """Return the refusal that an HTTP answer other than 101 is.

    A date in Retry-After is counted from the server's own Date where it sent one: its clock may be wrong.
    """
    base_s = parse_http_date(headers.get("date", ""), now_s) or now_s
    retry_after_s = parse_retry_after(headers.get("retry-after", ""), base_s)
    return Refused(kind="http", status=status, headers=headers, retry_after_s=retry_after_s)
