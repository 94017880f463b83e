"""Toxiproxy's HTTP API as a Starlette application: every route, status, body and header of api.go, and our additions.

The additions are connections, timelines, events, the live page and the description of the API.
"""

from __future__ import annotations

import posixpath
import re
import secrets
from collections.abc import Callable, Mapping, Sized
from dataclasses import dataclass, field, replace
from functools import cache, partial
from http import HTTPStatus
from typing import Any, TypeVar, get_args
from urllib.parse import quote

import trio
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route
from starlette.types import ASGIApp, Receive, Scope, Send

from chaos.link.endings import EndPolicy
from chaos.toxiproxy_server import metrics, page
from chaos.toxiproxy_server.collection import Collection, Limits
from chaos.toxiproxy_server.events import LISTENERS_MAX, EventStream, Kind
from chaos.toxiproxy_server.go.gojson import write
from chaos.toxiproxy_server.go.wire import (
    ApiError,
    bad_body,
    read_body,
    read_populate,
    read_proxy,
    read_toxic,
    update_toxic,
)
from chaos.toxiproxy_server.guard import EarlyAnswer, is_own_page, is_served, read_limited
from chaos.toxiproxy_server.openapi import JSON, TEXT, Operation, Table, document
from chaos.toxiproxy_server.proxy import ProxiedConnection, Proxy
from chaos.toxiproxy_server.shortage import is_shortage
from chaos.toxiproxy_server.timeline import Player

_TEXT = {"Content-Type": "text/plain; charset=utf-8", "X-Content-Type-Options": "nosniff"}
_CONTINUE = "100-continue"
_MALFORMED = re.compile(rb"%(?![0-9A-Fa-f]{2})")
# what net/url leaves as it is in a path
_UNQUOTED = "$&+,/:;=@"
_ALPHABET = "0123456789abcdefghijklmnopqrstuv"
HOWS = ("fin", "rst")
# what is read within a turn of the loop: a millisecond or two
AT_ONCE_BYTES = 2_048
AT_ONCE_ITEMS = 50


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


def text(line: str, status: int) -> Response:
    """Return an answer that is a line of text, as Go's http.Error gives it."""
    return _kind(status)(line + "\n", status, headers=_TEXT)


async def json(value: Any, status: int = 200, *, items: int = 1) -> Response:
    """Return an answer that is JSON as Go writes it; one of many items is written in a thread."""
    is_long = items > AT_ONCE_ITEMS
    written = await trio.to_thread.run_sync(write, value) if is_long else write(value)
    return _kind(status)(written, status, media_type=JSON)


def _kind(status: int) -> type[Response]:
    """Return the kind of answer: what is refused for its size has not been read."""
    return EarlyAnswer if status == HTTPStatus.REQUEST_ENTITY_TOO_LARGE else Response


Meaning = TypeVar("Meaning")


async def body(api: Api, request: Request, read: Callable[[Any], Meaning]) -> Meaning:
    """Return what `read` makes of the JSON of a request. Raises ApiError (400, 413).

    A large body is read in a thread, so that connections need not wait for it.
    """
    text = await read_limited(request, api.options.limits.body_bytes)
    if len(text) <= AT_ONCE_BYTES:
        return read(read_body(text))
    return await trio.to_thread.run_sync(lambda: read(read_body(text)))


def _as_it_is(value: Any) -> Any:
    return value


def make_app(api: Api) -> ASGIApp:
    """Return the application. It starts nothing and owns nothing."""
    table = _table(api.options)
    routes: list[BaseRoute] = [_route(path, methods, api) for path, methods in table.items()]
    app = Starlette(routes=routes, exception_handlers={404: _not_found, 405: _not_allowed})
    app.router.redirect_slashes = False
    names = frozenset(name.lower() for name in (*api.options.allow_hosts, api.options.host))

    async def answer(scope: Scope, receive: Receive, send: Send) -> None:
        early = _answer_early(Request(scope), names) if scope["type"] == "http" else None
        await (early or app)(scope, receive, send)

    return answer


def _route(path: str, operations: Mapping[str, Operation], api: Api) -> Route:
    route = Route(path, partial(_answer, api, operations), methods=list(operations))
    # Starlette adds HEAD to GET; the original answers 405, and takes any method for its metrics
    route.methods = None if path == "/metrics" else set(operations)
    return route


