"""The live display: what a terminal of 60 and of 120 columns shows, and what a log gets."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from chaos.commands.live import (
    ROWS_MAX,
    Display,
    Row,
    Screen,
    TerminalDisplay,
    open_display,
    render,
)
from chaos.commands.runs import windows_at
from chaos.scenario.load import load_text

SCREEN = Screen(
    rows=[
        Row(word="running", title=f"scenario-{n}", done=n / 20, note="a note") for n in range(20)
    ],
    status="3 of 20 runs, 7 s; 2 passed, 1 failed",
    done=0.15,
)
TIMELINE = """\
version: 1
name: two-windows
duration: 20s
timeline:
  - {at: 4s, for: 2s, every: 5s, times: 3, fault: stall, name: outage}
  - {at: 5s, toxic: latency, attributes: {latency: 20}}
  - {at: 6s, fault: reset}
expect: [no_false_alarm]
"""


def drawn(width: int, **more: object) -> str:
    out = io.StringIO()
    Console(file=out, width=width, **more).print(render(SCREEN, width))  # type: ignore[arg-type]
    return out.getvalue()


@pytest.mark.parametrize("width", [60, 120])
def test_a_screen_fits_and_says_how_much_more_there_is(width: int) -> None:
    lines = drawn(width).splitlines()
    assert max(map(len, lines)) <= width
    assert len(lines) == ROWS_MAX + 2
    assert "and 8 more" in lines[-2]
    assert SCREEN.status in lines[-1]
    assert all("scenario-" in line and "a note" in line for line in lines[:ROWS_MAX])
    assert ("━" in lines[-1]) is (width == 120)


def test_no_color_drops_colour_only(monkeypatch: pytest.MonkeyPatch) -> None:
    coloured = drawn(120, force_terminal=True, color_system="standard")
    monkeypatch.setenv("NO_COLOR", "1")
    plain = drawn(120, force_terminal=True, color_system="standard")
    assert "\x1b[36m" in coloured
    assert "\x1b[36m" not in plain
    assert "━" in plain


def test_a_log_gets_the_status_now_and_then_and_news_at_once() -> None:
    lines: list[str] = []
    now_s = 0.0
    display = Display(lambda: SCREEN, write=lines.append, every_s=5.0, clock=lambda: now_s)
    for now_s in (1.0, 4.9, 5.0, 6.0):  # noqa: B007 - the display reads it
        display.tick()
    assert lines == [SCREEN.status]
    display.tick(news=True)
    assert lines == [SCREEN.status] * 2
    display.say("[bold]stays[/bold]")
    assert lines[-1] == "stays"


def test_a_terminal_keeps_what_is_said_and_takes_the_screen_away() -> None:
    out = io.StringIO()
    console = Console(file=out, width=80, force_terminal=True, color_system=None)
    with TerminalDisplay(lambda: SCREEN, console=console, by_itself=False) as display:
        display.say("this stays")
        display.tick()
    assert out.getvalue().count("this stays") == 1
    # the last thing written erases the screen, line by line
    assert out.getvalue().rstrip().endswith("\x1b[2K") or "\x1b[1A" in out.getvalue()[-60:]


def test_where_nobody_looks_nothing_is_drawn(capsys: pytest.CaptureFixture[str]) -> None:
    with open_display(lambda: SCREEN, silent=True) as display:
        display.say("nothing")
    with open_display(lambda: SCREEN) as display:
        display.say("a line")
    assert capsys.readouterr().out == "a line\n"


def test_windows_in_force_are_shown_with_how_long_they_have_been() -> None:
    (scenario,) = load_text(TIMELINE, "two.yaml")
    assert windows_at(scenario, 3.9) == []
    assert windows_at(scenario, 4.5) == ["outage 0.5 of 2 s"]
    assert windows_at(scenario, 10.0) == ["outage 1.0 of 2 s", "latency 5.0 of 15 s"]
