"""From a URL, or a stream, to an open connection: `connect` for clients, `accept` for servers.

Each is an async context manager with a nursery of its own, which holds the tasks of this one connection and is
empty when the block ends.
"""

from __future__ import annotations

import ssl
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from dataclasses import dataclass
from functools import lru_cache
from typing import TypeVar, cast
from urllib.parse import urlsplit

import trio
from trio_websocket import (
    ConnectionClosed,
    WebSocketConnection,
    WebSocketRequest,
    wrap_client_stream,
    wrap_server_stream,
)
from wsproto.utilities import LocalProtocolError

from chaos.reference.connection import (
    MESSAGE_BYTES_MAX,
    QUEUE_MESSAGES,
    Connection,
    ReaderNursery,
)
from chaos.reference.outcome import Refused, refused_by_http
from chaos.reference.tap import READ_BYTES, Tap
from chaos.wire.head import ResponseHead

OpenStream = Callable[[], Awaitable[trio.abc.Stream]]
MaybeConnection = TypeVar("MaybeConnection", Connection, Connection | None)
Answer = Callable[[WebSocketRequest], Awaitable[WebSocketConnection | None]]


class HandshakeRefused(Exception):
    """No connection came about; `refused` says why."""

    def __init__(self, refused: Refused) -> None:
        super().__init__(str(refused))
        self.refused = refused


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """Where a URL leads: `authority` is the Host header, `resource` the path with its query."""

    host: str
    port: int
    tls: bool
    authority: str
    resource: str


@lru_cache(maxsize=256)
def parse_url(url: str) -> Target:
    """Return the target of a ws or wss URL. Raises ValueError for any other."""
    parts = urlsplit(url)
    if parts.scheme not in ("ws", "wss") or parts.hostname is None:
        raise ValueError(f"expected a ws:// or wss:// URL with a host, got {url!r}")
    tls = parts.scheme == "wss"
    return Target(
        host=parts.hostname,
        port=parts.port or (443 if tls else 80),
        tls=tls,
        authority=parts.netloc.rpartition("@")[2],
        resource=(parts.path or "/") + (f"?{parts.query}" if parts.query else ""),
    )


async def open_tcp(target: Target, context: ssl.SSLContext | None = None) -> trio.abc.Stream:
    """Return a stream to the target, TLS handshake done. The caller closes it; cancelling leaves nothing open.

    The TLS handshake is made here, since trio-websocket would turn a wrong certificate into a timeout.

    Raises:
        OSError: if the target cannot be reached.
        trio.BrokenResourceError: if the TLS handshake fails; its cause is the ssl.SSLError.
    """
    stream = await trio.open_tcp_stream(target.host, target.port)
    if not target.tls:
        return stream
    return await secure(stream, context or ssl.create_default_context(), target.host)


async def secure(
    stream: trio.abc.Stream, context: ssl.SSLContext, server_name: str | None = None
) -> trio.abc.Stream:
    """Return a stream over TLS, handshake done: as a client of `server_name`, or as a server without one.

    If the handshake fails, the stream below is closed.
    """
    secured = trio.SSLStream(
        stream,
        context,
        server_hostname=server_name,
        server_side=server_name is None,
        https_compatible=True,
    )
    try:
        await secured.do_handshake()
    except BaseException:
        await trio.aclose_forcefully(stream)
        raise
    return secured


@asynccontextmanager
async def _live_in_nursery(
    establish: Callable[[trio.Nursery], Awaitable[MaybeConnection]],
) -> AsyncIterator[MaybeConnection]:
    """Give what `establish` returns, whose tasks live in a nursery of its own; close it for good after the block.

    What `establish` or the block raises comes out as it is, not in a group of the nursery.
    """
    failure: Exception | None = None
    async with trio.open_nursery() as nursery:
        connection: Connection | None = None
        try:
            connection = established = await establish(nursery)
            yield established
        except Exception as error:
            failure = error
        finally:
            try:
                if connection is not None:
                    await connection.finish()
            finally:
                nursery.cancel_scope.cancel()
    if failure is not None:
        try:
            raise failure
        finally:
            del failure  # or its traceback would keep this frame, and the connection, alive


