"""The API over HTTP: Hypercorn's trio worker, with connections that end when their client has gone.

HTTP/1.1 is spoken as Go's server speaks it (net/http), where Hypercorn's differs and a client of Toxiproxy sees it.
"""

from __future__ import annotations

import logging
import socket
from contextlib import suppress
from http import HTTPStatus
from typing import Any
from urllib.parse import urlsplit

import h11
import trio
from hypercorn.app_wrappers import ASGIWrapper
from hypercorn.config import Config
from hypercorn.events import Event, RawData, Updated
from hypercorn.protocol.events import Request
from hypercorn.protocol.h11 import STREAM_ID, H11Protocol
from hypercorn.protocol.http_stream import HTTPStream
from hypercorn.trio.tcp_server import TCPServer
from hypercorn.trio.worker_context import WorkerContext
from hypercorn.typing import ConnectionState, H11SendableEvent
from starlette.types import ASGIApp

from chaos.link.listener import Listener, Short

LOG = logging.getLogger("trio-chaos.toxiproxy-server")
IDLE_S = 60.0  # api.go, IdleTimeout
HEAD_BYTES_MAX = 1 << 20  # net/http, DefaultMaxHeaderBytes: names in paths may be long


class _Connection(TCPServer):
    """Hypercorn's, but for what it does when a client goes while its call is answered (0.18.0).

    The wait for the next request began anew after the answer, though nobody was there to send one, and kept the
    socket until the idle time was over: some thousand calls a minute, each on a connection of its own, and a server
    had no file descriptor left.
    """

    _gone = False

    async def _read_data(self) -> None:
        made = self.protocol
        made.protocol = Http1(
            made.app,
            made.config,
            made.context,
            made.task_group,
            made.state,
            made.ssl,
            made.client,
            made.server,
            made.send,
        )
        await super()._read_data()
        self._gone = True
        await self.idle_task.stop()

    async def protocol_send(self, event: Event) -> None:
        if self._gone and isinstance(event, Updated):
            return
        # its end of the stream is sent without the lock that other sends take: then nothing more can be said
        with suppress(trio.BusyResourceError):
            await super().protocol_send(event)


async def serve_http(
    app: ASGIApp,
    listening: socket.socket,
    short: Short,
    *,
    task_status: trio.TaskStatus[Any] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Serve an application that needs no lifespan on a socket that listens, until cancelled. Closes the socket.

    `short` is called when a client waits for which there is no descriptor.
    """
    config = Config()
    config.include_server_header = False
    config.keep_alive_timeout = IDLE_S
    config.h11_max_incomplete_size = HEAD_BYTES_MAX
    config.loglevel = "WARNING"
    config.accesslog = None
    application: Any = app  # Hypercorn's types are narrower than Starlette's
    context, state = WorkerContext(None), ConnectionState({})

    async def answer(accepted: trio.socket.SocketType) -> None:
        stream: Any = trio.SocketStream(accepted)
        try:
            await _Connection(ASGIWrapper(application), config, context, state, stream)
        except Exception:  # a mistake of ours with one client is no reason to let go of the others
            LOG.exception("a connection to the API failed")
        finally:
            stream.socket.close()

    listener = Listener(short)
    # one of trio's, which is accepted from once in each turn of the loop: a new connection takes a millisecond
    listener.listen(trio.socket.from_stdlib_socket(listening))
    async with trio.open_nursery() as nursery:
        task_status.started()
        await listener.serve(lambda accepted, _: nursery.start_soon(answer, accepted))


class Http1(H11Protocol):
    """Hypercorn's protocol (0.18.0), but:

    * nothing is upgraded: requests for HTTP/2 or a WebSocket are answered as what they are besides;
    * methods are what was written, so that `get` is not GET;
    * a target may be a whole URL, as proxies are sent;
    * status lines have their phrase, headers their capitals, and refusals of what is no HTTP a line of text.
    """

    async def _check_protocol(self, event: h11.Request) -> None:
        """Leave the protocol as it is."""

    async def _create_stream(self, request: h11.Request) -> None:
        self.stream = HTTPStream(
            self.app,
            self.config,
            self.context,
            self.task_group,
            self.ssl,
            self.client,
            self.server,
            self.stream_send,
            STREAM_ID,
        )
        await self.stream.handle(
            Request(
                stream_id=STREAM_ID,
                headers=list(request.headers),
                http_version=request.http_version.decode(),
                method=request.method.decode("ascii"),
                raw_path=_path_of(request.target),
                state=self.connection_state,
            )
        )
        self.keep_alive_requests += 1
        await self.context.mark_request()

    async def _send_h11_event(self, event: H11SendableEvent) -> None:
        if isinstance(event, h11.Response):
            event = h11.Response(
                status_code=event.status_code,
                headers=[
                    (b"-".join(map(bytes.capitalize, name.split(b"-"))), value)
                    for name, value in event.headers
                ],
                reason=_phrase(event.status_code),
            )
        await super()._send_h11_event(event)

    async def _send_error_response(self, status_code: int) -> None:
        text = f"{status_code} {_phrase(status_code).decode()}".encode()
        headers = [
            (b"Content-Type", b"text/plain; charset=utf-8"),
            (b"Content-Length", str(len(text)).encode()),
            (b"Connection", b"close"),
        ]
        response = h11.Response(
            status_code=status_code, headers=headers, reason=_phrase(status_code)
        )
        parts = [self.connection.send(part) for part in (response, h11.Data(data=text))]
        self.connection.send(h11.EndOfMessage())
        await self.send(RawData(b"".join(part or b"" for part in parts)))


def _path_of(target: bytes) -> bytes:
    """Return path and query of a request's target (RFC 9112 section 3.2)."""
    if target.startswith(b"/") or b"://" not in target:
        return target
    parts = urlsplit(target)
    return parts.path + (b"?" + parts.query if parts.query else b"")


def _capitals(name: bytes) -> bytes:
    return b"-".join(part.capitalize() for part in name.split(b"-"))


def _phrase(status: int) -> bytes:
    try:
        return HTTPStatus(status).phrase.encode()
    except ValueError:
        return b""
