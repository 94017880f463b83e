"""What happens in a server, told to whoever listens: bounded for each, so that nobody who is slow is waited for."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

import trio

Kind = Literal[
    "connection_opened",
    "connection_closed",
    "toxic_added",
    "toxic_changed",
    "toxic_removed",
    "proxy_created",
    "proxy_changed",
    "proxy_deleted",
    "timeline_started",
    "timeline_step",
    "timeline_ended",
]
Watcher = Callable[[Kind, Mapping[str, Any]], None]
LISTENERS_MAX = 100
KEPT_MAX = 1000  # events that a listener may be behind before it is dropped


@dataclass(frozen=True, slots=True, kw_only=True)
class Happening:
    """One event; `number` counts from 1 over the server's life."""

    number: int
    kind: Kind
    fields: dict[str, Any]


class Events:
    """Takes events and passes them on. `tell` never waits; no method needs to be awaited."""

    def __init__(self, kept_max: int = KEPT_MAX) -> None:
        """Drop a listener that is more than `kept_max` events behind."""
        self._kept_max = kept_max
        self._told = 0
        self._listeners: dict[trio.MemorySendChannel[Happening], trio.CancelScope] = {}
        self._watchers: list[Watcher] = []

    def tell(self, kind: Kind, **fields: Any) -> None:
        """Pass an event on to those who listen now; who has no room left is dropped."""
        self._told += 1
        if self._listeners:
            self._pass_on(Happening(number=self._told, kind=kind, fields=fields))
        for watcher in list(self._watchers):
            watcher(kind, fields)

    def _pass_on(self, happening: Happening) -> None:
        for channel in list(self._listeners):
            try:
                channel.send_nowait(happening)
            except (trio.WouldBlock, trio.BrokenResourceError):
                self._drop(channel)

    @contextmanager
    def watch(self, watcher: Watcher) -> Iterator[None]:
        """Call `watcher` with each event, within `tell`: before anything comes of what happened."""
        self._watchers.append(watcher)
        try:
            yield
        finally:
            self._watchers.remove(watcher)

    def close(self) -> None:
        """End the stream of every listener."""
        for channel in list(self._listeners):
            self._drop(channel)

    @contextmanager
    def listen(self) -> Iterator[AsyncIterator[Happening]]:
        """Give the events from now on. The block is left early, quietly, when the listener is dropped."""
        sends, receives = trio.open_memory_channel[Happening](self._kept_max)
        with trio.CancelScope() as scope:
            self._listeners[sends] = scope
            try:
                yield receives
            finally:
                self._listeners.pop(sends, None)
                sends.close()
                receives.close()

    @property
    def listeners(self) -> int:
        """How many listen."""
        return len(self._listeners)

    def _drop(self, channel: trio.MemorySendChannel[Happening]) -> None:
        scope = self._listeners.pop(channel)
        channel.close()
        scope.cancel()
