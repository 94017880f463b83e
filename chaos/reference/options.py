"""Settings of the reference peers, made from the plain keyword arguments that the run passes. Pure.

Arguments that are not known here are ignored: the run may pass more than a peer needs.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any, Literal, Self

from chaos.vocabulary.policies import POLICIES, Policy, Reaction

_NAMES: dict[type, frozenset[str]] = {}  # of the fields of each class below


@dataclass(frozen=True, slots=True, kw_only=True)
class _Options:
    @classmethod
    def parse(cls, arguments: Mapping[str, Any]) -> Self:
        """Return the options that these arguments hold. Raises TypeError for one that is missing."""
        known = _NAMES.get(cls)
        if known is None:
            known = _NAMES[cls] = frozenset(one.name for one in fields(cls))
        return cls(**{name: value for name, value in arguments.items() if name in known})


@dataclass(frozen=True, slots=True, kw_only=True)
class HeartbeatOptions(_Options):
    """Ping `interval_s` after the last pong or miss, and wait `timeout_s` for the pong."""

    interval_s: float
    timeout_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class BackoffOptions(_Options):
    """The reconnection schedule; see `backoff` for what the words mean."""

    initial_s: float = 1.0
    factor: float = 2.0
    max_s: float = 30.0
    jitter: Literal["none", "full", "equal", "decorrelated"] = "full"
    first_delay: Literal["random", "none"] = "random"
    attempts_max: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkloadOptions(_Options):
    """Messages that one side sends all the time: one per `every_s`, of `size` bytes."""

    sender: Literal["client", "server"]
    every_s: float
    size: int = 64
    binary: bool = False
    delivery: Literal["at_most_once", "resume"] = "at_most_once"


@dataclass(frozen=True, slots=True, kw_only=True)
class PeerOptions(_Options):
    """What client and server have in common. `close_timeout_s` bounds the closing handshake with a live peer."""

    seed: int = 0
    heartbeat: HeartbeatOptions | None = None
    misses: int = 1
    close_timeout_s: float = 2.0
    workload: tuple[WorkloadOptions, ...] = ()

    @classmethod
    def parse(cls, arguments: Mapping[str, Any]) -> Self:
        """Return the options, with the nested ones parsed as well."""
        plain = dict(arguments)
        if plain.get("heartbeat") is not None:
            plain["heartbeat"] = HeartbeatOptions.parse(plain["heartbeat"])
        plain["workload"] = tuple(WorkloadOptions.parse(one) for one in plain.get("workload") or ())
        return super(PeerOptions, cls).parse(plain)

    def lines_of(self, sender: str) -> tuple[WorkloadOptions, ...]:
        """Return the workload that this side sends."""
        return tuple(line for line in self.workload if line.sender == sender)

    def resumes(self, sender: str) -> bool:
        """Whether what this side sends is replayed after a reconnection."""
        return any(line.delivery == "resume" for line in self.lines_of(sender))


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientOptions(PeerOptions):
    """Settings of the reference client.

    `connect_timeout_s` runs from the SYN to the 101; a connection open for `stable_after_s` resets the backoff.
    `pending` says what becomes of a send that was waiting when its connection died: it is cancelled, or kept and
    sent first on the next one.
    """

    number: int = 1
    backoff: BackoffOptions = field(default_factory=BackoffOptions)
    connect_timeout_s: float = 10.0
    stable_after_s: float = 5.0
    headers: Mapping[str, str] = field(default_factory=dict)
    subprotocols: tuple[str, ...] = ()
    policy: Policy = POLICIES["rfc"]
    pending: Literal["cancel", "resend"] = "cancel"

    @classmethod
    def parse(cls, arguments: Mapping[str, Any]) -> Self:
        """Return the options. Raises ValueError for a policy or a reaction that does not exist."""
        plain = dict(arguments)
        plain["backoff"] = BackoffOptions.parse(plain.get("backoff") or {})
        plain["policy"] = resolve_policy(plain.get("policy", "rfc"))
        plain["subprotocols"] = tuple(plain.get("subprotocols") or ())
        return super(ClientOptions, cls).parse(plain)


def resolve_policy(policy: str | Policy | Mapping[Any, str]) -> Policy:
    """Return the policy of this name, or `rfc` extended by a mapping of codes to reactions.

    In a mapping, numbers from 100 to 599 are handshake statuses, the others close codes.
    """
    if isinstance(policy, Policy):
        return policy
    if isinstance(policy, str):
        if policy not in POLICIES:
            raise ValueError(f"expected a policy, one of {', '.join(POLICIES)}, got {policy!r}")
        return POLICIES[policy]
    codes: dict[int, Reaction] = {}
    statuses: dict[int, Reaction] = {}
    for number, reaction in policy.items():
        table = statuses if 100 <= int(number) <= 599 else codes
        table[int(number)] = Reaction(reaction)
    base = POLICIES["rfc"]
    limits = {status: times for status, times in base.limits.items() if status not in statuses}
    return replace(
        base,
        name="custom",
        codes={**base.codes, **codes},
        statuses={**base.statuses, **statuses},
        limits=limits,
    )
