"""A way to run a trio function inside a simulated world."""

from __future__ import annotations

import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
import trio

from chaos.networks.simulated.clock import VirtualClock, seed_scheduler
from chaos.networks.simulated.inside import inside
from chaos.networks.simulated.world import World
from chaos.subjects.probes import recording

# the arms and cases of the TCP contract lie beside the tests that share them
sys.path.insert(0, str(Path(__file__).parent))

Body = Callable[[World, trio.Nursery], Awaitable[Any]]


@pytest.fixture
def simulate() -> Callable[[Body], Any]:
    """Return a function that runs `body(world, nursery)` on virtual time and returns its result."""

    def run(body: Body, *, seed: int = 1) -> Any:
        world = World()

        async def main() -> Any:
            with recording(world), inside(world):
                async with trio.open_nursery() as nursery:
                    result = await body(world, nursery)
                    nursery.cancel_scope.cancel()
            return result

        seed_scheduler(seed)
        return trio.run(main, clock=VirtualClock(world.fabric))

    return run
