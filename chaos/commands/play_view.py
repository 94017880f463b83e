"""What `trio-chaos play` shows: a live table on a terminal, plain lines elsewhere."""

from __future__ import annotations

import trio
from rich.markup import escape

from chaos.commands.live import Display, DisplayOwner, Row, Screen, TerminalDisplay, open_display
from chaos.errors import one_line
from chaos.running.timeline import Timeline
from chaos.scenario.plan import Step
from chaos.toxiproxy_server.proxy import Counter, SharedState
from chaos.trace import Stream

REFRESH_S = 0.25
LINE_EVERY_S = 10.0
_WORDS = {"on": "begins", "off": "ends", "instant": "happens"}
_COLOURS = {"coming": "dim", "in force": "bold yellow", "over": "green"}


class PlayView(DisplayOwner):
    """Shows a timeline that plays. A context manager."""

    def __init__(
        self, timeline: Timeline, shared: SharedState, display: Display | None = None
    ) -> None:
        """Show nothing yet."""
        self.timeline = timeline
        self.shared = shared
        # our own task draws: a thread would read what is being changed; last, since the screen is asked for at once
        super().__init__(
            display or open_display(self.screen, every_s=LINE_EVERY_S, by_itself=False)
        )

    def say(self, line: str) -> None:
        """Show a line that stays."""
        self._display.say(escape(one_line(line)))

    def stepped(self, step: Step) -> None:
        """Show what a step did."""
        traffic = "" if isinstance(self._display, TerminalDisplay) else f"  ({self.traffic()})"
        self.say(f"{self.step_line(step)}{traffic}")

    async def refresh(self) -> None:
        """Keep what is shown up to date, until cancelled."""
        while True:
            self._display.tick()
            await trio.sleep(REFRESH_S)

    def screen(self) -> Screen:
        """Return what is shown now."""
        timeline = self.timeline
        entries = range(len(timeline.plan.scenario.timeline))
        rows = sorted(entries, key=lambda entry: self.state(entry) == "over")
        return Screen(
            rows=[self._row(entry) for entry in rows],
            status=f"{timeline.elapsed_s:.1f} s of {timeline.duration_s:g} s; {self.traffic()}",
            done=timeline.elapsed_s / timeline.duration_s,
        )

    def _row(self, entry: int) -> Row:
        state = self.state(entry)
        title = one_line(self.timeline.name_of(entry))
        return Row(word=state, title=title, note=self.when(entry), style=_COLOURS[state])

    def traffic(self) -> str:
        """Return the open connections and the bytes each way."""
        count = len(self.shared.connections)
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
        return f"{step.at_s:8.3f} s  {self.timeline.name_of(step.entry)} {_WORDS[step.change]}"

    def _sent(self, stream: Stream) -> int:
        rows: dict[tuple[str, str, str, str], Counter] = self.shared.totals
        return sum(counter.sent for labels, counter in rows.items() if labels[0] == stream)


def show_bytes(size: float) -> str:
    """Return bytes in the largest unit that leaves a figure above one; 1 kB is 1000 bytes."""
    for unit in ("B", "kB", "MB", "GB"):
        if size < 1000 or unit == "GB":
            return f"{size:.0f} B" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1000
    raise AssertionError("the largest unit takes all")
