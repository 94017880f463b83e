"""Any trio program in the simulated network, on virtual time: `trio.run` with another network and another clock."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TypeVar, TypeVarTuple

import trio

from chaos.networks.simulated.clock import VirtualClock, check_scheduler, seed_scheduler
from chaos.networks.simulated.collector import collect_by_turns
from chaos.networks.simulated.inside import inside
from chaos.networks.simulated.world import World
from chaos.subjects.probes import recording

T = TypeVar("T")
Arguments = TypeVarTuple("Arguments")


def simulate(
    async_fn: Callable[[*Arguments], Awaitable[T]], *arguments: *Arguments, seed: int = 1
) -> T:
    """Run a trio program in a simulated network on virtual time, as `trio.run` does, and return what it returns.

    Its sockets, name look-ups, timeouts and sleeps are simulated: a connection to `127.0.0.1` or `localhost` reaches
    a listener of the same program and no other, and an hour takes as long as what happens in it. Threads that it
    starts with `trio.to_thread.run_sync` run inline. One seed gives the same run each time: it decides the order in
    which tasks run, and what `random` draws.

    Args:
        async_fn: an async function; it is given the arguments.
        seed: another seed gives another order of tasks.

    Raises:
        NetworkUnavailable: this release of trio has another scheduler than this module knows.
        ChaosError: the program used something that cannot be simulated, such as a child process.
        BaseException: whatever the program raises.
    """
    world = World()
    world.hosts.settle(0)

    async def main() -> T:
        with recording(world), inside(world):
            seed_scheduler(seed)
            return await async_fn(*arguments)

    return run_in_world(world, main)


def run_in_world(
    world: World, async_fn: Callable[[*Arguments], Awaitable[T]], *arguments: *Arguments
) -> T:
    """Run an async function on the virtual time of a simulated network, and return what it returns.

    Raises:
        NetworkUnavailable: this release of trio has another scheduler than this module knows.
        BaseException: whatever the function raises.
    """
    check_scheduler()  # here, before trio makes a group of what is raised
    clock = VirtualClock(world.fabric)
    with collect_by_turns(clock, world.sockets.__len__):
        return trio.run(async_fn, *arguments, clock=clock)
