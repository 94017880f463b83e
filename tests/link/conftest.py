"""A client and a server with a relay between them, in each of the two ways in which it may be driven."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import pytest
import trio

from chaos.link.endings import EndPolicy
from chaos.link.ends import KernelEnd, detached
from chaos.link.poller import start_poller
from chaos.link.relay import Relay
from chaos.link.transcript import Journal, Transcript
from chaos.recorder import Recorder
from chaos.trace import Side


class CountingEnd(KernelEnd):
    """An end that knows how many bytes went beside it."""

    spliced = 0

    def note_moved(self, *, received: int = 0, sent: int = 0) -> None:
        self.spliced += received + sent


@dataclass
class Line:
    """A client and a server with a relay between them."""

    client: trio.SocketStream
    server: trio.SocketStream
    relay: Relay
    polled: bool
    ends: dict[Side, CountingEnd]

    @property
    def own_files(self) -> int:
        """What a poller is made of: an epoll and a timerfd."""
        return 2 if self.polled else 0

    @property
    def spliced(self) -> int:
        return sum(end.spliced for end in self.ends.values()) // 2


async def pair() -> tuple[trio.SocketStream, trio.SocketStream]:
    listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
    port = listeners[0].socket.getsockname()[1]
    ours = await trio.open_tcp_stream("127.0.0.1", port)
    theirs = await listeners[0].accept()
    await listeners[0].aclose()
    return ours, theirs


@asynccontextmanager
async def open_line(
    *, polled: bool, observed: bool = False, end_policy: EndPolicy = "faithful"
) -> AsyncIterator[Line]:
    client, near = await pair()
    far, server = await pair()
    ends: dict[Side, CountingEnd] = {
        "client": CountingEnd(detached(near)),
        "server": CountingEnd(detached(far)),
    }
    sides: frozenset[Side] = frozenset(("client", "server")) if observed else frozenset()
    async with trio.open_nursery() as nursery, client, server:
        journal = Journal(recorder=Recorder(trio.current_time), client=1, sides=sides)
        relay = Relay(
            ends={**ends},
            rng_for=lambda *_: random.Random(1),
            transcript=Transcript(journal, 1),
            end_policy=end_policy,
            caller=await start_poller(nursery) if polled else None,
        )
        nursery.start_soon(relay.run)
        yield Line(client, server, relay, polled, ends)
        nursery.cancel_scope.cancel()


@pytest.fixture(params=[False, True], ids=["tasks", "poller"])
def line(request: pytest.FixtureRequest) -> Any:
    return partial(open_line, polled=request.param)
