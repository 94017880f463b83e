"""What a hunt shows while it goes on, and the command that it prints."""

from __future__ import annotations

import shlex
from pathlib import Path

from chaos.commands.hunt import LINE_EVERY_S, again, screen_of
from chaos.commands.live import Display
from chaos.explore.hunt import Progress


def test_progress_is_a_line_now_and_then_in_a_log() -> None:
    lines: list[str] = []
    progress = Progress()
    now_s = 0.0
    display = Display(
        lambda: screen_of(progress, 60.0),
        write=lines.append,
        every_s=LINE_EVERY_S,
        clock=lambda: now_s,
    )
    for tried in range(1, 31):
        now_s = float(tried)
        progress = Progress(tried=tried, elapsed_s=now_s)
        display.tick()
    assert lines == [
        "  10 schedules, 1.0 a second; 50 s left",
        "  20 schedules, 1.0 a second; 40 s left",
        "  30 schedules, 1.0 a second; 30 s left",
    ]
    progress = Progress(tried=31, elapsed_s=31.0, found=("no_leaks",), entries=2)
    display.tick(news=True)
    assert "no_leaks" in lines[-1]
    assert "2 timeline entries" in lines[-1]


def test_the_command_is_one_that_a_shell_takes_as_it_was_given() -> None:
    path = Path("my finds/it.yaml")
    words = shlex.split(again(path, client="a b.py:client"))
    assert words[:3] == ["trio-chaos", "run", "my finds/it.yaml"]
    assert words[-2:] == ["--client", "a b.py:client"]
