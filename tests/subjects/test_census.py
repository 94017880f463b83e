"""What a census counts as a subject's own."""

from __future__ import annotations

import gc
from typing import Any

import pytest
import trio
import trio.testing

from chaos.recorder import Recorder
from chaos.subjects.census import Census
from chaos.subjects.host import Host
from chaos.subjects.probes import Ledger, count_living

kept: list[Any] = []


async def listens(url: str, commands: Any = None) -> None:
    await trio.sleep_forever()


async def keeps_a_channel(url: str, commands: Any = None) -> None:
    kept.append(trio.open_memory_channel[int](0))
    await trio.sleep_forever()


@pytest.mark.parametrize(("function", "own"), [(listens, 0), (keeps_a_channel, 2)])
async def test_channels_of_the_run_itself_are_not_counted_as_a_subjects(
    function: Any, own: int
) -> None:
    gc.collect()
    before = count_living().channels
    host = Host(
        side="client",
        client=1,
        function=function,
        recorder=Recorder(trio.current_time),
        ledger=Ledger(),
        options={},
    )
    census = Census([host], Ledger())
    async with trio.open_nursery() as nursery:
        nursery.start_soon(host.run, "ws://127.0.0.1:1")
        await trio.testing.wait_all_tasks_blocked()
        running = census.take(("client",))["client"]
        host.stop()
    stopped = census.take(("client",))["client"]
    kept.clear()
    assert running["channels"] - before == own
    assert stopped["channels"] - before == own
    assert (running["tasks"], stopped["tasks"]) == (1, 0)


class Connection:
    """What a library would make for each connection; in a cycle, so that only the collector frees it."""

    def __init__(self) -> None:
        self.itself = self


def test_garbage_is_collected_only_where_it_would_count() -> None:
    gc.collect()
    gc.freeze()
    gc.disable()
    try:
        census = Census([], Ledger())

        def counted(**options: Any) -> int:
            return int(
                census.take(("client",), **options)["client"]["objects"].get("Connection", 0)
            )

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
