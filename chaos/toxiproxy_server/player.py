"""The timeline that a server plays: at most one at a time, for `POST`, `GET` and `DELETE /timeline`."""

from __future__ import annotations

from typing import Any

import trio

from chaos.errors import InvalidScenario, UsageError
from chaos.faults.wire import ApiError, bad_body, plain
from chaos.scenario.model import Scenario
from chaos.scenario.plan import Step, make_plan
from chaos.toxiproxy_server.collection import Collection
from chaos.toxiproxy_server.playable import from_rows, read_playable
from chaos.toxiproxy_server.proxy import Proxy
from chaos.toxiproxy_server.timeline import Timeline

_KEYS = ("proxy", "scenario", "cell", "timeline", "duration")


class Player:
    """Plays a timeline on a proxy of a collection; its task lives in the ground's nursery."""

    def __init__(self, collection: Collection) -> None:
        self._collection = collection
        self._timeline: Timeline | None = None
        self._scope = trio.CancelScope()

    def shut(self) -> None:
        """Stop what plays, if anything does."""
        if self._current() is not None:
            self.stop()

    def play(self, body: Any) -> dict[str, Any]:
        """Start what a request asks for, and return `status`. Raises ApiError, and then nothing has started."""
        name, scenario = _read(body)
        proxy = self._collection.get(name)
        if self._current() is not None:
            raise ApiError("a timeline is already playing", 409)
        plan = make_plan(scenario, self._collection.ground.seed)
        timeline = Timeline(
            plan=plan, proxy=proxy, told=self._stepped, there=lambda: self._there(proxy)
        )
        self._timeline, self._scope = timeline, trio.CancelScope()
        self._tell_of(timeline, "timeline_started")
        self._collection.ground.nursery.start_soon(self._run, timeline, self._scope)
        return self.status()

    def status(self) -> dict[str, Any]:
        """Return what plays, as the API shows it."""
        timeline = self._current()
        if timeline is None:
            return {"playing": False}
        step = timeline.next_step()
        return {
            "playing": True,
            "proxy": timeline.proxy.name,
            "scenario": timeline.plan.scenario.title,
            "elapsed_s": round(timeline.elapsed_s, 3),
            "of": timeline.duration_s,
            "in_force": [timeline.name_of(entry) for entry in timeline.in_force()],
            "next": None if step is None else _step_body(timeline, step),
        }

    def stop(self) -> None:
        """Stop it and remove what it added, now. Raises ApiError (404) if nothing plays."""
        timeline = self._current()
        if timeline is None:
            raise ApiError("timeline not found", 404)
        self._end(timeline)

    def _current(self) -> Timeline | None:
        """Return what plays; it ends when its proxy is deleted or replaced."""
        timeline = self._timeline
        if timeline is not None and not self._there(timeline.proxy):
            self._end(timeline)
        return self._timeline

    def _there(self, proxy: Proxy) -> bool:
        return self._collection.proxies.get(proxy.name) is proxy

    async def _run(self, timeline: Timeline, scope: trio.CancelScope) -> None:
        with scope:
            await timeline.run()
        if self._timeline is timeline:
            self._end(timeline)

    def _end(self, timeline: Timeline) -> None:
        self._timeline = None
        self._scope.cancel()
        timeline.undo()
        self._tell_of(timeline, "timeline_ended")

    def _tell_of(self, timeline: Timeline, kind: Any, **fields: Any) -> None:
        self._collection.ground.events.tell(
            kind, proxy=timeline.proxy.name, scenario=timeline.plan.scenario.title, **fields
        )

    def _stepped(self, step: Step) -> None:
        timeline = self._timeline
        if timeline is None:
            return
        if not self._there(timeline.proxy):
            self._end(timeline)
            return
        self._tell_of(timeline, "timeline_step", **_step_body(timeline, step))


def _step_body(timeline: Timeline, step: Step) -> dict[str, Any]:
    return {
        "at_s": step.at_s,
        "entry": step.entry + 1,
        "name": timeline.name_of(step.entry),
        "change": step.change,
    }


def _read(request: Any) -> tuple[str, Scenario]:
    """Return the proxy's name and the scenario of a request's body. Raises ApiError (400)."""
    body = plain(request)
    if not isinstance(body, dict):
        raise bad_body("expected an object with proxy, and scenario or timeline")
    unknown = [key for key in body if key not in _KEYS]
    if unknown:
        raise bad_body(f"unknown field {unknown[0]}, expected {', '.join(_KEYS)}")
    name, text, cell = body.get("proxy"), body.get("scenario"), body.get("cell")
    if not isinstance(name, str) or not name:
        raise ApiError("missing required field: proxy", 400)
    if ("scenario" in body) == ("timeline" in body):
        raise bad_body("expected scenario or timeline, just one of them")
    if not isinstance(cell, str | None):
        raise bad_body("expected cell to be a text")
    try:
        if "timeline" in body:
            return name, _from_timeline(body)
        if not isinstance(text, str):
            raise bad_body("expected scenario to be a text of YAML")
        return name, read_playable(text, "scenario", cell=cell)
    except (InvalidScenario, UsageError) as error:
        raise ApiError(str(error), 400) from None


def _from_timeline(body: dict[str, Any]) -> Scenario:
    if not isinstance(body["timeline"], list):
        raise bad_body("expected timeline to be a list of entries")
    if not isinstance(body.get("duration"), str):
        raise bad_body("expected duration to be a text such as 60s")
    return from_rows(body["timeline"], body["duration"])
