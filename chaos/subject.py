"""How a callable subject says what it can do beyond connecting, and what the run tells it.

A client is `async def client(url, **options)`; a server is `async def serve(host, port, *, task_status, **options)`
whose `task_status.started(port)` gives the port it listens on. Each runs until it is cancelled. A subject takes
the options it names; the others are not passed to it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

Function = TypeVar("Function", bound=Callable[..., Any])

_ATTRIBUTE = "__trio_chaos__"


@dataclass(frozen=True, slots=True)
class Abilities:
    """What a subject declares: that it sends the workload, and which timeline actions it carries out."""

    sends: bool = False
    actions: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Command:
    """A timeline action for a subject: its name, its parameters, and whether its window begins or ends."""

    action: str
    parameters: Mapping[str, Any] = field(default_factory=dict)
    ends: bool = False


def subject(
    *, sends: bool = False, actions: tuple[str, ...] = ()
) -> Callable[[Function], Function]:
    """Declare what a callable subject can do.

    Args:
        sends: it sends the scenario's workload, which it is given as the option `workload`.
        actions: the timeline actions that it carries out; it is given the option `commands`, a
            `trio.MemoryReceiveChannel` of `Command`, and must keep reading it.
    """
    abilities = Abilities(sends=sends, actions=frozenset(actions))

    def mark(function: Function) -> Function:
        setattr(function, _ATTRIBUTE, abilities)
        return function

    return mark


def abilities_of(function: Callable[..., Any]) -> Abilities:
    """Return what a subject declared, or nothing."""
    declared = getattr(function, _ATTRIBUTE, None)
    return declared if isinstance(declared, Abilities) else Abilities()
