"""The parent of a worker process, as that process sees it: who gave the job, hears of it, and may stop it.

The protocol between the two, over one `Connection`: jobs come in; for each job progress goes out, any number of
times, and then one answer, one refusal, or the word that the process is broken. What comes in while a job runs asks
it to stop. End of file means that the parent is gone.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any, Literal

from chaos.trace import Event

Message = Literal["progress", "answer", "refusal", "broken"]
STOP = "stop"
# progress is not sent more often than a person can read it
PROGRESS_S = 0.1
_NEWS = frozenset({"open", "apply", "attempt", "refused", "steady", "closed"})


@dataclass(slots=True)
class Parent:
    """The worker's end of the connection, for one job. Sending never fails, though the parent may be gone."""

    connection: Connection
    _opens: int = 0
    _told_s: float = -1.0

    def see(self, event: Event) -> None:
        """Tell of an event if it is news and the last news are old enough."""
        self._opens += event.kind == "open"
        if event.kind in _NEWS and event.at_s >= self._told_s + PROGRESS_S:
            self._told_s = event.at_s
            what = f"{event['what']} {event['change']}" if event.kind == "apply" else event.kind
            self.send("progress", (event.at_s, what, self._opens))

    def send(self, message: Message, content: Any) -> None:
        """Send a message."""
        with suppress(OSError):
            self.connection.send((message, content))

    def wants_end(self) -> bool:
        """Return whether the running job is to stop: the parent has said so, or is gone."""
        return self.connection.poll()
