"""Conversations for the benchmarks of virtual time: trio-websocket with itself, bare and through a simulated link."""

from __future__ import annotations

import itertools
import time
from collections.abc import Awaitable, Callable
from contextlib import nullcontext
from dataclasses import dataclass

import trio
import trio_websocket
from trio.testing import MockClock, memory_stream_pair

from chaos.link.link import ClientLink
from chaos.link.transcript import Journal
from chaos.networks.base import dialer
from chaos.networks.simulated.clock import VirtualClock, seed_scheduler
from chaos.networks.simulated.collector import collect_by_turns
from chaos.networks.simulated.inside import inside
from chaos.networks.simulated.paths import constant
from chaos.networks.simulated.world import World
from chaos.recorder import Recorder
from chaos.subjects.probes import recording

MESSAGE = "x" * 64
# between one connection's turn and the next one's; an echo takes a tenth of it
TURN_S = 0.001
SPREAD_S = 10.0

Echoes = Callable[[trio_websocket.WebSocketConnection], Awaitable[None]]


def echoes(count: int) -> Echoes:
    """Return a conversation of so many echoes."""

    async def talk(websocket: trio_websocket.WebSocketConnection) -> None:
        for _ in range(count):
            await websocket.send_message(MESSAGE)
            assert await websocket.get_message() == MESSAGE

    return talk


@dataclass(slots=True)
class Stopwatch:
    """The processor time between the first beginning and the last end."""

    began_s: float | None = None
    ended_s: float = 0.0

    def begin(self) -> None:
        if self.began_s is None:
            self.began_s = time.process_time()

    def end(self) -> None:
        self.ended_s = time.process_time()

    @property
    def spent_s(self) -> float:
        assert self.began_s is not None
        return self.ended_s - self.began_s


def timed_echoes(count: int, spread: int, watch: Stopwatch) -> Echoes:
    """Return a conversation of one echo, and of so many that are timed.

    With `spread` so many connections take turns.
    """
    numbers = itertools.count()

    async def talk(websocket: trio_websocket.WebSocketConnection) -> None:
        due_s = trio.current_time() + SPREAD_S + next(numbers) % (spread or 1) * TURN_S
        for number in range(1 + count):
            if spread or number < 2:  # the first of all connections, then the others
                await trio.sleep_until(due_s)
                due_s += SPREAD_S if number == 0 else spread * TURN_S
            if number == 1:
                watch.begin()
            await websocket.send_message(MESSAGE)
            assert await websocket.get_message() == MESSAGE
        watch.end()

    return talk


async def answer(request: trio_websocket.WebSocketRequest) -> None:
    websocket = await request.accept()
    try:
        while True:
            await websocket.send_message(await websocket.get_message())
    except trio_websocket.ConnectionClosed:
        return


async def converse(
    client: trio.abc.Stream, nursery: trio.Nursery, talk: Echoes
) -> trio_websocket.WebSocketConnection:
    websocket = await trio_websocket.wrap_client_stream(nursery, client, "server", "/")
    await talk(websocket)
    return websocket


async def serve(stream: trio.abc.Stream) -> None:
    async with trio.open_nursery() as nursery:
        request = await trio_websocket.wrap_server_stream(nursery, stream)
        await answer(request)
        nursery.cancel_scope.cancel()


def over_memory(connections: int, talk: Echoes) -> Callable[[], None]:
    """Return a conversation over trio's memory streams on MockClock."""

    async def main() -> None:
        async with trio.open_nursery() as nursery:
            async with trio.open_nursery() as talks:
                for _ in range(connections):
                    ours, theirs = memory_stream_pair()
                    nursery.start_soon(serve, theirs)
                    talks.start_soon(converse, ours, nursery, talk)
            nursery.cancel_scope.cancel()

    return lambda: trio.run(main, clock=MockClock(autojump_threshold=0))


def over_simulated_tcp(
    connections: int, talk: Echoes, *, hop_s: float | None = None, by_turns: bool = True
) -> Callable[[], None]:
    """Return the same conversation through the link, client, link and server on hosts of their own."""

    def run() -> None:
        world = World()
        world.hosts.settle(connections)
        seed_scheduler(1)
        clock = VirtualClock(world.fabric)
        with collect_by_turns(clock, world.sockets.__len__) if by_turns else nullcontext():
            trio.run(simulate, world, connections, talk, hop_s, clock=clock)

    return run


async def simulate(world: World, connections: int, talk: Echoes, hop_s: float | None) -> None:
    link_address = world.hosts.addresses("link")[0]
    server_address = world.hosts.addresses("server")[0]
    if hop_s is not None:
        for one, other in ((link_address, link_address), (link_address, server_address)):
            for way in ((one, other), (other, one)):
                world.fabric.path(*way).delay = constant(hop_s)
    journal = Journal(
        recorder=Recorder(world.fabric.time),
        client=1,
        sides=frozenset(("client", "server")),
    )
    with recording(world), inside(world):
        async with trio.open_nursery() as nursery:
            listeners = await trio.open_tcp_listeners(0)
            port = listeners[0].socket.getsockname()[1]
            nursery.start_soon(trio.serve_listeners, serve, listeners)
            link = ClientLink(
                seed=1,
                journal=journal,
                dial=dialer("127.0.0.1", port, None),
                caller=world.fabric,
            )
            entrance = await link.open(nursery)

            async def client() -> None:
                stream = await trio.open_tcp_stream("localhost", entrance)
                await converse(stream, nursery, talk)

            async with trio.open_nursery() as talks:
                for _ in range(connections):
                    talks.start_soon(client)
            nursery.cancel_scope.cancel()
