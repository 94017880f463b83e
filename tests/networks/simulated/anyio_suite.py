"""A plugin of pytest that runs anyio's own tests of TCP in simulated worlds, on its trio backend.

python -m pytest -p anyio_suite <a checkout of anyio>/tests/test_sockets.py -k "TestTCPStream or TestTCPListener"

Each test has a world, from its fixtures to their end. The peers of these tests block, some in a thread. Here a call
of a socket that would block lets the network go on until it can return, and a thread runs only when what it waits for
is there: one at a time, at set points, so that a run is the same each time.
"""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from math import inf
from typing import Any

import anyio.pytest_plugin
import pytest
import trio

from chaos.networks.replaced import replaced
from chaos.networks.simulated import clock as clock_module
from chaos.networks.simulated import inside as inside_module
from chaos.networks.simulated.clock import VirtualClock, seed_scheduler
from chaos.networks.simulated.inside import inside
from chaos.networks.simulated.sockets import SimulatedSocket
from chaos.networks.simulated.stand_in import StandIn
from chaos.networks.simulated.world import World
from chaos.subjects.probes import recording

PATIENCE_S = 3600  # of virtual time
REAL_START, REAL_JOIN, REAL_WAIT = (
    threading.Thread.start,
    threading.Thread.join,
    threading.Event.wait,
)


@dataclass(eq=False)
class Routine:
    """A thread that runs only while nothing else does, and what it waits for."""

    thread: threading.Thread
    goes: threading.Semaphore = field(default_factory=lambda: threading.Semaphore(0))
    stands: threading.Semaphore = field(default_factory=lambda: threading.Semaphore(0))
    is_ready: Callable[[], bool] = lambda: True
    until_s: float = inf
    is_over: bool = False


