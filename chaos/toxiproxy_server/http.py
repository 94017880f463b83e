"""The API over HTTP: Hypercorn's trio worker, with connections that end when their client has gone."""

from __future__ import annotations

import logging
import socket
from contextlib import suppress
from typing import Any

import trio
from hypercorn.app_wrappers import ASGIWrapper
from hypercorn.config import Config
from hypercorn.events import Event, Updated
from hypercorn.trio.tcp_server import TCPServer
from hypercorn.trio.worker_context import WorkerContext
from hypercorn.typing import ConnectionState
from starlette.types import ASGIApp

from chaos.toxiproxy_server.http1 import Http1

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
    listener: socket.socket,
    *,
    task_status: trio.TaskStatus[Any] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Serve an application that needs no lifespan on a socket that listens, until cancelled. Closes the socket."""
    config = Config()
    config.include_server_header = False
    config.keep_alive_timeout = IDLE_S
    config.h11_max_incomplete_size = HEAD_BYTES_MAX
    config.loglevel = "WARNING"
    config.accesslog = None
    application: Any = app  # Hypercorn's types are narrower than Starlette's
    context, state = WorkerContext(None), ConnectionState({})

    async def answer(stream: Any) -> None:
        try:
            await _Connection(ASGIWrapper(application), config, context, state, stream)
        except Exception:  # a mistake of ours with one client is no reason to let go of the others
            LOG.exception("a connection to the API failed")

    accepting = trio.SocketListener(trio.socket.from_stdlib_socket(listener))
    await trio.serve_listeners(answer, [accepting], task_status=task_status)
