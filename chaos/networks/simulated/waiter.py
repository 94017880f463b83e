"""The place where a task waits for a simulated socket, until what it waits for is true."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import trio


def _never() -> bool:
    return False


@dataclass(eq=False, slots=True)
class Waiter:
    """The place where one task at a time waits for a socket, and what it waits for."""

    doing: str
    task: trio.lowlevel.Task | None = None
    is_ready: Callable[[], bool] = _never

    async def wait(self, is_ready: Callable[[], bool]) -> None:
        """Wait until woken. Raises trio.BusyResourceError if another task waits here."""
        if self.task is not None:
            raise trio.BusyResourceError(f"another task is already {self.doing} this socket")
        self.task, self.is_ready = trio.lowlevel.current_task(), is_ready
        await trio.lowlevel.wait_task_rescheduled(self._abort)

    def _abort(self, _: Any) -> trio.lowlevel.Abort:
        self.task, self.is_ready = None, _never
        return trio.lowlevel.Abort.SUCCEEDED

    def wake(self) -> None:
        """Wake the task that waits, if there is one."""
        task = self.task
        if task is not None:
            # what it waited for leads to the socket and from there back here: a cycle, which this ends
            self.task, self.is_ready = None, _never
            trio.lowlevel.reschedule(task)
