"""Where a task waits for a simulated socket."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import trio


def _never() -> bool:
    return False


class Waiter:
    """The place where one task at a time waits for a socket, and for what."""

    __slots__ = ("_doing", "ready", "task")

    def __init__(self, doing: str) -> None:
        self._doing = doing
        self.task: trio.lowlevel.Task | None = None
        self.ready: Callable[[], bool] = _never

    async def wait(self, ready: Callable[[], bool]) -> None:
        """Wait until woken. Raises trio.BusyResourceError if another task does."""
        if self.task is not None:
            raise trio.BusyResourceError(f"another task is already {self._doing} this socket")
        self.task, self.ready = trio.lowlevel.current_task(), ready
        await trio.lowlevel.wait_task_rescheduled(self._give_up)

    def _give_up(self, _: Any) -> trio.lowlevel.Abort:
        self.task, self.ready = None, _never
        return trio.lowlevel.Abort.SUCCEEDED

    def wake(self) -> None:
        """Let the task go on that waits, if one does."""
        task = self.task
        if task is not None:
            # what it waited for leads to the socket and from there back: a cycle
            self.task, self.ready = None, _never
            trio.lowlevel.reschedule(task)