class Peers:
    """The blocking peers of one test."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.routines: list[Routine] = []

    # threads

    def start(self, thread: threading.Thread) -> None:
        """Stand in for Thread.start: the thread begins when it is its turn."""
        routine = Routine(thread)
        run, context = thread.run, dict(vars(trio._core._run.GLOBAL_RUN_CONTEXT))

        def in_turn() -> None:
            REAL_ACQUIRE(routine.goes)
            vars(trio._core._run.GLOBAL_RUN_CONTEXT).update(context)  # it may wake tasks
            try:
                run()
            finally:
                routine.is_over = True
                routine.stands.release()

        thread.run = in_turn  # type: ignore[method-assign]
        self.routines.append(routine)
        REAL_START(thread)
        self.world.fabric.call_soon(self.turn)

    def join(self, thread: threading.Thread, timeout: float | None = None) -> None:
        """Stand in for Thread.join."""
        routine = next((one for one in self.routines if one.thread is thread), None)
        if routine is not None:
            self.block("join", lambda: routine.is_over, timeout)
        REAL_JOIN(thread, timeout)

    def turn(self) -> bool:
        """Let each thread run whose wait is over, until it waits again. Return whether one has run."""
        has_run = False
        for routine in self.routines:
            while not routine.is_over and (
                routine.is_ready() or self.world.fabric.now >= routine.until_s
            ):
                routine.goes.release()
                REAL_ACQUIRE(routine.stands)
                has_run = True
        return has_run

    def current(self) -> Routine | None:
        thread = threading.current_thread()
        return next((one for one in self.routines if one.thread is thread), None)

    # what blocks

    def block(self, call: str, is_ready: Callable[[], bool], timeout_s: float | None) -> bool:
        """Wait as a blocking call does, in the thread of trio or in another."""
        fabric = self.world.fabric
        until_s = inf if timeout_s is None else fabric.now + timeout_s
        routine = self.current()
        if routine is not None:
            if not is_ready():
                routine.is_ready, routine.until_s = is_ready, until_s
                if until_s < inf:
                    fabric.call_at(until_s, lambda: None)
                routine.stands.release()
                REAL_ACQUIRE(routine.goes)
            return is_ready()
        while not is_ready():
            self.turn()
            if is_ready():
                break
            if fabric.now >= until_s or not fabric.advance(until_s, (), 1):
                self.turn()
                return is_ready()
        return True

    def wait(self, event: threading.Event, timeout: float | None = None) -> bool:
        """Stand in for Event.wait of threads."""
        return (
            self.block("wait", event.is_set, timeout)
            if self.current()
            else REAL_WAIT(event, timeout)
        )

    def sleep(self, seconds: float) -> None:
        self.block("sleep", lambda: False, seconds)


def REAL_ACQUIRE(semaphore: threading.Semaphore) -> None:  # noqa: N802
    semaphore.acquire()


class TurningClock(VirtualClock):
    """A virtual clock that lets the blocking peers have their turn whenever all tasks wait."""

    peers: Peers

    def deadline_to_sleep_time(self, deadline: float) -> float:
        runner: Any = trio._core._run.GLOBAL_RUN_CONTEXT.runner
        while True:
            self.peers.turn()
            if runner.runq:
                return 0
            wait_s = super().deadline_to_sleep_time(deadline)
            if not wait_s or not self.peers.turn():
                return wait_s


@dataclass
class Current:
    world: World
    peers: Peers


now: list[Current] = []


def make_socket(family: int = 2, type: int = 1, proto: int = 0) -> Any:  # noqa: A002
    """Make a socket outside `trio.run`, where no factory is known."""
    return SimulatedSocket(now[-1].world, family, type, proto)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item, nextitem: Any) -> Iterator[Any]:
    world = World()
    current = Current(world, Peers(world))
    now.append(current)
    names = inside_module._stand_ins(world)
    with replaced(
        (socket, "socket", StandIn),
        (socket, "getaddrinfo", names["getaddrinfo"]),
        (StandIn, "block", staticmethod(current.peers.block)),
        (StandIn, "detached", {}),
        (trio.socket, "socket", make_socket),
    ):
        result = yield
    now.pop()
    return result


class Runner:
    """Stands in for anyio's own runner of tests."""

    def is_running(self) -> bool:
        return False

    def run_test(self, function: Any, arguments: dict[str, Any]) -> None:
        run_in_world(function, arguments)


@contextmanager
def get_runner(*_: Any) -> Iterator[Runner]:
    yield Runner()


def pytest_configure() -> None:
    anyio.pytest_plugin.get_runner = get_runner  # type: ignore[assignment]


def run_in_world(function: Any, arguments: dict[str, Any]) -> None:
    world, peers = now[-1].world, now[-1].peers
    clock = TurningClock(world.fabric)
    clock.peers = peers

    async def main() -> None:
        with ExitStack() as stack:
            stack.enter_context(replaced((trio.socket, "socket", REAL_SOCKET)))
            stack.enter_context(recording(world))
            held = StandIn.detached
            stack.enter_context(inside(world))
            stack.enter_context(
                replaced(
                    (StandIn, "detached", held),
                    (threading.Thread, "start", lambda thread: peers.start(thread)),
                    (threading.Thread, "join", lambda *given: peers.join(*given)),
                    (threading.Event, "wait", lambda *given: peers.wait(*given)),
                    (time, "sleep", peers.sleep),
                )
            )
            with trio.fail_after(PATIENCE_S):
                await function(**arguments)

    seed_scheduler(1)
    with replaced(
        (socket, "socket", REAL_STDLIB_SOCKET),  # trio makes a pair for itself
        (clock_module, "INSTANTS", 1),  # the peers have a turn after each
    ):
        trio.run(main, clock=clock)


REAL_STDLIB_SOCKET = socket.socket
REAL_SOCKET = trio.socket.socket


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Keep the tests of the trio backend."""
    items[:] = [
        item
        for item in items
        if getattr(item, "callspec", None) is None
        or item.callspec.params.get("anyio_backend", "trio") == "trio"
    ]
