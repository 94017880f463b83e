"""HTTP/1.1 as Go's server speaks it, where Hypercorn's differs and a client of Toxiproxy can see it (net/http)."""

from __future__ import annotations

from http import HTTPStatus
from urllib.parse import urlsplit

import h11
from hypercorn.events import RawData
from hypercorn.protocol.events import Request
from hypercorn.protocol.h11 import STREAM_ID, H11Protocol
from hypercorn.protocol.http_stream import HTTPStream
from hypercorn.typing import H11SendableEvent


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
                headers=[(_capitals(name), value) for name, value in event.headers],
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
