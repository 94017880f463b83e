"""What all routes share: how a server is started, how operations are described, and how they read and answer."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from chaos.link.endings import EndPolicy
from chaos.toxiproxy_server.collection import Collection, Limits
from chaos.toxiproxy_server.go.gojson import write
from chaos.toxiproxy_server.go.wire import read_body
from chaos.toxiproxy_server.guard import read_limited
from chaos.toxiproxy_server.timeline import Player

JSON = "application/json"
TEXT = "text/plain"
_TEXT = {"Content-Type": "text/plain; charset=utf-8", "X-Content-Type-Options": "nosniff"}


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerOptions:
    """How a server is started. `page`: browsers may load the live page and call from it."""

    host: str = "localhost"
    port: str = "8474"
    config: str = ""
    seed: int | None = None
    proxy_metrics: bool = False
    runtime_metrics: bool = False
    api_version: str = "2.12.0"
    ends_are: EndPolicy = "toxiproxy"
    dial_s: float = 30.0
    allow_hosts: tuple[str, ...] = ()
    page: bool = False
    limits: Limits = field(default_factory=Limits)


@dataclass(frozen=True, slots=True, kw_only=True)
class Api:
    """What the handlers work on."""

    collection: Collection
    player: Player
    options: ServerOptions


# Returns the JSON of a success, None where the operation gives none, or a whole response. Raises ApiError.
Handler = Callable[[Api, Request], Awaitable[Any]]


def text(line: str, status: int) -> Response:
    """Return an answer that is a line of text, as Go's http.Error gives it."""
    return Response(line + "\n", status, headers=_TEXT)


def json(value: Any, status: int = 200) -> Response:
    """Return an answer that is JSON as Go writes it."""
    return Response(write(value), status, media_type=JSON)


async def body(api: Api, request: Request) -> Any:
    """Return the JSON of a request. Raises ApiError (400, 413)."""
    return read_body(await read_limited(request, api.options.limits.body_bytes))


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation:
    """One method of one route.

    `takes` and `gives` name schemas of `openapi.components`; without them there is no body. `refuses` has the
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
