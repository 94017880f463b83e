"""What a census counts as a subject's own, and a ledger as whose."""

from __future__ import annotations

import contextvars
import gc
import socket
from collections.abc import Iterator
from typing import Any

import pytest
import trio
import trio.testing

from chaos.recorder import Recorder, Reporter, current_reporter
from chaos.subject import abilities_of, subject
from chaos.subjects.census import Census
from chaos.subjects.host import Host
from chaos.subjects.ledger import CLOSED_SOCKET
from chaos.subjects.probes import count_tasks, recording
from chaos.trace import Side

kept: list[Any] = []


@pytest.fixture(autouse=True)
def forget() -> Iterator[None]:
    yield
    kept.clear()


class acting_as:  # noqa: N801 - used as a context manager
    """Lets what is inside be a subject's doing."""

    def __init__(self, side: Side) -> None:
        self.reporter = Reporter(Recorder(trio.current_time), side, 1 if side == "client" else None)

    def __enter__(self) -> None:
        self.token = current_reporter.set(self.reporter)

    def __exit__(self, *exc: object) -> None:
        current_reporter.reset(self.token)


async def listens(url: str, commands: Any = None) -> None:
    kept.append(commands)
    await trio.sleep_forever()


async def keeps_a_channel(url: str, commands: Any = None) -> None:
    kept.append(trio.open_memory_channel[int](0))
    await trio.sleep_forever()


@pytest.mark.parametrize(("function", "own"), [(listens, 0), (keeps_a_channel, 2)])
async def test_channels_of_the_run_itself_are_not_a_subjects_though_it_keeps_them(
    function: Any, own: int
) -> None:
    with recording() as ledger:
        host = Host(
            side="client",
            client=1,
            function=function,
            recorder=Recorder(trio.current_time),
            ledger=ledger,
            options={},
        )
        census = Census(ledger)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(host.run, "ws://127.0.0.1:1")
            await trio.testing.wait_all_tasks_blocked()
            running = census.take()
            host.stop()
        stopped = census.take()
    assert (running["client"]["channels"], stopped["client"]["channels"]) == (own, own)
    assert (running["client"]["tasks"], stopped["client"]["tasks"]) == (1, 0)
    assert running["server"] == {"tasks": 0, "sockets": 0, "channels": 0, "objects": {}}


class Connection:
    """What a library would make for each connection; in a cycle, so that only the collector frees it."""

    def __init__(self) -> None:
        self.itself = self


async def test_garbage_is_collected_only_where_it_would_count() -> None:
    gc.collect()
    gc.freeze()
    gc.disable()
    try:
        with recording(connections=[Connection]) as ledger, acting_as("client"):
            census = Census(ledger)

            def counted(**options: Any) -> int:
                return int(census.take(**options)["client"]["objects"].get("Connection", 0))

            living = [Connection()]
            assert counted(collect="if more") == 1
            Connection()
            assert counted(collect="never") == 2
            assert counted(collect="if more") == 1
            living.clear()
            assert counted(collect="if more") == 1  # not more than the first time
            assert counted() == 0
    finally:
        gc.enable()
        gc.unfreeze()


async def test_tasks_count_for_whoever_started_them_wherever_they_run() -> None:
    scopes: list[trio.CancelScope] = []

    async def live() -> None:
        with trio.CancelScope() as scope:
            scopes.append(scope)
            await trio.sleep_forever()

    async with trio.open_nursery() as nursery:
        with recording():
            nursery.start_soon(live)  # nobody's
            with acting_as("client"):
                nursery.start_soon(live)
                trio.lowlevel.spawn_system_task(live)
                contextvars.Context().run(nursery.start_soon, live)
            with acting_as("server"):
                trio.lowlevel.spawn_system_task(live)
            await trio.testing.wait_all_tasks_blocked()
            assert (count_tasks("client"), count_tasks("server"), count_tasks()) == (3, 1, 4)
            for scope in scopes:
                scope.cancel()
            await trio.testing.wait_all_tasks_blocked()
            assert count_tasks() == 0


async def test_sockets_are_counted_once_however_they_are_made_and_once_more_when_closed() -> None:
    def counts() -> tuple[int, int]:
        closed = ledger.count_objects("client").get(CLOSED_SOCKET, 0)
        return ledger.count_sockets("client"), closed

    with socket.socket() as nobodys, recording() as ledger:
        trio.socket.socket().close()
        with acting_as("client"):
            made = [
                trio.socket.socket(),
                trio.socket.from_stdlib_socket(socket.socket()),
                *trio.socket.socketpair(),
                trio.socket.from_stdlib_socket(nobodys),
                socket.socket(),
            ]
            assert counts() == (6, 0)
        for sock in made:
            sock.close()
        assert counts() == (0, 6)
        made.clear()
        del sock
        assert counts() == (0, 0)


async def test_the_death_of_a_process_frees_what_it_had() -> None:
    with recording(connections=[Connection]) as ledger:
        with acting_as("client"):
            sock, connection = trio.socket.socket(), Connection()
            ends = trio.open_memory_channel[int](0)
        with acting_as("server"):
            other = trio.socket.socket()
        ledger.kill("client", 1)
        assert (sock.fileno(), ledger.count_channels("client")) == (-1, 0)
        assert ledger.count_objects("client") == {}
        assert ledger.count_sockets("server") == 1
        other.close()
        del connection, ends


async def test_nothing_is_recorded_outside_a_run() -> None:
    with recording() as ledger:
        pass
    with acting_as("client"), trio.socket.socket():
        trio.open_memory_channel[int](0)
        assert ledger.count_sockets("client") == ledger.count_channels("client") == 0


class Slotted:
    __slots__ = ()


def test_a_class_that_cannot_be_counted_is_refused() -> None:
    assert abilities_of(subject(connections=(Connection,))(listens)).connections == (Connection,)
    for kind in (Slotted, int, "Connection"):
        with pytest.raises(TypeError, match="cannot be counted"):
            subject(connections=(kind,))  # type: ignore[arg-type]
