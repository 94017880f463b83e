"""Records the events of a run, and those that subjects report with `chaos.report`.

The clock is an argument (a function that gives seconds), so the same recorder serves real and virtual time.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any

from chaos.trace import Event, Side, Stream

REPORTABLE = ("message", "send", "state", "note")
STATES = ("connecting", "open", "closing", "closed")


@dataclass(slots=True)
class Recorder:
    """Collects the events of a run, each stamped with seconds since time zero.

    `sink` sees every event as it happens (a file, a live display); it must not raise and must not wait.
    """

    clock: Callable[[], float]
    sink: Callable[[Event], None] | None = None
    zero_s: float = 0.0
    events: list[Event] = field(default_factory=list)

    def start(self) -> None:
        """Make this instant time zero."""
        self.zero_s = self.clock()

    def now_s(self) -> float:
        """Return the seconds since time zero."""
        return self.clock() - self.zero_s

    def record(
        self,
        kind: str,
        *,
        client: int | None = None,
        connection: int | None = None,
        stream: Stream | None = None,
        **data: Any,
    ) -> Event:
        """Record an event now and return it."""
        return self.note(kind, client, connection, stream, data)

    def note(
        self,
        kind: str,
        client: int | None,
        connection: int | None,
        stream: Stream | None,
        data: dict[str, Any],
    ) -> Event:
        """Record an event whose fields are `data`, which becomes the event's own, and return it."""
        event = Event(
            # what is judged now must be what is read from the file later: microseconds
            at_s=round(self.clock() - self.zero_s, 6),
            kind=kind,
            client=client,
            connection=connection,
            stream=stream,
            data=data,
        )
        self.events.append(event)
        if self.sink is not None:
            self.sink(event)
        return event


@dataclass(frozen=True, slots=True)
class Reporter:
    """Who speaks when a task calls `report`: set for each subject's task, inherited by its children."""

    recorder: Recorder
    subject: Side
    client: int | None = None


current_reporter: ContextVar[Reporter | None] = ContextVar("chaos_reporter", default=None)


def report(event: str, **data: Any) -> None:
    """Report something only the subject itself can know; does nothing outside a run.

    Args:
        event: `message` (`id`, and `sender` if known: a workload message was handled), `send` (`id`),
            `state` (`state`: connecting, open, closing or closed) or `note` (`text`).
        data: the event's own fields; values must be JSON.

    Raises:
        ValueError: for an unknown event or state, so that a misspelling is not silently ignored, and for a `message`
            or `send` whose `id` is no whole number.
        TypeError: for a value that JSON cannot hold.
    """
    if event not in REPORTABLE:
        raise ValueError(f"unknown event {event!r}; expected one of {', '.join(REPORTABLE)}")
    if event == "state" and data.get("state") not in STATES:
        raise ValueError(
            f"unknown state {data.get('state')!r}; expected one of {', '.join(STATES)}"
        )
    number = data.get("id", 0)
    if event in ("message", "send") and (not isinstance(number, int) or isinstance(number, bool)):
        raise ValueError(f"expected a whole number as the `id` of a {event}, got {number!r}")
    reporter = current_reporter.get()
    if reporter is not None:
        kept = {name: as_json(value) for name, value in data.items()}
        reporter.recorder.record(event, client=reporter.client, subject=reporter.subject, **kept)


def as_json(value: Any) -> Any:
    """Return a subject's value as a trace can keep it: JSON in UTF-8, where half a surrogate pair is spelled out.

    Raises:
        TypeError: JSON cannot hold it.
    """
    if isinstance(value, str):
        return value if value.isascii() else value.encode(errors="backslashreplace").decode()
    if value is None or isinstance(value, bool | int | float):
        return value
    if isinstance(value, Mapping):
        return {as_json(str(name)): as_json(each) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return [as_json(each) for each in value]
    raise TypeError(f"expected a value that JSON can hold, got {value!r}")
