"""Where a task waits for a simulated socket."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import trio


class Waiter:
    """The place where one task at a time waits for a socket, and for what."""

    __slots__ = ("_doing", "ready", "task")

    def __init__(self, doing: str) -> None:
        self._doing = doing
        self.task: trio.lowlevel.Task | None = None
        self.ready: Callable[[], bool] = lambda: False

    async def wait(self, ready: Callable[[], bool]) -> None:
        """Wait until woken. Raises trio.BusyResourceError if another task does."""
        if self.task is not None:
            raise trio.BusyResourceError(f"another task is already {self._doing} this socket")
        self.task, self.ready = trio.lowlevel.current_task(), ready
        await trio.lowlevel.wait_task_rescheduled(self._give_up)

    def _give_up(self, _: Any) -> trio.lowlevel.Abort:
        self.task = None
        return trio.lowlevel.Abort.SUCCEEDED

    def wake(self) -> None:
        """Let the task go on that waits, if one does."""
        task, self.task = self.task, None
        if task is not None:
            trio.lowlevel.reschedule(task)
