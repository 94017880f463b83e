"""The states of a client's connection, and the table of what may follow what. Pure.

CLOSED → CONNECTING → OPEN → CLOSING → CLOSED
             └─────────┴────────────────┘        (refused, or lost without a closing handshake)
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import Enum


class State(Enum):
    """Where a connection stands; the names are those of the browser's `readyState`."""

    CONNECTING = "connecting"
    OPEN = "open"
    CLOSING = "closing"
    CLOSED = "closed"


TRANSITIONS: Mapping[State, frozenset[State]] = {
    State.CLOSED: frozenset({State.CONNECTING}),
    State.CONNECTING: frozenset({State.OPEN, State.CLOSED}),
    State.OPEN: frozenset({State.CLOSING, State.CLOSED}),
    State.CLOSING: frozenset({State.CLOSED}),
}


class IllegalTransition(AssertionError):
    """A state was asked for that cannot follow the present one: a bug in the client."""


@dataclass(slots=True)
class StateMachine:
    """The present state. `changed` hears of each change; it must not raise and must not wait."""

    changed: Callable[[State], None]
    state: State = State.CLOSED

    def move(self, to: State) -> None:
        """Go to another state. Raises IllegalTransition, and changes nothing, if the table does not allow it."""
        if to not in TRANSITIONS[self.state]:
            allowed = ", ".join(sorted(state.value for state in TRANSITIONS[self.state]))
            raise IllegalTransition(
                f"expected one of {allowed} after {self.state.value}, got {to.value}"
            )
        self.state = to
        self.changed(to)
