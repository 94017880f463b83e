"""The parent of a worker process, as that process sees it: who gave the job, hears of it, and may stop it.

The protocol between the two, over one `Connection`: jobs come in; for each job "alive" and progress go out, any
number of times, and then one answer, one refusal, or the word that the process is broken. After a last answer the
process ends. What comes in while a job runs asks it to stop. End of file means that the parent is gone.
"""

from __future__ import annotations

import select
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from typing import Any, Literal

from chaos.running.watchdog import Watchdog
from chaos.trace import Event

Message = Literal["alive", "progress", "answer", "last answer", "refusal", "broken"]
STOP = "stop"
# progress is not sent more often than a person can read it
PROGRESS_S = 0.1
_NEWS = frozenset({"open", "apply", "attempt", "refused", "steady", "closed"})
# a simulated run refuses this to its subjects
_make_poll = select.poll


@dataclass(slots=True)
class Parent:
    """The worker's end of the connection. Sending never fails, though the parent may be gone.

    Args:
        watchdog: watches what runs for the parent.
        leave: ends this process at once, with all that descends from it.
    """

    connection: Connection
    watchdog: Watchdog
    leave: Callable[[], None]
    _opens: int = 0
    _told_s: float = -1.0
    _is_busy: bool = False
    _sending: threading.Lock = field(default_factory=threading.Lock)

    def begin(self) -> None:
        """Begin with a job, and forget the one before."""
        self._opens, self._told_s, self._is_busy = 0, -1.0, True

    def see(self, event: Event) -> None:
        """Tell of an event if it is news and the last news are old enough."""
        self._opens += event.kind == "open"
        if event.kind in _NEWS and event.at_s >= self._told_s + PROGRESS_S:
            self._told_s = event.at_s
            what = f"{event['what']} {event['change']}" if event.kind == "apply" else event.kind
            self.send("progress", (event.at_s, what, self._opens))

    def send(self, message: Message, content: Any) -> None:
        """Send a message, if it belongs to a job: nothing follows the answer to one."""
        with self._sending:
            if self._is_busy:
                self._is_busy = message in ("alive", "progress")
                with suppress(OSError):
                    self.connection.send((message, content))

    def wants_end(self) -> bool:
        """Return whether the running job is to stop: the parent has said so, or is gone."""
        return self.connection.poll()

    def is_gone(self) -> bool:
        """Return whether the parent has closed its end, or a subject ours. Any thread may call it, in any run."""
        poller = _make_poll()
        poller.register(self.connection.fileno(), select.POLLHUP)
        return bool(poller.poll(0))

    def answer_and_leave(self, answer: Any) -> None:
        """Hand in the answer to the running job, and end this process: what ran in it cannot be ended otherwise."""
        self.send("last answer", answer)
        self.leave()