def _answer_early(request: Request, names: frozenset[str]) -> Response | None:
    """Return the answer that needs no route: a refusal, or the way to the clean path (gorilla/mux, cleanPath)."""
    scope = request.scope
    path, query = scope["path"], scope["query_string"].decode("latin-1")
    if _MALFORMED.search(scope["raw_path"]):
        return _plain(400)
    if request.headers.get("expect", _CONTINUE).lower() != _CONTINUE:
        return _plain(417)
    if not is_served(request.headers.get("host"), names):
        return text("Host not allowed", 403)
    if (request.method, path) == ("OPTIONS", "*"):
        return Response()
    clean = _clean(path)
    if clean == path:
        return None
    location = quote(clean, safe=_UNQUOTED) + (f"?{query}" if query else "")
    return Response(status_code=301, headers={"Location": location})


def _plain(status: int) -> Response:
    """Refuse what is no proper HTTP, as Go's server does before it asks anybody."""
    line = f"{status} {HTTPStatus(status).phrase}"
    return Response(line, status, headers={"Connection": "close"}, media_type="text/plain")


def _clean(path: str) -> str:
    clean = posixpath.normpath("/" + path.lstrip("/"))
    return clean + "/" if path.endswith("/") and clean != "/" else clean


async def _not_found(_request: Request, _: Exception) -> Response:
    return text("404 page not found", 404)


async def _not_allowed(_request: Request, _: Exception) -> Response:
    return Response(status_code=405)


async def _answer(api: Api, operations: Mapping[str, Operation], request: Request) -> Response:
    """Return the answer to a request that a route has matched."""
    agent = request.headers.get("user-agent", "")
    # api.go, stopBrowsersMiddleware
    if not api.options.page and agent.startswith("Mozilla/"):
        answer = text("User agent not allowed", 403)
    elif not is_own_page(request.headers):
        answer = text("Origin not allowed", 403)
    else:
        # a route that takes any method is described by one
        operation = operations.get(request.method) or next(iter(operations.values()))
        answer = await _operate(api, operation, request)
    # 20 characters, as the original's
    answer.headers["X-Toxiproxy-Request-Id"] = "".join(secrets.choice(_ALPHABET) for _ in range(20))
    return answer


async def _operate(api: Api, operation: Operation, request: Request) -> Response:
    """Return the answer of a handler.

    A handler returns the JSON of a success, None where its operation gives none, or a whole response; or it raises
    ApiError.
    """
    try:
        given = await operation.handler(api, request)
    except ApiError as refused:
        return text(write(refused.body()), refused.status)
    except OSError as error:
        if not is_shortage(error):
            raise
        api.collection.shared.shortage.note(error)
        return text(write({"error": error.strerror, "status": 503}), 503)
    if isinstance(given, Response):
        return given
    if operation.gives:
        items = len(given) if isinstance(given, Sized) else 1
        return await json(given, operation.status, items=items)
    return Response(status_code=operation.status)


def _proxy_of(api: Api, request: Request) -> Proxy:
    """Return the proxy that a path names. Raises ApiError (404)."""
    return api.collection.get(request.path_params["proxy"])


async def _proxy_index(api: Api, _request: Request) -> Any:
    proxies = api.collection.proxies
    return {name: proxies[name].body() for name in sorted(proxies)}


async def _proxy_create(api: Api, request: Request) -> Any:
    wanted = await body(api, request, read_proxy)
    return (await api.collection.create(wanted)).body()


async def _populate(api: Api, request: Request) -> Any:
    """Return what was done; with what went wrong at the first that failed, if one did."""
    try:
        done, failed = await api.collection.populate(await body(api, request, read_populate))
    except ApiError as refused:
        done, failed = [], refused
    told = [proxy.body() for proxy in done] or None
    if failed is None:
        return await json({"proxies": told}, 201, items=len(done))
    return await json(failed.body() | {"proxies": told}, failed.status, items=len(done))


async def _proxy_show(api: Api, request: Request) -> Any:
    return _proxy_of(api, request).body()


