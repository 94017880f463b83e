"""A scenario's timeline played on a proxy: its toxics and faults come and go at their times."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from typing import Any

import trio

from chaos.running.timeline import Timeline
from chaos.running.watch import TriggerWatch
from chaos.scenario.plan import Plan, Step, Triggered
from chaos.toxiproxy_server.address import Address, AddressError, port_of, split
from chaos.toxiproxy_server.events import Kind
from chaos.toxiproxy_server.go.gojson import Float32
from chaos.toxiproxy_server.go.wire import ApiError, Toxic
from chaos.toxiproxy_server.proxy import Proxy
from chaos.vocabulary import faults as words
from chaos.vocabulary.toxics import Toxic as ToxicSettings

LOG = logging.getLogger("trio-chaos.toxiproxy-server")
PREFIX = "timeline"


class ProxyTimeline:
    """Plays a plan on a proxy, which may have toxics of its user's. Constructed it does nothing; `run` plays it once.

    `told` hears of each step after it was applied; `is_there` says whether the proxy still exists.
    """

    def __init__(
        self,
        *,
        plan: Plan,
        proxy: Proxy,
        told: Callable[[Step], None] = lambda _: None,
        is_there: Callable[[], bool] = lambda: True,
    ) -> None:
        self._plan = plan
        self.timeline = Timeline(plan=plan, apply=self._apply, zero_s=trio.current_time())
        self.proxy = proxy
        self.told = told
        self._is_there = is_there
        self._added: dict[tuple[int, int], str] = {}  # window → name of the toxic
        self._down: set[tuple[int, int]] = set()  # windows that have disabled the proxy

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Play until the end of the scenario. Cancelling is safe: what was added is removed in any case."""
        attempts = TriggerWatch(self._plan.triggered, self._fire)
        try:
            with self.proxy.ground.events.watch(partial(self._see, attempts)):
                await self.timeline.play(trio.current_time(), task_status=task_status)
        finally:
            self.undo()

    def undo(self) -> None:
        """Remove all that it has added."""
        self.timeline.windows.clear()
        for window in list(self._added):
            self._remove(window)
        for window in list(self._down):
            self._lift(window)

    def _see(self, attempts: TriggerWatch, kind: Kind, fields: Mapping[str, Any]) -> None:
        if kind == "connection_opened" and fields["proxy"] == self.proxy.name:
            attempts.count("attempt")

    def _fire(self, row: Triggered) -> None:
        """Begin with what has waited for a client. What is due at once is applied before that client is served."""
        first = row.steps[0]
        is_due = first.change == "on" and first.at_s == row.then_s == 0
        # this client is among those whom `down` closes, and it is not yet ready to be closed
        closes = isinstance(self._plan.settings[first.entry], words.Down)
        self.timeline.fire(row, at_once=is_due and not closes)

    def _apply(self, step: Step) -> None:
        self._change(step)
        waited = self._plan.scenario.timeline[step.entry].on is not None
        self.told(replace(step, at_s=round(step.at_s, 3)) if waited else step)

    def _change(self, step: Step) -> None:
        window = step.entry, step.occurrence
        is_down = isinstance(self._plan.settings[step.entry], words.Down)
        if step.change == "off":
            (self._lift if is_down else self._remove)(window)
        elif not is_down:
            self._add(window)
            if step.change == "instant":
                self._remove(window)
        elif self.proxy.enabled or self._down:
            self._down.add(window)
            self.proxy.stop()
        else:  # a proxy that its user has disabled stays theirs
            self.timeline.windows.pop(window, None)

    def _add(self, window: tuple[int, int]) -> None:
        entry = self._plan.scenario.timeline[window[0]]
        settings = self._plan.settings[window[0]]
        assert isinstance(settings, ToxicSettings | words.Fault), "actions are refused before"
        toxic = Toxic(
            name=self._free_name(window[0]),
            type=entry.word,
            stream=entry.stream,
            toxicity=Float32(entry.toxicity),
            attributes=settings.model_dump(mode="json", by_alias=True, exclude_none=True),
            settings=settings,
        )
        self._added[window] = toxic.name
        self.proxy.add(toxic)

    def _free_name(self, entry: int) -> str:
        row = self._plan.scenario.timeline[entry]
        wanted = name = f"{PREFIX}:{entry + 1}:{row.name or row.word}"
        taken = {toxic.name for toxic in self.proxy.toxics()}
        number = 1
        while name in taken:
            number += 1
            name = f"{wanted}:{number}"
        return name

    def _remove(self, window: tuple[int, int]) -> None:
        name = self._added.pop(window, None)
        if name is None:
            return
        try:
            self.proxy.remove(name)
        except ApiError:
            LOG.info("toxic %s of the timeline was removed before its end", name)

    def _lift(self, window: tuple[int, int]) -> None:
        if window not in self._down:
            return
        self._down.discard(window)
        if self._down or not self._is_there():
            return
        host, port = split(self.proxy.listen)
        try:
            self.proxy.start(Address(host=host, port=port_of(port)))
        except AddressError as error:
            LOG.warning("proxy %s stays disabled: %s", self.proxy.name, error)
