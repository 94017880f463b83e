"""Holds close-code and handshake policies: what a client does after each ending, as data.

A policy is asked for a close code, or for an HTTP status, and answers with a reaction. Exact numbers win over
ranges, later ranges over earlier ones.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import Enum
from typing import Any


class Reaction(Enum):
    """What to do after a connection ended or a handshake was refused."""

    NOW = "now"  # one attempt at once, then backoff
    BACKOFF = "backoff"  # exponential, with jitter
    LONG = "long"  # backoff that starts at its maximum, or the ordinary one from its first step; nothing shorter
    AUTH = "auth"  # refresh credentials once, then retry; a second time: never
    NEVER = "never"  # stop and report


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """Reactions by close code and by handshake status.

    `codes` and `statuses` are exact; `code_ranges` and `status_ranges` are (first, last, reaction), inclusive.
    `limits` bounds how often in a row a status may be met before the reaction becomes NEVER.
    """

    name: str
    what: str
    codes: Mapping[int, Reaction] = field(default_factory=dict)
    code_ranges: tuple[tuple[int, int, Reaction], ...] = ()
    statuses: Mapping[int, Reaction] = field(default_factory=dict)
    status_ranges: tuple[tuple[int, int, Reaction], ...] = ()
    limits: Mapping[int, int] = field(default_factory=dict)

    @classmethod
    def parse(cls, policy: str | Policy | Mapping[Any, Any]) -> Policy:
        """Return the policy that a client states: one of this name, or `rfc` extended by numbers with reactions.

        Numbers from 100 to 599 are handshake statuses, the others close codes.

        Raises:
            ValueError: there is no such policy or reaction.
        """
        if isinstance(policy, Policy):
            return policy
        if isinstance(policy, str):
            if policy not in POLICIES:
                raise ValueError(f"expected a policy, one of {', '.join(POLICIES)}, got {policy!r}")
            return POLICIES[policy]
        given = {int(number): Reaction(reaction) for number, reaction in policy.items()}
        statuses = {number: given.pop(number) for number in list(given) if 100 <= number <= 599}
        base = POLICIES["rfc"]
        return replace(
            base,
            name="custom",
            codes={**base.codes, **given},
            statuses={**base.statuses, **statuses},
            limits={
                status: times for status, times in base.limits.items() if status not in statuses
            },
        )

    def on_close(self, code: int) -> Reaction:
        """Return the reaction to a connection that ended with this close code."""
        return _look_up(code, self.codes, self.code_ranges)

    def on_status(self, status: int, times: int = 1) -> Reaction:
        """Return the reaction to a handshake answered with this status for the nth time in a row."""
        if times > self.limits.get(status, times):
            return Reaction.NEVER
        return _look_up(status, self.statuses, self.status_ranges)


def _look_up(
    number: int,
    exact: Mapping[int, Reaction],
    ranges: tuple[tuple[int, int, Reaction], ...],
) -> Reaction:
    if number in exact:
        return exact[number]
    for first, last, reaction in reversed(ranges):
        if first <= number <= last:
            return reaction
    return Reaction.BACKOFF


_STATUSES: Mapping[int, Reaction] = {
    200: Reaction.LONG,
    400: Reaction.LONG,
    401: Reaction.AUTH,
    403: Reaction.AUTH,
    404: Reaction.LONG,
    408: Reaction.BACKOFF,
    425: Reaction.BACKOFF,
    429: Reaction.LONG,
    500: Reaction.LONG,
}
_STATUS_RANGES = (
    (100, 499, Reaction.NEVER),
    (500, 599, Reaction.BACKOFF),
    (505, 505, Reaction.NEVER),
)
_CODES: Mapping[int, Reaction] = {
    1002: Reaction.NEVER,
    1003: Reaction.NEVER,
    1007: Reaction.NEVER,
    1008: Reaction.NEVER,
    1010: Reaction.NEVER,
    1011: Reaction.LONG,
    1012: Reaction.BACKOFF,
    1013: Reaction.LONG,
    1015: Reaction.NEVER,
    3000: Reaction.AUTH,
    3003: Reaction.NEVER,
}
_NEVER, _BACKOFF, _NOW = Reaction.NEVER, Reaction.BACKOFF, Reaction.NOW


def _policy(
    name: str,
    what: str,
    codes: Mapping[int, Reaction],
    ranges: tuple[tuple[int, int, Reaction], ...],
) -> Policy:
    return Policy(
        name=name,
        what=what,
        codes={**_CODES, **codes},
        code_ranges=ranges,
        statuses=_STATUSES,
        status_ranges=_STATUS_RANGES,
        limits={400: 2, 404: 3},
    )


POLICIES: Mapping[str, Policy] = {
    policy.name: policy
    for policy in (
        _policy(
            "rfc",
            "RFC 6455 and IANA codes; 4000–4099 are final, other private codes back off",
            {},
            ((4000, 4099, _NEVER), (4401, 4401, Reaction.AUTH), (4403, 4403, _NEVER)),
        ),
        _policy(
            "pusher",
            "Pusher's protocol: 4000–4099 final, 4100–4199 back off, 4200–4299 at once",
            {},
            (
                (4000, 4099, _NEVER),
                (4100, 4199, _BACKOFF),
                (4200, 4299, _NOW),
                (4300, 4999, _NEVER),
            ),
        ),
        _policy(
            "discord",
            "Discord's gateway: 4004 and 4010–4014 are final, the rest reconnects",
            {4004: _NEVER},
            ((4000, 4999, _BACKOFF), (4010, 4014, _NEVER)),
        ),
        _policy(
            "graphql-ws",
            "graphql-transport-ws: protocol errors are final, 4403, 4408, 4499 and 4504 are retried",
            {1011: _NEVER, 1012: _BACKOFF, 1013: _BACKOFF, 1014: _BACKOFF}
            | dict.fromkeys((4004, 4005, 4400, 4401, 4406, 4409, 4429, 4500), _NEVER),
            ((1000, 1999, _NEVER), (1000, 1001, _BACKOFF), (1005, 1006, _BACKOFF)),
        ),
        _policy(
            "centrifugo",
            "Centrifugo: 3500–3999 and 4500–4999 are final, other private codes reconnect",
            {1009: _NEVER, 3000: _BACKOFF, 3003: _BACKOFF},
            ((3000, 4999, _BACKOFF), (3500, 3999, _NEVER), (4500, 4999, _NEVER)),
        ),
    )
}
