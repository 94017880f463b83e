"""A scenario's timeline played on a proxy: its toxics and faults come and go at their times."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from typing import Any

import trio

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


class Timeline:
    """Plays a plan on a proxy. Constructed it does nothing; `run` plays it once, and may be called again."""

    def __init__(
        self,
        *,
        plan: Plan,
        proxy: Proxy,
        told: Callable[[Step], None] = lambda _: None,
        there: Callable[[], bool] = lambda: True,
    ) -> None:
        """Prepare; `told` hears of each step after it was made, `there` says whether the proxy still exists."""
        self.plan = plan
        self.proxy = proxy
        self.done = 0  # steps
        self.told = told
        self._there = there
        self._zero_s = trio.current_time()
        self._added: dict[tuple[int, int], str] = {}  # entry, occurrence → name of the toxic
        self._down: set[tuple[int, int]] = set()
        self._attempts = 0  # since its start: clients that have connected
        self._fired: set[int] = set()  # entries that no longer wait for one

    @property
    def duration_s(self) -> float:
        """Length of the timeline."""
        return self.plan.scenario.duration_s

    @property
    def elapsed_s(self) -> float:
        """Time since its start."""
        return min(trio.current_time() - self._zero_s, self.duration_s)

    def in_force(self) -> list[int]:
        """Return the entries that act now, by their place in the timeline."""
        return sorted({entry for entry, _ in (*self._added, *self._down)})

    def waiting(self) -> list[int]:
        """Return the entries that wait for an attempt of a client."""
        entries = {step.entry for row in self.plan.triggered for step in row.steps}
        return sorted(entries - self._fired)

    def next_step(self) -> Step | None:
        """Return the step that comes next."""
        return self.plan.steps[self.done] if self.done < len(self.plan.steps) else None

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Play until the end of the scenario. Cancelling is safe: what was added is removed in any case."""
        self._zero_s = trio.current_time()
        self.done = self._attempts = 0
        self._fired = set()
        try:
            async with trio.open_nursery() as nursery:
                with self.proxy.ground.events.watch(partial(self._see, nursery)):
                    task_status.started()
                    for step in self.plan.steps:
                        await trio.sleep_until(self._zero_s + step.at_s)
                        self.done += 1
                        self._make(step)
                    await trio.sleep_until(self._zero_s + self.duration_s)
                nursery.cancel_scope.cancel()
        finally:
            self.undo()

    def undo(self) -> None:
        """Remove all that it has added."""
        for place in list(self._added):
            self._remove(place)
        for place in list(self._down):
            self._lift(place)

    def name_of(self, entry: int) -> str:
        """Return how an entry is spoken of: its own name, or what it is."""
        row = self.plan.scenario.timeline[entry]
        return row.name or f"{row.kind} {row.word}"

    def _see(self, nursery: trio.Nursery, kind: Kind, fields: Mapping[str, Any]) -> None:
        """Count the clients that connect; what waits for one of them begins before it is served."""
        if kind != "connection_opened" or fields["proxy"] != self.proxy.name:
            return
        self._attempts += 1
        for row in self.plan.triggered:
            if row.trigger.number == self._attempts:
                self._fire(nursery, row)

    def _fire(self, nursery: trio.Nursery, row: Triggered) -> None:
        start_s = trio.current_time() - self._zero_s
        ordered = sorted(row.steps, key=lambda step: (step.at_s, step.order))
        first = ordered[0]
        steps = [replace(step, at_s=round(start_s + row.then_s + step.at_s, 3)) for step in ordered]
        self._fired.add(first.entry)
        begins = first.change == "on" and first.at_s == row.then_s == 0
        # this client is among those whom `down` closes, and it is not yet ready to be closed
        if begins and not isinstance(self.plan.settings[first.entry], words.Down):
            self._make(steps.pop(0))
        nursery.start_soon(self._play_steps, steps)

    async def _play_steps(self, steps: list[Step]) -> None:
        for step in steps:
            await trio.sleep_until(self._zero_s + step.at_s)
            self._make(step)

    def _make(self, step: Step) -> None:
        self._apply(step)
        self.told(step)

    def _apply(self, step: Step) -> None:
        place = step.entry, step.occurrence
        down = isinstance(self.plan.settings[step.entry], words.Down)
        if step.change == "off":
            (self._lift if down else self._remove)(place)
        elif down:
            # a proxy that its user has disabled stays theirs
            if self.proxy.enabled or self._down:
                self._down.add(place)
                self.proxy.stop()
        else:
            self._add(place)
            if step.change == "instant":
                self._remove(place)

    def _add(self, place: tuple[int, int]) -> None:
        entry = self.plan.scenario.timeline[place[0]]
        settings = self.plan.settings[place[0]]
        assert isinstance(settings, ToxicSettings | words.Fault), "actions are refused before"
        toxic = Toxic(
            name=self._free_name(place[0]),
            type=entry.word,
            stream=entry.stream,
            toxicity=Float32(entry.toxicity),
            attributes=_shown(settings),
            settings=settings,
        )
        self._added[place] = toxic.name
        self.proxy.add(toxic)

    def _free_name(self, entry: int) -> str:
        row = self.plan.scenario.timeline[entry]
        wanted = name = f"{PREFIX}:{entry + 1}:{row.name or row.word}"
        taken = {toxic.name for toxic in self.proxy.toxics()}
        number = 1
        while name in taken:
            number += 1
            name = f"{wanted}:{number}"
        return name

    def _remove(self, place: tuple[int, int]) -> None:
        name = self._added.pop(place, None)
        if name is None:
            return
        try:
            self.proxy.remove(name)
        except ApiError:
            LOG.info("toxic %s of the timeline was removed before its end", name)

    def _lift(self, place: tuple[int, int]) -> None:
        if place not in self._down:
            return
        self._down.discard(place)
        if self._down or not self._there():
            return
        host, port = split(self.proxy.listen)
        try:
            self.proxy.start(Address(host=host, port=port_of(port)))
        except AddressError as error:
            LOG.warning("proxy %s stays disabled: %s", self.proxy.name, error)


def _shown(settings: ToxicSettings | words.Fault) -> dict[str, Any]:
    return settings.model_dump(mode="json", by_alias=True, exclude_none=True)
