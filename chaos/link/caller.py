"""What calls functions when it is time, so that a connection needs no task that waits."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol


class Timer(Protocol):
    """A call to come, at `at_s` of trio's clock."""

    at_s: float

    def cancel(self) -> None:
        """Do not call it any more; idempotent."""


class Caller(Protocol):
    """Calls functions from no task of the connection's own. What is called must not raise, nor wait."""

    def soon(self, call: Callable[[], None]) -> None:
        """Call it when whoever runs now has ended its turn."""

    def at(self, at_s: float, call: Callable[[], None]) -> Timer:
        """Call it at a time of trio's clock."""
        ...

    def hurry(self) -> None:
        """Let tasks run soon: one was started or woken."""
