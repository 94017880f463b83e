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
_HEAP = 1 << 9  # Py_TPFLAGS_HEAPTYPE: a class whose attributes can be set


@dataclass(frozen=True, slots=True)
class Abilities:
    """What a subject declares; see `subject`."""

    sends: bool = False
    actions: frozenset[str] = frozenset()
    tells_clients: bool = False
    connections: tuple[type, ...] = ()


@dataclass(frozen=True, slots=True)
class Command:
    """A timeline action for a subject: its name, its parameters, and whether its window begins or ends.

    `clients` are the numbers of the clients that it concerns, for a server; None means all of them.
    """

    action: str
    parameters: Mapping[str, Any] = field(default_factory=dict)
    ends: bool = False
    clients: tuple[int, ...] | None = None

    def concerns(self, client: int) -> bool:
        """Tell whether the action concerns this client."""
        return self.clients is None or client in self.clients


def subject(
    *,
    sends: bool = False,
    actions: tuple[str, ...] = (),
    tells_clients: bool = False,
    connections: tuple[type, ...] = (),
) -> Callable[[Function], Function]:
    """Declare what a callable subject can do.

    Args:
        sends: it sends the scenario's workload, which it is given as the option `workload`.
        actions: the timeline actions that it carries out; it is given the option `commands`, a
            `trio.MemoryReceiveChannel` of `Command`, and must keep reading it.
        tells_clients: a server that tells its clients apart by the number in their query (`/?client=3`), and carries
            out an action for those in `Command.clients` only.
        connections: classes of which it makes one object for each connection; `no_leaks` counts those that are kept.
            The classes of the known libraries are counted without.

    Raises:
        TypeError: one of the `connections` cannot be counted.
    """
    for kind in connections:
        if not isinstance(kind, type) or not kind.__weakrefoffset__ or not kind.__flags__ & _HEAP:
            raise TypeError(
                f"{kind!r} cannot be counted; expected a class written in Python that has weak references"
            )
    abilities = Abilities(
        sends=sends,
        actions=frozenset(actions),
        tells_clients=tells_clients,
        connections=connections,
    )

    def mark(function: Function) -> Function:
        setattr(function, _ATTRIBUTE, abilities)
        return function

    return mark


def abilities_of(function: Callable[..., Any]) -> Abilities:
    """Return what a subject declared, or nothing."""
    declared = getattr(function, _ATTRIBUTE, None)
    return declared if isinstance(declared, Abilities) else Abilities()
