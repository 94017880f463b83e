"""A scenario's timeline played on a proxy: its toxics and faults come and go at their times.

`ProxyTimeline` plays one, once. `Player` holds the one that a server plays, at most one at a time, for `POST`, `GET`
and `DELETE /timeline`.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from itertools import chain, count
from typing import Any

import trio

from chaos.errors import InvalidScenario, UsageError
from chaos.running.timeline import Timeline
from chaos.running.watch import TriggerWatch
from chaos.scenario.model import Scenario
from chaos.scenario.plan import Plan, Step, Triggered, make_plan
from chaos.toxiproxy_server.address import Address, AddressError, port_of, split
from chaos.toxiproxy_server.collection import Collection
from chaos.toxiproxy_server.events import Kind
from chaos.toxiproxy_server.go.gojson import Float32
from chaos.toxiproxy_server.go.wire import ApiError, Toxic, bad_body, plain
from chaos.toxiproxy_server.playable import from_rows, read_playable
from chaos.toxiproxy_server.proxy import Proxy
from chaos.vocabulary import faults as words
from chaos.vocabulary.base import format_duration
from chaos.vocabulary.toxics import Toxic as ToxicSettings

LOG = logging.getLogger("trio-chaos.toxiproxy-server")
PREFIX = "timeline"
LOOP_S_MIN = 0.1  # of a round: a shorter one would keep the server busy with nothing else
_KEYS = ("proxy", "scenario", "cell", "timeline", "duration", "loop")


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
        self.timeline = Timeline(plan=plan, apply=self._apply, zero_s=trio.current_time())
        self.proxy = proxy
        self.told = told
        self._is_there = is_there
        self._added: dict[tuple[int, int], str] = {}  # window → name of the toxic
        self._down: set[tuple[int, int]] = set()  # windows that have disabled the proxy

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Play until the end of the scenario. Cancelling is safe: what was added is removed in any case."""
        attempts = TriggerWatch(self.timeline.plan.triggered, self._fire)
        try:
            with self.proxy.shared.events.watch(partial(self._see, attempts)):
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
        closes = isinstance(self.timeline.plan.settings[first.entry], words.Down)
        self.timeline.fire(row, at_once=is_due and not closes)

    def _apply(self, step: Step) -> None:
        self._change(step)
        waited = self.timeline.plan.scenario.timeline[step.entry].on is not None
        self.told(replace(step, at_s=round(step.at_s, 3)) if waited else step)

    def _change(self, step: Step) -> None:
        window = step.entry, step.occurrence
        is_down = isinstance(self.timeline.plan.settings[step.entry], words.Down)
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
        entry = self.timeline.plan.scenario.timeline[window[0]]
        settings = self.timeline.plan.settings[window[0]]
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
        row = self.timeline.plan.scenario.timeline[entry]
        wanted = f"{PREFIX}:{entry + 1}:{row.name or row.word}"
        taken = {toxic.name for toxic in self.proxy.toxics()}
        names = chain([wanted], (f"{wanted}:{number}" for number in count(2)))
        return next(name for name in names if name not in taken)

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


