"""What `trio-chaos play` shows: a live table on a terminal, plain lines elsewhere."""

from __future__ import annotations

import sys
from collections.abc import Callable
from types import TracebackType
from typing import Protocol, Self

import trio
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from chaos.errors import one_line
from chaos.scenario.plan import Step
from chaos.toxiproxy_server.connection import Counter
from chaos.toxiproxy_server.proxy import Ground
from chaos.toxiproxy_server.timeline import Timeline
from chaos.trace import Stream

ROWS_MAX = 20
REFRESH_S = 0.25
LINE_S = 10.0
_WORDS = {"on": "begins", "off": "ends", "instant": "happens"}
_COLOURS = {"coming": "dim", "in force": "bold yellow", "over": "green"}


class View(Protocol):
    """What shows a timeline that plays; a context manager."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None: ...

    def say(self, line: str) -> None:
        """Show a line that stays."""

    def stepped(self, step: Step) -> None:
        """Show that a step was made."""

    async def refresh(self) -> None:
        """Keep what is shown up to date, until cancelled."""


def make_view(timeline: Timeline, ground: Ground) -> View:
    """Return the view for where standard output leads."""
    if Console(file=sys.stdout).is_terminal:
        return LiveView(timeline, ground)
    return PlainView(timeline, ground, lambda line: print(line, flush=True))


class _Shown:
    """What both views know."""

    def __init__(self, timeline: Timeline, ground: Ground) -> None:
        self.timeline = timeline
        self.ground = ground

    def traffic(self) -> str:
        """Return the open connections and the bytes each way."""
        count = len(self.ground.connections)
        up, down = self._sent("upstream"), self._sent("downstream")
        return f"{count} open; {show_bytes(up)} to the upstream, {show_bytes(down)} from it"

    def state(self, entry: int) -> str:
        """Return whether an entry is coming, in force or over, or waits for a client."""
        if entry in self.timeline.in_force():
            return "in force"
        if entry in self.timeline.waiting():
            return "waiting"
        steps = self.timeline.plan.steps
        return "coming" if any(s.entry == entry for s in steps[self.timeline.done :]) else "over"

    def when(self, entry: int) -> str:
        """Return the times of an entry that matter now: those of its next window, or else of its last."""
        on = self.timeline.plan.scenario.timeline[entry].on
        if on is not None:
            return f"at client {on.number}"
        steps = self.timeline.plan.steps
        own = [(n, s) for n, s in enumerate(steps) if s.entry == entry]
        occurrence = next((s.occurrence for n, s in own if n >= self.timeline.done), None)
        if occurrence is None:
            occurrence = own[-1][1].occurrence
        times = [f"{s.at_s:g}" for _, s in own if s.occurrence == occurrence]
        many = self.timeline.plan.scenario.timeline[entry].times
        return " to ".join(times) + " s" + (f" ({occurrence} of {many})" if many > 1 else "")

    def step_line(self, step: Step) -> str:
        """Return a step as a line."""
        return one_line(
            f"{step.at_s:8.3f} s  {self.timeline.name_of(step.entry)} {_WORDS[step.change]}"
        )

    def _sent(self, stream: Stream) -> int:
        rows: dict[tuple[str, str, str, str], Counter] = self.ground.totals
        return sum(counter.sent for labels, counter in rows.items() if labels[0] == stream)


class PlainView(_Shown):
    """Prints a line for each step, and one about the traffic from time to time."""

    def __init__(self, timeline: Timeline, ground: Ground, write: Callable[[str], None]) -> None:
        super().__init__(timeline, ground)
        self._write = write

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        return

    def say(self, line: str) -> None:
        """Print a line."""
        self._write(one_line(line))

    def stepped(self, step: Step) -> None:
        """Print what a step did."""
        self._write(f"{self.step_line(step)}  ({self.traffic()})")

    async def refresh(self) -> None:
        """Print the traffic each ten seconds."""
        while True:
            await trio.sleep(LINE_S)
            self._write(f"{self.timeline.elapsed_s:8.3f} s  {self.traffic()}")


class LiveView(_Shown):
    """A table of the entries under the lines that stay."""

    def __init__(self, timeline: Timeline, ground: Ground, console: Console | None = None) -> None:
        """Show nothing yet; use it as a context manager."""
        super().__init__(timeline, ground)
        self._console = console or Console(file=sys.stdout, highlight=False)
        # refreshed by our own task: a thread of rich's would read what is being changed
        self._live = Live(
            console=self._console, get_renderable=self.render, auto_refresh=False, transient=True
        )

    def __enter__(self) -> Self:
        self._live.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._live.stop()

    def say(self, line: str) -> None:
        """Print a line above the table."""
        self._console.print(Text(one_line(line)))

    def stepped(self, step: Step) -> None:
        """Print what a step did, above the table."""
        self.say(self.step_line(step))

    async def refresh(self) -> None:
        """Draw the table anew, four times a second."""
        while True:
            self._live.refresh()
            await trio.sleep(REFRESH_S)

    def render(self) -> RenderableType:
        """Return what is shown now."""
        timeline = self.timeline
        table = Table.grid(padding=(0, 2))
        entries = range(len(timeline.plan.scenario.timeline))
        rows = sorted(entries, key=lambda entry: self.state(entry) == "over")
        for entry in rows[:ROWS_MAX]:
            state = self.state(entry)
            name = Text(one_line(timeline.name_of(entry)), no_wrap=True, overflow="ellipsis")
            table.add_row(Text(f"  {state}", style=_COLOURS[state]), name, self.when(entry))
        if len(rows) > ROWS_MAX:
            table.add_row("", Text(f"and {len(rows) - ROWS_MAX} more", style="dim"), "")
        head = f"{timeline.elapsed_s:.1f} s of {timeline.duration_s:g} s; {self.traffic()}"
        return Group(Text(head, style="bold"), table)


def show_bytes(size: float) -> str:
    """Return bytes in the largest unit that leaves a figure above one; 1 kB is 1000 bytes."""
    for unit in ("B", "kB", "MB", "GB"):
        if size < 1000 or unit == "GB":
            return f"{size:.0f} B" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1000
    raise AssertionError("the largest unit takes all")