async def _proxy_update(api: Api, request: Request) -> Any:
    proxy = _proxy_of(api, request)
    await api.collection.update(proxy, await body(api, request, read_proxy))
    return proxy.body()


async def _proxy_delete(api: Api, request: Request) -> None:
    api.collection.delete(request.path_params["proxy"])


async def _toxic_index(api: Api, request: Request) -> Any:
    return [toxic.body() for toxic in _proxy_of(api, request).toxics()]


async def _toxic_create(api: Api, request: Request) -> Any:
    _proxy_of(api, request)
    given = await body(api, request, _as_it_is)
    # looked up again: the body may have taken its time, and the proxy gone meanwhile
    proxy = _proxy_of(api, request)
    toxic = read_toxic(given, [known.name for known in proxy.toxics()])
    api.collection.add_toxic(proxy, toxic)
    return toxic.body()


async def _toxic_show(api: Api, request: Request) -> Any:
    return _proxy_of(api, request).toxic(request.path_params["toxic"]).body()


async def _toxic_update(api: Api, request: Request) -> Any:
    proxy, name = _proxy_of(api, request), request.path_params["toxic"]
    proxy.toxic(name)
    given = await body(api, request, _as_it_is)
    toxic = update_toxic(proxy.toxic(name), given)
    proxy.change(toxic)
    return toxic.body()


async def _toxic_delete(api: Api, request: Request) -> None:
    _proxy_of(api, request).remove(request.path_params["toxic"])


async def _reset(api: Api, _request: Request) -> None:
    await api.collection.reset()


async def _version(api: Api, _request: Request) -> Response:
    told = f'{{"version": {write(api.options.api_version)}}}\n'
    return Response(told, headers={"Content-Type": "application/json;charset=utf-8"})


async def _metrics(api: Api, _request: Request) -> Response:
    told = metrics.OF_HANDLER
    if api.options.runtime_metrics:
        told = metrics.runtime_metrics() + told
    if api.options.proxy_metrics:
        told += metrics.proxy_metrics(api.collection.shared.totals)
    return Response(told, headers={"Content-Type": metrics.CONTENT_TYPE})


async def _connection_index(api: Api, _request: Request) -> Any:
    rows = api.collection.shared.connections.values()
    return [_connection_body(api, connection) for connection in rows]


async def _connection_delete(api: Api, request: Request) -> None:
    """End one connection, with FIN or with RST."""
    how = request.query_params.get("how", HOWS[0])
    if how not in HOWS:
        raise bad_body(f"expected how=fin or how=rst, got {how}")
    connection = api.collection.connection(request.path_params["id"])
    (connection.reset if how == "rst" else connection.close)()


def _connection_body(api: Api, connection: ProxiedConnection) -> dict[str, Any]:
    proxy = api.collection.proxies.get(connection.origin.proxy)
    return {
        "id": connection.id,
        "proxy": connection.origin.proxy,
        "client": connection.client,
        "upstream": connection.server,
        "age_s": round(trio.current_time() - connection.opened_s, 3),
        "bytes": connection.moved(),
        "toxics": proxy.active(connection) if proxy is not None else [],
    }


async def _timeline_start(api: Api, request: Request) -> Any:
    return await api.player.play(await body(api, request, _as_it_is))


async def _timeline_show(api: Api, _request: Request) -> Any:
    return api.player.status()


async def _timeline_stop(api: Api, _request: Request) -> None:
    api.player.stop()


async def _events(api: Api, _request: Request) -> Response:
    events = api.collection.shared.events
    if events.listeners >= LISTENERS_MAX:
        raise ApiError(f"too many listeners, expected at most {LISTENERS_MAX}", 503)
    return EventStream(events)


async def _openapi(api: Api, _request: Request) -> Response:
    return Response(_description(api.options), media_type=JSON)


@cache
def _description(options: ServerOptions) -> str:
    return write(document(_table(options), options.api_version))


async def _page(_api: Api, _request: Request) -> Response:
    return page.answer()


def _table(options: ServerOptions) -> Table:
    """Return the operations that a server has."""
    metrics_on = options.proxy_metrics or options.runtime_metrics
    hidden = {path for path, on in (("/metrics", metrics_on), ("/", options.page)) if not on}
    return {path: ROUTES[path] for path in ROUTES if path not in hidden}


