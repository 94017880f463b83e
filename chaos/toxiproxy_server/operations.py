"""What all routes share: how operations are described, what their handlers work on, and how these read and answer."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from chaos.toxiproxy_server.collection import Collection
from chaos.toxiproxy_server.go.gojson import write
from chaos.toxiproxy_server.go.wire import ApiError, read_body
from chaos.toxiproxy_server.guard import read_limited
from chaos.toxiproxy_server.player import Player

JSON = "application/json"
EVENT_STREAM = "text/event-stream"
HTML = "text/html"
TEXT = "text/plain"
_TEXT = {"Content-Type": "text/plain; charset=utf-8", "X-Content-Type-Options": "nosniff"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Api:
    """What the handlers work on. `page`: browsers may load the live page and call from it."""

    collection: Collection
    player: Player
    version: str
    proxy_metrics: bool = False
    runtime_metrics: bool = False
    page: bool = False


Handler = Callable[[Api, Request], Awaitable[Response]]


def text(line: str, status: int) -> Response:
    """Answer with a line of text, as Go's http.Error does."""
    return Response(line + "\n", status, headers=_TEXT)


def json(value: Any, status: int = 200) -> Response:
    """Answer with JSON as Go writes it."""
    return Response(write(value), status, media_type=JSON)


def error(error: ApiError) -> Response:
    """Answer with an error."""
    return text(write(error.body()), error.status)


async def body(api: Api, request: Request) -> Any:
    """Return the JSON of a request. Raises ApiError (400, 413)."""
    return read_body(await read_limited(request, api.collection.limits.body_bytes))


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation:
    """One method of one route.

    `takes` and `gives` name schemas of `schemas.components`; without them there is no body. `refuses` has the
    statuses of its errors beside those that every operation has.
    """

    handler: Handler
    does: str
    status: int = 200
    gives: str | None = None
    media: str = JSON
    takes: str | None = None
    refuses: tuple[int, ...] = ()
    refused_as_json: bool = False
    deprecated: bool = False
    query: Mapping[str, tuple[str, ...]] = field(default_factory=dict)  # parameters and their words


Table = Mapping[str, Mapping[str, Operation]]  # path → method → operation
