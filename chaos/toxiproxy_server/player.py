"""The timeline that a server plays: at most one at a time, for `POST`, `GET` and `DELETE /timeline`."""

from __future__ import annotations

from typing import Any

import trio

from chaos.errors import InvalidScenario, UsageError
from chaos.running.timeline import Timeline
from chaos.scenario.model import Scenario
from chaos.scenario.plan import Step, make_plan
from chaos.toxiproxy_server.collection import Collection
from chaos.toxiproxy_server.go.wire import ApiError, bad_body, plain
from chaos.toxiproxy_server.playable import from_rows, read_playable
from chaos.toxiproxy_server.proxy import Proxy
from chaos.toxiproxy_server.timeline import ProxyTimeline
from chaos.vocabulary.base import format_duration

_KEYS = ("proxy", "scenario", "cell", "timeline", "duration", "loop")
LOOP_S_MIN = 0.1  # of a round: a shorter one would keep the server busy with nothing else


class Player:
    """Plays a timeline on a proxy of a collection; its task lives in the ground's nursery."""

    def __init__(self, collection: Collection) -> None:
        self._collection = collection
        self._playing: ProxyTimeline | None = None
        self._scope = trio.CancelScope()
        self._round, self._loop = 1, False

    def close(self) -> None:
        """Stop what plays, if anything does."""
        playing = self._current()
        if playing is not None:
            self._end(playing)

    async def play(self, body: Any) -> dict[str, Any]:
        """Start what a request asks for, and return `status`. Raises ApiError, and then nothing has started."""
        name, scenario, loop = _read(body)
        proxy, ground = self._collection.get(name), self._collection.ground
        if self._current() is not None:
            raise ApiError("a timeline is already playing", 409)
        self._playing = ProxyTimeline(
            plan=make_plan(scenario, ground.seed),
            proxy=proxy,
            told=self._stepped,
            is_there=lambda: self._is_there(proxy),
        )
        self._scope, self._round, self._loop = trio.CancelScope(), 1, loop
        self._tell_of(self._playing, "timeline_started")
        # who is told that it plays may count on that: the next client is the first
        await ground.nursery.start(self._run, self._playing, self._scope)
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
        playing = self._current()
        if playing is None:
            raise ApiError("timeline not found", 404)
        self._end(playing)

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
        self._collection.ground.events.tell(
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
    if not isinstance(loop, bool | None):
        raise bad_body("expected loop to be true or false")
    if ("scenario" in body) == ("timeline" in body):
        raise bad_body("expected scenario or timeline, just one of them")
    try:
        scenario = _from_timeline(body) if "timeline" in body else _from_scenario(body)
    except (InvalidScenario, UsageError) as error:
        raise ApiError(str(error), 400) from None
    if loop and scenario.duration_s < LOOP_S_MIN:
        raise bad_body(f"expected a duration of at least {format_duration(LOOP_S_MIN)} with loop")
    return name, scenario, bool(loop)


def _from_scenario(body: dict[str, Any]) -> Scenario:
    text, cell = body["scenario"], body.get("cell")
    if not isinstance(text, str):
        raise bad_body("expected scenario to be a text of YAML")
    if not isinstance(cell, str | None):
        raise bad_body("expected cell to be a text")
    if "duration" in body:
        raise bad_body("expected no duration beside scenario, which has its own")
    return read_playable(text, "scenario", cell=cell)


def _from_timeline(body: dict[str, Any]) -> Scenario:
    if not isinstance(body["timeline"], list):
        raise bad_body("expected timeline to be a list of entries")
    if not isinstance(body.get("duration"), str):
        raise bad_body("expected duration to be a text such as 60s")
    if "cell" in body:
        raise bad_body("expected cell only beside scenario")
    return from_rows(body["timeline"], body["duration"])
