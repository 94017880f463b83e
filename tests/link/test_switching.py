"""Toxics and faults are switched at every moment at which a connection can end: between two turns of any tasks."""

from __future__ import annotations

import socket
import struct
from collections.abc import Awaitable, Callable
from contextlib import suppress
from itertools import count
from typing import Any

import pytest
import trio

from chaos.faults.pipe import Stage
from chaos.link.relay import Relay
from chaos.trace import Stream
from chaos.vocabulary.faults import Blackhole, Stall
from chaos.vocabulary.toxics import Latency, ResetPeer, Timeout

WORDS = (
    Latency(latency=1),
    Stall(),
    Timeout(timeout=0),
    ResetPeer(timeout=0),
    Blackhole(),
)


class Switch(trio.abc.Instrument):
    """Adds or removes a stage after each turn of each task, but for the tasks that this itself has started.

    Exceptions are kept, since trio would only log them.
    """

    def __init__(self, relay: Relay, word: Any) -> None:
        self.errors: list[BaseException] = []
        self.switched = 0
        self._relay = relay
        self._word = word
        self._keys = count(1)
        self._is_inside = False

    def after_task_step(self, task: trio.lowlevel.Task) -> None:
        if self._is_inside or "_TaskCall" in task.name:
            return
        self._is_inside = True
        stages = []
        if self.switched % 2 == 0:
            stages = [Stage(key=next(self._keys), settings=self._word)]
        streams: tuple[Stream, Stream] = ("upstream", "downstream")
        try:
            self._relay.replace(dict.fromkeys(streams, stages))
        except BaseException as error:
            self.errors.append(error)
        self.switched += 1
        self._is_inside = False


async def _fins(line: Any) -> None:
    with suppress(trio.BrokenResourceError):  # a toxic may have closed it before
        await line.client.send_eof()
        await line.server.send_eof()


async def reset(stream: trio.SocketStream) -> None:
    stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    await trio.aclose_forcefully(stream)


async def _abort_client(line: Any) -> None:
    await reset(line.client)


async def _abort_server(line: Any) -> None:
    await reset(line.server)


async def _close_client(line: Any) -> None:
    await line.client.aclose()


async def _close_relay(line: Any) -> None:
    line.relay.close()


async def _reset_relay(line: Any) -> None:
    line.relay.reset()


async def _fill_and_abort(line: Any) -> None:
    """Leave a task behind that writes: nobody reads what the client has sent."""
    with trio.move_on_after(0.01), suppress(trio.BrokenResourceError):
        await line.client.send_all(bytes(8_000_000))
    await reset(line.client)


async def _cancel(line: Any) -> None:
    """The line is left at once, and its tasks are cancelled."""


ENDS = (
    _fins,
    _abort_client,
    _abort_server,
    _close_client,
    _close_relay,
    _reset_relay,
    _fill_and_abort,
    _cancel,
)


@pytest.mark.parametrize("end", ENDS, ids=lambda end: end.__name__.strip("_"))
@pytest.mark.parametrize("word", WORDS, ids=lambda word: type(word).__name__.lower())
async def test_a_stage_may_be_switched_whenever_a_connection_ends(
    line: Any, word: Any, end: Callable[[Any], Awaitable[None]]
) -> None:
    async with line(end_policy="toxiproxy") as here:
        switch = Switch(here.relay, word)
        trio.lowlevel.add_instrument(switch)
        try:
            with suppress(trio.BrokenResourceError):
                await here.client.send_all(b"ping")
                await here.server.send_all(b"pong")
            await end(here)
            for _ in range(20):
                await trio.sleep(0.0005)
        finally:
            here.client.socket.close()
            here.server.socket.close()
    trio.lowlevel.remove_instrument(switch)
    assert switch.errors == []
    assert switch.switched > 10