def described() -> dict[str, Any]:
    """Return the OpenAPI description of all that a server may have."""
    options = ServerOptions(page=True, proxy_metrics=True)
    return document(_table(options), options.api_version)


_UPDATE_PROXY = Operation(
    handler=_proxy_update,
    does="Change where a proxy listens, where it leads, and whether it runs",
    takes="ProxyUpdate",
    gives="Proxy",
    refuses=(404, 500),
)
_UPDATE_TOXIC = Operation(
    handler=_toxic_update,
    does="Change a toxic",
    takes="ToxicUpdate",
    gives="Toxic",
    refuses=(404,),
)
ROUTES: Table = {
    "/reset": {
        "POST": Operation(
            handler=_reset,
            does="Enable all proxies and remove all toxics",
            status=204,
            refuses=(500,),
        )
    },
    "/proxies": {
        "GET": Operation(handler=_proxy_index, does="List all proxies by name", gives="Proxies"),
        "POST": Operation(
            handler=_proxy_create,
            does="Create a proxy",
            takes="ProxyInput",
            status=201,
            gives="Proxy",
            refuses=(409, 500),
        ),
    },
    "/populate": {
        "POST": Operation(
            handler=_populate,
            does="Create or replace proxies, in order, up to the first that fails",
            takes="PopulateInput",
            status=201,
            gives="Populated",
            refuses=(409, 500),
            refused_as_json=True,
        )
    },
    "/proxies/{proxy}": {
        "GET": Operation(handler=_proxy_show, does="Show a proxy", gives="Proxy", refuses=(404,)),
        "POST": replace(_UPDATE_PROXY, deprecated=True),
        "PATCH": _UPDATE_PROXY,
        "DELETE": Operation(
            handler=_proxy_delete,
            does="Remove a proxy and close its connections",
            status=204,
            refuses=(404,),
        ),
    },
    "/proxies/{proxy}/toxics": {
        "GET": Operation(
            handler=_toxic_index, does="List a proxy's toxics", gives="Toxics", refuses=(404,)
        ),
        "POST": Operation(
            handler=_toxic_create,
            does="Add a toxic",
            takes="ToxicInput",
            gives="Toxic",
            refuses=(404, 409),
        ),
    },
    "/proxies/{proxy}/toxics/{toxic}": {
        "GET": Operation(handler=_toxic_show, does="Show a toxic", gives="Toxic", refuses=(404,)),
        "POST": replace(_UPDATE_TOXIC, deprecated=True),
        "PATCH": _UPDATE_TOXIC,
        "DELETE": Operation(
            handler=_toxic_delete, does="Remove a toxic", status=204, refuses=(404,)
        ),
    },
    "/version": {
        "GET": Operation(handler=_version, does="Tell the version", gives="Version"),
    },
    "/metrics": {"GET": Operation(handler=_metrics, does="Count, for Prometheus", media=TEXT)},
    "/connections": {
        "GET": Operation(
            handler=_connection_index, does="List open connections", gives="Connections"
        )
    },
    "/connections/{id}": {
        "DELETE": Operation(
            handler=_connection_delete,
            does="End a connection, with FIN or RST",
            status=204,
            refuses=(400, 404),
            query={"how": HOWS},
        )
    },
    "/timeline": {
        "GET": Operation(
            handler=_timeline_show, does="Tell what timeline plays", gives="TimelineStatus"
        ),
        "POST": Operation(
            handler=_timeline_start,
            does="Play a timeline on a proxy",
            takes="TimelineInput",
            status=201,
            gives="TimelineStatus",
            refuses=(404, 409),
        ),
        "DELETE": Operation(
            handler=_timeline_stop,
            does="Stop the timeline and remove what it added",
            status=204,
            refuses=(404,),
        ),
    },
    "/events": {
        "GET": Operation(
            handler=_events,
            does=f"Tell of events as they happen: {', '.join(get_args(Kind))}",
            media="text/event-stream",
            refuses=(503,),
        )
    },
    "/openapi.json": {
        "GET": Operation(handler=_openapi, does="Describe this API", gives="OpenAPI")
    },
    "/": {"GET": Operation(handler=_page, does="Show the live page", media="text/html")},
}
