"""A plugin of pytest that puts every `trio.run` of others' tests into a simulated world, and tells of real sockets.

python -m pytest -p in_world …
"""

from __future__ import annotations

import sys
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

import pytest
import trio

from chaos.networks.simulated.clock import VirtualClock, seed_scheduler
from chaos.networks.simulated.inside import inside
from chaos.networks.simulated.world import FIRST_FILENO, World
from chaos.subjects.probes import recording

real_run = trio.run


@dataclass
class Seen:
    """What is seen from outside the worlds."""

    running: bool = False
    sockets: int = 0
    escapes: list[str] = field(default_factory=list)


seen = Seen()


def run_in_world(main: Callable[..., Awaitable[Any]], *arguments: Any, **options: Any) -> Any:
    """Do what `trio.run` does, on virtual time and simulated sockets, whatever clock is asked for."""
    world = World()
    options["clock"] = VirtualClock(world.fabric)

    async def inside_world() -> Any:
        with recording(world), inside(world):
            return await main(*arguments)

    seed_scheduler(1)
    seen.running = True
    try:
        return real_run(inside_world, **options)
    finally:
        seen.running = False
        seen.sockets += world.fileno() - FIRST_FILENO - 1


def watch(event: str, arguments: tuple[Any, ...]) -> None:
    """Note real sockets that are bound or connected while a world runs."""
    if seen.running and event in ("socket.bind", "socket.connect"):
        seen.escapes.append(f"{event} {arguments[1]}")


def pytest_configure(config: pytest.Config) -> None:
    sys.addaudithook(watch)
    trio.run = trio._core.run = run_in_world


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    terminalreporter.write_line(f"{seen.sockets} simulated sockets, escapes: {seen.escapes}")
