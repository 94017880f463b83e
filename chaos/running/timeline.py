"""A plan that is played: each step is applied at its time, by whoever it acts on.

What the steps act on is not known here: a run applies them to its network and its subjects, the Toxiproxy server to
one of its proxies. Planned steps come by the clock; those that wait for an event come once `fire` is called for them.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field, replace
from operator import attrgetter

import trio

from chaos.scenario.plan import Plan, Step, Triggered


@dataclass(slots=True, kw_only=True)
class Timeline:
    """Plays a plan, any number of times one after the other. Times are seconds since the start of the last.

    `apply` is called for each step at its time, and the next one waits until what it returns has been awaited. Steps
    that waited for an event then have their real times. `done` counts the planned steps that have begun. `windows`
    are those that are open, as (entry, occurrence), in the order in which they opened; `apply` may take its own out.
    """

    plan: Plan
    apply: Callable[[Step], Awaitable[None] | None]
    zero_s: float = 0.0  # of the last start, on trio's clock
    done: int = 0
    windows: dict[tuple[int, int], None] = field(default_factory=dict)
    _fired: set[int] = field(default_factory=set)
    _nursery: trio.Nursery | None = None

    @property
    def duration_s(self) -> float:
        """How long it plays."""
        return self.plan.scenario.duration_s

    @property
    def elapsed_s(self) -> float:
        """How long it has played."""
        return min(trio.current_time() - self.zero_s, self.duration_s)

    def in_force(self) -> list[int]:
        """Return the entries whose windows are open, by their place in the timeline."""
        return sorted({entry for entry, _ in self.windows})

    def waiting(self) -> list[int]:
        """Return the entries that wait for an event."""
        entries = {step.entry for row in self.plan.triggered for step in row.steps}
        return sorted(entries - self._fired)

    def next_step(self) -> Step | None:
        """Return the step of the plan that comes next."""
        return self.plan.steps[self.done] if self.done < len(self.plan.steps) else None

    def name_of(self, entry: int) -> str:
        """Return how an entry is spoken of: its own name, or what it is."""
        row = self.plan.scenario.timeline[entry]
        return row.name or f"{row.kind} {row.word}"

    async def play(
        self, zero_s: float, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
    ) -> None:
        """Play from `zero_s` of trio's clock until the scenario's duration is over. Cancelling is safe."""
        self.zero_s, self.done = zero_s, 0
        self._fired.clear()
        self.windows.clear()
        async with trio.open_nursery() as nursery:
            # a nursery takes tasks for as long as its body runs, so nothing may be fired after that
            self._nursery = nursery
            try:
                task_status.started()
                for step in self.plan.steps:
                    await trio.sleep_until(zero_s + step.at_s)
                    self.done += 1
                    await self._apply(step)
                await trio.sleep_until(zero_s + self.duration_s)
                nursery.cancel_scope.cancel()
            finally:
                self._nursery = None

    def fire(self, row: Triggered, *, at_once: bool = False) -> None:
        """Begin with steps that have waited for an event, which is now. Does nothing while nothing plays.

        With `at_once` the first is applied before this returns, which takes an `apply` that does not wait.
        """
        if self._nursery is None:
            return
        self._fired.update(step.entry for step in row.steps)
        base_s = trio.current_time() - self.zero_s + row.then_s
        ordered = sorted(row.steps, key=attrgetter("order"))
        steps = [replace(step, at_s=base_s + step.at_s) for step in ordered]
        if at_once:
            self._begin(steps.pop(0))
        self._nursery.start_soon(self._apply_each, steps)

    async def _apply_each(self, steps: Sequence[Step]) -> None:
        for step in steps:
            await trio.sleep_until(self.zero_s + step.at_s)
            await self._apply(step)

    async def _apply(self, step: Step) -> None:
        waits = self._begin(step)
        if waits is not None:
            await waits

    def _begin(self, step: Step) -> Awaitable[None] | None:
        window = step.entry, step.occurrence
        if step.change == "on":
            self.windows[window] = None
        elif step.change == "off":
            self.windows.pop(window, None)
        return self.apply(step)