def connect(
    open_stream: OpenStream,
    target: Target,
    *,
    headers: Mapping[str, str],
    subprotocols: tuple[str, ...] = (),
    connect_timeout_s: float = 10.0,
    close_timeout_s: float = 2.0,
) -> AbstractAsyncContextManager[Connection]:
    """Open a connection, and close it for good at the end of the block.

    Args:
        open_stream: gives the stream to use, TLS handshake done; the stream is closed here.
        connect_timeout_s: from calling `open_stream` to the 101.
        close_timeout_s: bounds the closing handshake.

    Raises:
        HandshakeRefused: if no connection came about. What the block raises comes out as it is.
    """

    async def establish(nursery: trio.Nursery) -> Connection:
        tap: Tap | None = None
        head = ResponseHead()
        websocket: WebSocketConnection | None = None
        died = False
        scope = trio.move_on_after(connect_timeout_s)
        try:
            with scope:
                tap = Tap(await open_stream(), head=head)
                tap.join(scope)
                readers = ReaderNursery(nursery, tap)
                websocket = await wrap_client_stream(
                    cast("trio.Nursery", readers),
                    cast("trio.SocketStream", tap),
                    target.authority,
                    target.resource,
                    subprotocols=subprotocols,
                    extra_headers=[(k.encode(), v.encode()) for k, v in headers.items()],
                    message_queue_size=QUEUE_MESSAGES,
                    max_message_size=MESSAGE_BYTES_MAX,
                    receive_buffer_size=READ_BYTES,
                )
                return Connection(websocket, tap, readers, close_timeout_s=close_timeout_s)
        except (OSError, trio.BrokenResourceError) as error:
            raise HandshakeRefused(_not_dialed(error)) from error
        finally:
            if tap is not None:
                tap.leave(scope)
                died = tap.dead.is_set()
                if websocket is None:
                    await tap.abort()
        raise HandshakeRefused(_refused(tap, head, timed_out=not died))

    return _live_in_nursery(establish)


def _not_dialed(error: Exception) -> Refused:
    cause = error.__cause__ if isinstance(error, trio.BrokenResourceError) else error
    # an SSL error is an OSError too; the end of the stream is not the certificate's fault
    if isinstance(cause, ssl.SSLError) and not isinstance(cause, ssl.SSLEOFError):
        return Refused(kind="tls", detail=str(cause))
    if isinstance(error, trio.BrokenResourceError) or isinstance(cause, ssl.SSLEOFError):
        return Refused(kind="closed", detail="during the tls handshake")
    # trio says "all attempts failed" and gives the error of each as the cause
    return Refused(kind="network", detail=str(error.__cause__ or error))


def _refused(tap: Tap | None, head: ResponseHead, *, timed_out: bool) -> Refused:
    if head.status is not None and head.status != 101:
        return refused_by_http(head.status, head.headers, time.time())
    if head.malformed:
        return Refused(kind="protocol", detail="the answer is not http")
    if timed_out:
        return Refused(kind="timeout")
    error = tap.error if tap is not None else None
    lost = error is None or isinstance(error, (trio.BrokenResourceError, trio.ClosedResourceError))
    if head.status == 101 or not lost:
        return Refused(kind="protocol", detail=str(error or "the 101 is not valid"))
    return Refused(kind="closed", detail="no whole answer")


def accept(
    stream: trio.abc.Stream,
    answer: Answer,
    *,
    close_timeout_s: float,
) -> AbstractAsyncContextManager[Connection | None]:
    """Answer a handshake on a stream that was accepted; give the connection, or None if there is none.

    `answer` accepts or rejects the request. The stream is closed at the end of the block at the latest, whatever
    happened: garbage, an RST in between, a rejection. How long a request may take to come is the caller's to bound.
    """

    async def establish(nursery: trio.Nursery) -> Connection | None:
        tap = Tap(stream)
        readers = ReaderNursery(nursery, tap)
        websocket: WebSocketConnection | None = None
        try:
            with tap.while_alive(), suppress(ConnectionClosed, LocalProtocolError):
                request = await wrap_server_stream(
                    cast("trio.Nursery", readers),
                    tap,
                    message_queue_size=QUEUE_MESSAGES,
                    max_message_size=MESSAGE_BYTES_MAX,
                    receive_buffer_size=READ_BYTES,
                )
                websocket = await answer(request)
        finally:
            if websocket is None:
                await tap.abort()
        if websocket is None:
            return None
        return Connection(websocket, tap, readers, close_timeout_s=close_timeout_s)

    return _live_in_nursery(establish)
