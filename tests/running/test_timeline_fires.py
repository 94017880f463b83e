"""A step that waits for an event may be fired at any moment, also while its timeline ends."""

from __future__ import annotations

import trio
import trio.testing

from chaos.running.timeline import Timeline
from chaos.scenario.load import load_text
from chaos.scenario.plan import make_plan

TEXT = """
version: 1
name: fired
duration: 10s
server: {use: reference}
client: {use: reference}
timeline:
  - {on: {event: attempt}, toxic: latency, attributes: {latency: 1}}
expect: [no_leaks]
"""


class Fire(trio.abc.Instrument):
    """Fires after each turn of each task. Exceptions are kept, since trio would only log them."""

    def __init__(self, timeline: Timeline) -> None:
        self.errors: list[BaseException] = []
        self.fired = 0
        self._timeline = timeline

    def after_task_step(self, task: trio.lowlevel.Task) -> None:
        if "_apply_each" in task.name:
            return
        try:
            self._timeline.fire(self._timeline.plan.triggered[0])
        except BaseException as error:
            self.errors.append(error)
        self.fired += 1


async def test_firing_while_it_ends_is_no_mistake(autojump_clock: trio.testing.MockClock) -> None:
    timeline = Timeline(
        plan=make_plan(load_text(TEXT.encode(), "here")[0], 1), apply=lambda _: None
    )
    fire = Fire(timeline)
    trio.lowlevel.add_instrument(fire)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(timeline.play, trio.current_time())
        for _ in range(100):
            await trio.sleep(0.15)
    trio.lowlevel.remove_instrument(fire)
    assert fire.errors == []
    assert fire.fired > 100
