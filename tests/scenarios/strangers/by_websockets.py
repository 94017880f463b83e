"""A client with `websockets.trio`, which has its own heartbeat."""

from __future__ import annotations

import logging
from typing import Any

import trio
from manners import Ending, Manners, handle
from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidStatus
from websockets.trio.client import ClientConnection, connect

from chaos import subject

QUIET = logging.getLogger("strangers")
QUIET.addHandler(logging.NullHandler())
QUIET.propagate = False


@subject(sends=True)
async def client(url: str, **options: Any) -> None:
    """Keep a connection until cancelled."""
    manners = Manners(options)
    await manners.keep(lambda: once(url, manners))


async def once(url: str, manners: Manners) -> Ending:
    """Make one connection and live on it."""
    call = connect(
        url,
        proxy=None,
        logger=QUIET,
        open_timeout=manners.connect_timeout_s,
        ping_interval=manners.interval_s,
        ping_timeout=manners.timeout_s,
        close_timeout=0.5,
    )
    try:
        async with call as connection:
            manners.opened()
            return await live(connection, manners)
    except InvalidStatus as error:
        headers = error.response.headers
        return Ending(status=error.response.status_code, retry_after=headers.get("Retry-After"))
    except (InvalidHandshake, OSError, EOFError, trio.TooSlowError, TimeoutError):
        return Ending()


async def live(connection: ClientConnection, manners: Manners) -> Ending:
    """Send and receive until the connection ends."""

    async def send(text: str) -> None:
        try:
            await connection.send(text)
        except ConnectionClosed:
            await trio.sleep_forever()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(manners.send_all, send)
        try:
            while True:
                handle(await connection.recv())
        except ConnectionClosed as error:
            nursery.cancel_scope.cancel()
            return Ending(code=error.rcvd.code if error.rcvd is not None else None)
    raise AssertionError