class Player:
    """Plays a timeline on a proxy of a collection; its task lives in the shared's nursery."""

    def __init__(self, collection: Collection) -> None:
        self._collection = collection
        self._playing: ProxyTimeline | None = None
        self._scope = trio.CancelScope()
        self._round, self._loop = 1, False

    def close(self) -> bool:
        """Stop what plays; return whether anything did."""
        playing = self._current()
        if playing is not None:
            self._end(playing)
        return playing is not None

    async def play(self, body: Any) -> dict[str, Any]:
        """Start what a request asks for, and return `status`. Raises ApiError, and then nothing has started."""
        shared = self._collection.shared
        # a scenario may be long, and connections need not wait for it
        name, plan, loop = await trio.to_thread.run_sync(_read_plan, body, shared.seed)
        proxy = self._collection.get(name)
        if self._current() is not None:
            raise ApiError("a timeline is already playing", 409)
        self._playing = ProxyTimeline(
            plan=plan,
            proxy=proxy,
            told=self._stepped,
            is_there=lambda: self._is_there(proxy),
        )
        self._scope, self._round, self._loop = trio.CancelScope(), 1, loop
        self._tell_of(self._playing, "timeline_started")
        # who is told that it plays may count on that: the next client is the first
        await shared.nursery.start(self._run, self._playing, self._scope)
        return self.status()

    def status(self) -> dict[str, Any]:
        """Return what plays, as the API shows it."""
        playing = self._current()
        if playing is None:
            return {"playing": False}
        timeline = playing.timeline
        step = timeline.next_step()
        return {
            "playing": True,
            "proxy": playing.proxy.name,
            "scenario": timeline.plan.scenario.title,
            "elapsed_s": round(timeline.elapsed_s, 3),
            "of": timeline.duration_s,
            "in_force": [timeline.name_of(entry) for entry in timeline.in_force()],
            "waiting": [timeline.name_of(entry) for entry in timeline.waiting()],
            "loop": self._loop,
            "round": self._round,
            "next": None if step is None else _step_body(timeline, step),
        }

    def stop(self) -> None:
        """Stop it and remove what it added, now. Raises ApiError (404) if nothing plays."""
        if not self.close():
            raise ApiError("timeline not found", 404)

    def _current(self) -> ProxyTimeline | None:
        """Return what plays; it ends when its proxy is deleted or replaced."""
        if self._playing is not None and not self._is_there(self._playing.proxy):
            self._end(self._playing)
        return self._playing

    def _is_there(self, proxy: Proxy) -> bool:
        return self._collection.proxies.get(proxy.name) is proxy

    async def _run(
        self,
        playing: ProxyTimeline,
        scope: trio.CancelScope,
        *,
        task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
    ) -> None:
        with scope:
            await playing.run(task_status=task_status)
            while self._loop and self._playing is playing:
                self._round += 1
                await playing.run()
        if self._playing is playing:
            self._end(playing)

    def _end(self, playing: ProxyTimeline) -> None:
        self._playing = None
        self._scope.cancel()
        playing.undo()
        self._tell_of(playing, "timeline_ended")

    def _tell_of(self, playing: ProxyTimeline, kind: Any, **fields: Any) -> None:
        title = playing.timeline.plan.scenario.title
        self._collection.shared.events.tell(
            kind, proxy=playing.proxy.name, scenario=title, **fields
        )

    def _stepped(self, step: Step) -> None:
        playing = self._current()
        if playing is not None:
            self._tell_of(playing, "timeline_step", **_step_body(playing.timeline, step))


def _step_body(timeline: Timeline, step: Step) -> dict[str, Any]:
    return {
        "at_s": step.at_s,
        "entry": step.entry + 1,
        "name": timeline.name_of(step.entry),
        "change": step.change,
    }


def _read_plan(request: Any, seed: int) -> tuple[str, Plan, bool]:
    """Return the proxy's name, what is played on it, and whether again and again. Raises ApiError (400)."""
    name, scenario, loop = _read(request)
    return name, make_plan(scenario, seed), loop


def _read(request: Any) -> tuple[str, Scenario, bool]:
    """Return the proxy's name, the scenario, and whether it plays again and again. Raises ApiError (400)."""
    body = plain(request)
    if not isinstance(body, dict):
        raise bad_body("expected an object with proxy, and scenario or timeline")
    unknown = [key for key in body if key not in _KEYS]
    if unknown:
        raise bad_body(f"unknown field {unknown[0]}, expected {', '.join(_KEYS)}")
    name, loop = body.get("proxy"), body.get("loop")
    if not isinstance(name, str) or not name:
        raise ApiError("missing required field: proxy", 400)
    whole = "timeline" not in body  # a whole scenario
    expectations = (
        (isinstance(loop, bool | None), "loop to be true or false"),
        (("scenario" in body) == whole, "scenario or timeline, just one of them"),
        (not whole or isinstance(body.get("scenario"), str), "scenario to be a text of YAML"),
        (not whole or isinstance(body.get("cell"), str | None), "cell to be a text"),
        (not whole or "duration" not in body, "no duration beside scenario, which has its own"),
        (whole or isinstance(body.get("timeline"), list), "timeline to be a list of entries"),
        (whole or isinstance(body.get("duration"), str), "duration to be a text such as 60s"),
        (whole or "cell" not in body, "cell only beside scenario"),
    )
    for is_met, expected in expectations:
        if not is_met:
            raise bad_body(f"expected {expected}")
    try:
        if whole:
            scenario = read_playable(body["scenario"], "scenario", cell=body.get("cell"))
        else:
            scenario = from_rows(body["timeline"], body["duration"])
    except (InvalidScenario, UsageError) as error:
        raise ApiError(str(error), 400) from None
    if loop and scenario.duration_s < LOOP_S_MIN:
        raise bad_body(f"expected a duration of at least {format_duration(LOOP_S_MIN)} with loop")
    return name, scenario, bool(loop)
