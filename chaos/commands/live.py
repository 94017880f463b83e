"""What a person sees while something runs: lines that stay, and on a terminal a screen under them that changes.

A command gives a function that returns the screen as it is now, and says what stays. On a terminal the screen is
drawn eight times a second; elsewhere its status is printed as a line now and then. `NO_COLOR` drops colour only.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Self

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from chaos.errors import escaped, one_line

ROWS_MAX = 12
PER_SECOND = 8
# the share of the width that a bar takes, and below which width there is none
BAR_SHARE = 6
BAR_COLUMNS_MIN = 70


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One thing that is under way. `done` is its share that is over, for a bar; None draws no bar."""

    word: str
    title: str
    done: float | None = None
    note: str = ""
    style: str = "cyan"


@dataclass(frozen=True, slots=True, kw_only=True)
class Screen:
    """What is shown now: a row for each thing under way, and one line of status with the share that is done."""

    rows: Sequence[Row] = ()
    status: str = ""
    done: float | None = None


class Display:
    """Prints lines as they come, and the status as a line each `every_s` seconds; None prints none."""

    def __init__(
        self,
        screen: Callable[[], Screen],
        *,
        write: Callable[[str], object] = print,
        every_s: float | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Show nothing yet; use it as a context manager."""
        self._screen = screen
        self._write = write
        self._every_s = every_s
        self._clock = clock
        self._said_s = clock()
        self.width = 100

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        return

    def say(self, markup: str) -> None:
        """Print text that stays; it may have rich's markup."""
        self._write(Text.from_markup(escaped(markup)).plain)

    def tick(self, *, news: bool = False) -> None:
        """Show what is new. This costs next to nothing while nothing is due; `news` makes it due."""
        now_s = self._clock()
        if self._every_s is not None and (news or now_s - self._said_s >= self._every_s):
            self._said_s = now_s
            self._write(one_line(self._screen().status))


class TerminalDisplay(Display):
    """Draws the screen under the lines that stay, in place."""

    def __init__(
        self,
        screen: Callable[[], Screen],
        *,
        console: Console | None = None,
        by_itself: bool = True,
    ) -> None:
        """Show nothing yet. Without `by_itself` only `tick` draws, not a thread."""
        super().__init__(screen)
        self._console = console or Console(file=sys.stdout, highlight=False)
        self.width = self._console.width
        self._is_open = False
        self._live = Live(
            console=self._console,
            get_renderable=self._render,
            refresh_per_second=PER_SECOND,
            auto_refresh=by_itself,
            transient=True,
        )
        self._by_itself = by_itself

    def _render(self) -> RenderableType:
        # rich asks once while it is made, when the screen's owner may not be ready
        return render(self._screen(), self._console.width) if self._is_open else ""

    def __enter__(self) -> Self:
        self._is_open = True
        self._live.start(refresh=True)
        return self

    def __exit__(self, *exc: object) -> None:
        self._live.stop()

    def say(self, markup: str) -> None:
        """Print text above the screen."""
        self._console.print(Text.from_markup(escaped(markup)), soft_wrap=True)

    def tick(self, *, news: bool = False) -> None:
        """Draw the screen anew, unless that happens by itself."""
        if not self._by_itself:
            self._live.refresh()


class DisplayOwner:
    """The base of what shows something: a context manager that opens and closes its display."""

    def __init__(self, display: Display) -> None:
        """Show nothing yet."""
        self._display = display

    def __enter__(self) -> Self:
        self._display.__enter__()
        return self

    def __exit__(self, *exc: object) -> None:
        self._display.__exit__(*exc)


def open_display(
    screen: Callable[[], Screen],
    *,
    silent: bool = False,
    every_s: float | None = None,
    by_itself: bool = True,
) -> Display:
    """Return the display for where standard output leads. A silent one shows nothing at all."""
    if silent:
        return Display(screen, write=lambda _: None)
    console = Console(file=sys.stdout, highlight=False)
    if console.is_terminal and not console.is_dumb_terminal:
        return TerminalDisplay(screen, console=console, by_itself=by_itself)
    return Display(screen, write=lambda text: print(text, flush=True), every_s=every_s)


def render(screen: Screen, width: int) -> RenderableType:
    """Return a screen as rich draws it in so many columns: rows first, the status under them."""
    bar = width // BAR_SHARE if width >= BAR_COLUMNS_MIN else 0
    rows = Table.grid(padding=(0, 1), expand=True)
    for ratio in (None, 1, None, 1):
        rows.add_column(no_wrap=True, overflow="ellipsis", ratio=ratio)
    for row in screen.rows[:ROWS_MAX]:
        drawn = _bar(row.done, bar) if row.done is not None else ""
        word, title = Text(f"  {row.word}", style=row.style), Text(one_line(row.title))
        rows.add_row(word, title, Text(drawn, style=row.style), Text(one_line(row.note)))
    if len(screen.rows) > ROWS_MAX:
        rows.add_row("", Text(f"and {len(screen.rows) - ROWS_MAX} more", style="dim"), "", "")
    drawn = f"{_bar(screen.done, bar)}  " if screen.done is not None and bar else ""
    said = one_line(screen.status)
    status = Text.assemble((drawn, "cyan"), said, no_wrap=True, overflow="ellipsis")
    return Group(*([rows] if screen.rows else []), status)


def _bar(share: float, columns: int) -> str:
    if not columns:
        return ""
    done = int((columns - 1) * min(1.0, max(0.0, share)))
    return "━" * done + "╺" + "─" * (columns - 1 - done)
