"""Settings of the reference peers, made from the plain keyword arguments that the run passes. Pure.

What the scenario has a model of is that model. Arguments that are not known here are ignored: the run may pass more
than a peer needs.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, Self

from chaos.scenario.model import BackoffPlan, Heartbeat, Workload
from chaos.vocabulary.policies import POLICIES, Policy


@dataclass(frozen=True, slots=True, kw_only=True)
class PeerOptions:
    """What client and server have in common. `close_timeout_s` bounds the closing handshake with a live peer."""

    seed: int = 0
    heartbeat: Heartbeat | None = None
    misses: int = 1
    close_timeout_s: float = 2.0
    workload: tuple[Workload, ...] = ()

    @classmethod
    def parse(cls, arguments: Mapping[str, Any]) -> Self:
        """Return the options that these arguments hold; what is missing or None has its default.

        Raises ValueError for a policy or a reaction that does not exist.
        """
        given: dict[str, Any] = {
            name: arguments[name]
            for name in cls.__dataclass_fields__
            if arguments.get(name) is not None
        }
        for name, model in (("heartbeat", Heartbeat), ("backoff", BackoffPlan)):
            if name in given:
                given[name] = model.model_construct(**given[name])
        if "policy" in given:
            given["policy"] = Policy.parse(given["policy"])
        if "subprotocols" in given:
            given["subprotocols"] = tuple(given["subprotocols"])
        rows = given.get("workload", ())
        given["workload"] = tuple(Workload.model_construct(**row) for row in rows)
        return cls(**given)

    def lines_of(self, sender: str) -> tuple[Workload, ...]:
        """Return the workload that this side sends."""
        return tuple(line for line in self.workload if line.sender == sender)

    def resumes(self, sender: str) -> bool:
        """Return whether what this side sends is replayed after a reconnection."""
        return any(line.delivery == "resume" for line in self.lines_of(sender))


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientOptions(PeerOptions):
    """Settings of the reference client.

    `connect_timeout_s` runs from the SYN to the 101; a connection open for `stable_after_s` resets the backoff.
    `pending` says what becomes of a send that was waiting when its connection died: it is cancelled, or kept and
    sent first on the next one.
    """

    number: int = 1
    backoff: BackoffPlan = field(default_factory=BackoffPlan.model_construct)
    connect_timeout_s: float = 10.0
    stable_after_s: float = 5.0
    headers: Mapping[str, str] = field(default_factory=dict)
    subprotocols: tuple[str, ...] = ()
    policy: Policy = POLICIES["rfc"]
    pending: Literal["cancel", "resend"] = "cancel"
