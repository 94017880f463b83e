"""A client as the README of trio-websocket leads one to write it, with a heartbeat and a connect timeout.

Rebuilds what trio-websocket 0.12 does to a client that trusts it, and openonion/connectonion #548. When a connection
is accepted and its handshake never answered, `connect_timeout` fires and `open_websocket_url` goes on waiting for its
own reader, for ever. After an end that the peer began, the library does not close the socket, which stays in
CLOSE_WAIT until the garbage collector comes. The mistake is to leave both to the library: cancel from outside, and
close the stream.
"""

from __future__ import annotations

import json
import random
from collections.abc import Mapping
from typing import Any

import trio
import trio_websocket

from chaos import report

GONE = (OSError, trio_websocket.ConnectionClosed, trio_websocket.HandshakeError)


class Silent(OSError):
    """No pong came in time."""


async def client(url: str, **options: Any) -> None:
    """Connect again and again, as the examples show it."""
    backoff = options["backoff"]
    delays = random.Random(f"{options['seed']}/{options['number']}")
    failures = 0
    while True:
        try:
            async with trio_websocket.open_websocket_url(
                url, connect_timeout=options["connect_timeout_s"], disconnect_timeout=1.0
            ) as websocket:
                failures = 0
                await use(websocket, options["heartbeat"])
        except* GONE:
            pass
        cap_s = min(backoff["max_s"], backoff["initial_s"] * backoff["factor"] ** failures)
        failures += 1
        await trio.sleep(delays.uniform(0.0, cap_s))


async def use(websocket: trio_websocket.WebSocketConnection, beat: Mapping[str, float]) -> None:
    """Read messages, and ping beside it."""
    async with trio.open_nursery() as nursery:
        nursery.start_soon(heartbeat, websocket, beat)
        while True:
            row = json.loads(await websocket.get_message())
            report("message", id=row["id"], sender=row["sender"])


async def heartbeat(
    websocket: trio_websocket.WebSocketConnection, beat: Mapping[str, float]
) -> None:
    """Ping, and raise when no pong comes in time."""
    while True:
        with trio.move_on_after(beat["timeout_s"]) as limit:
            await websocket.ping()
        if limit.cancelled_caught:
            raise Silent
        await trio.sleep(beat["interval_s"])
