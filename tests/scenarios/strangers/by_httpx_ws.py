"""A client with httpx-ws, on trio by way of anyio; it has its own heartbeat."""

from __future__ import annotations

from typing import Any

import httpx
import trio
from httpx_ws import (
    AsyncWebSocketSession,
    WebSocketDisconnect,
    WebSocketNetworkError,
    WebSocketUpgradeError,
    aconnect_ws,
)
from manners import Ending, Manners, first_of, handle

from chaos import subject

GONE = (
    WebSocketDisconnect,
    WebSocketNetworkError,
    WebSocketUpgradeError,
    httpx.HTTPError,
    trio.TooSlowError,
)


@subject(sends=True)
async def client(url: str, **options: Any) -> None:
    """Keep a connection until cancelled."""
    manners = Manners(options)
    await manners.keep(lambda: once(url, manners))


async def once(url: str, manners: Manners) -> Ending:
    """Make one connection and live on it."""
    ending = Ending()
    try:
        with trio.fail_after(manners.connect_timeout_s) as attempt:
            async with (
                httpx.AsyncClient(timeout=httpx.Timeout(manners.connect_timeout_s)) as http,
                aconnect_ws(
                    url,
                    http,
                    keepalive_ping_interval_seconds=manners.interval_s,
                    keepalive_ping_timeout_seconds=manners.timeout_s,
                ) as session,
            ):
                attempt.deadline = float("inf")
                manners.opened()
                await live(session, manners)
    except* GONE as group:
        ending = ending_of(group)
    return ending


def ending_of(group: BaseExceptionGroup[Any]) -> Ending:
    """Return what these exceptions say about the end."""
    refused = first_of(group, WebSocketUpgradeError)
    if refused is not None:
        response = refused.response
        return Ending(status=response.status_code, retry_after=response.headers.get("retry-after"))
    closed = first_of(group, WebSocketDisconnect)
    return Ending(code=closed.code) if closed is not None else Ending()


async def live(session: AsyncWebSocketSession, manners: Manners) -> None:
    """Send and receive until an exception ends it."""
    async with trio.open_nursery() as nursery:
        nursery.start_soon(manners.send_all, session.send_text)
        while True:
            handle(await session.receive_text())
