"""Toxiproxy's HTTP API as a Starlette application: every route, status, body and header of api.go."""

from __future__ import annotations

import posixpath
import re
import secrets
from collections.abc import Mapping
from dataclasses import replace
from functools import cache, partial
from http import HTTPStatus
from typing import Any
from urllib.parse import quote

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route
from starlette.types import ASGIApp, Receive, Scope, Send

from chaos.toxiproxy_server import additions, metrics
from chaos.toxiproxy_server.collection import Populating
from chaos.toxiproxy_server.go.gojson import write
from chaos.toxiproxy_server.go.wire import (
    ApiError,
    read_populate,
    read_proxy,
    read_toxic,
    update_toxic,
)
from chaos.toxiproxy_server.guard import HostCheck, is_browser, is_own_page
from chaos.toxiproxy_server.openapi import document
from chaos.toxiproxy_server.operations import (
    JSON,
    TEXT,
    Api,
    Operation,
    Table,
    body,
    error,
    json,
    text,
)

_CONTINUE = "100-continue"
_MALFORMED = re.compile(rb"%(?![0-9A-Fa-f]{2})")
# what net/url leaves as it is in a path
_UNQUOTED = "$&+,/:;=@"
_ALPHABET = "0123456789abcdefghijklmnopqrstuv"


def make_app(api: Api, hosts: HostCheck) -> ASGIApp:
    """Return the application. It starts nothing and owns nothing."""
    table = _table(page=api.page, metrics_on=api.proxy_metrics or api.runtime_metrics)
    routes: list[BaseRoute] = [_route(path, methods, api) for path, methods in table.items()]
    app = Starlette(routes=routes, exception_handlers={404: _not_found, 405: _not_allowed})
    app.router.redirect_slashes = False
    return _Front(app, hosts)


def _route(path: str, operations: Mapping[str, Operation], api: Api) -> Route:
    route = Route(path, partial(_answer, api, operations), methods=list(operations))
    assert route.methods is not None
    # Starlette adds HEAD to GET; the original answers 405
    route.methods.discard("HEAD")
    if path in _METRICS:
        route.methods = None  # any method, as the original's
    return route


class _Front:
    """What is done before a route is looked for: Host, and paths that are not clean (gorilla/mux, cleanPath)."""

    def __init__(self, app: ASGIApp, hosts: HostCheck) -> None:
        self._app = app
        self._hosts = hosts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        answer = self._early(Request(scope))
        await (answer or self._app)(scope, receive, send)

    def _early(self, request: Request) -> Response | None:
        scope = request.scope
        path, query = scope["path"], scope["query_string"].decode("latin-1")
        if _MALFORMED.search(scope["raw_path"]):
            return _plain(400)
        if request.headers.get("expect", _CONTINUE).lower() != _CONTINUE:
            return _plain(417)
        if not self._hosts.allows(request.headers.get("host")):
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
    """Answer a request that a route has matched."""
    if not api.page and is_browser(request.headers.get("user-agent", "")):
        answer = text("User agent not allowed", 403)
    elif api.page and not is_own_page(request.headers):
        answer = text("Origin not allowed", 403)
    else:
        try:
            # a route that takes any method is described by one
            operation = operations.get(request.method) or next(iter(operations.values()))
            answer = await operation.handler(api, request)
        except ApiError as refused:
            answer = error(refused)
    answer.headers["X-Toxiproxy-Request-Id"] = _request_id()
    return answer


def _request_id() -> str:
    """Return a fresh id: 20 characters, as the original's."""
    return "".join(secrets.choice(_ALPHABET) for _ in range(20))


async def _proxy_index(api: Api, _request: Request) -> Response:
    proxies = api.collection.proxies
    return json({name: proxies[name].body() for name in sorted(proxies)})


async def _proxy_create(api: Api, request: Request) -> Response:
    wanted = read_proxy(await body(api, request))
    return json((await api.collection.create(wanted)).body(), 201)


async def _populate(api: Api, request: Request) -> Response:
    """Answer with what was done, and what went wrong at the first that failed."""
    try:
        rows = read_populate(await body(api, request))
        done = await api.collection.populate(rows)
    except Populating as stopped:
        done = stopped.done
        told = stopped.error.body() | {"proxies": [proxy.body() for proxy in done] or None}
        return json(told, stopped.error.status)
    except ApiError as refused:
        return json(refused.body() | {"proxies": None}, refused.status)
    return json({"proxies": [proxy.body() for proxy in done] or None}, 201)


async def _proxy_show(api: Api, request: Request) -> Response:
    return json(api.collection.get(request.path_params["proxy"]).body())


async def _proxy_update(api: Api, request: Request) -> Response:
    proxy = api.collection.get(request.path_params["proxy"])
    await api.collection.update(proxy, read_proxy(await body(api, request)))
    return json(proxy.body())


async def _proxy_delete(api: Api, request: Request) -> Response:
    api.collection.delete(request.path_params["proxy"])
    return Response(status_code=204)


async def _toxic_index(api: Api, request: Request) -> Response:
    proxy = api.collection.get(request.path_params["proxy"])
    return json([toxic.body() for toxic in proxy.toxics()])


async def _toxic_create(api: Api, request: Request) -> Response:
    name = request.path_params["proxy"]
    api.collection.get(name)
    given = await body(api, request)
    # looked up again: the body may have taken its time, and the proxy gone meanwhile
    proxy = api.collection.get(name)
    toxic = read_toxic(given, [known.name for known in proxy.toxics()])
    api.collection.add_toxic(proxy, toxic)
    return json(toxic.body())


async def _toxic_show(api: Api, request: Request) -> Response:
    proxy = api.collection.get(request.path_params["proxy"])
    return json(proxy.toxic(request.path_params["toxic"]).body())


async def _toxic_update(api: Api, request: Request) -> Response:
    proxy = api.collection.get(request.path_params["proxy"])
    name = request.path_params["toxic"]
    proxy.toxic(name)
    given = await body(api, request)
    toxic = update_toxic(proxy.toxic(name), given)
    proxy.change(toxic)
    return json(toxic.body())


async def _toxic_delete(api: Api, request: Request) -> Response:
    proxy = api.collection.get(request.path_params["proxy"])
    proxy.remove(request.path_params["toxic"])
    return Response(status_code=204)


async def _reset(api: Api, _request: Request) -> Response:
    await api.collection.reset()
    return Response(status_code=204)


async def _version(api: Api, _request: Request) -> Response:
    told = f'{{"version": {write(api.version)}}}\n'
    return Response(told, headers={"Content-Type": "application/json;charset=utf-8"})


async def _metrics(api: Api, _request: Request) -> Response:
    told = metrics.handler_metrics()
    if api.runtime_metrics:
        told = metrics.runtime_metrics() + told
    if api.proxy_metrics:
        told += metrics.proxy_metrics(api.collection.ground.totals)
    return Response(told, headers={"Content-Type": metrics.CONTENT_TYPE})


async def _openapi(api: Api, _request: Request) -> Response:
    metrics_on = api.proxy_metrics or api.runtime_metrics
    told = _description(api.page, metrics_on, api.version)
    return Response(told, media_type=JSON)


@cache
def _description(page: bool, metrics_on: bool, version: str) -> str:
    return write(document(_table(page=page, metrics_on=metrics_on), version))


def _table(*, page: bool, metrics_on: bool) -> Table:
    return {
        **_ROUTES,
        **(_METRICS if metrics_on else {}),
        **additions.ROUTES,
        **_DESCRIPTION,
        **(additions.PAGE_ROUTES if page else {}),
    }


def described(version: str = "2.12.0") -> dict[str, Any]:
    """Return the OpenAPI description of all that a server may have."""
    return document(_table(page=True, metrics_on=True), version)


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
_ROUTES: Table = {
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
}
_METRICS: Table = {
    "/metrics": {"GET": Operation(handler=_metrics, does="Count, for Prometheus", media=TEXT)}
}
_DESCRIPTION: Table = {
    "/openapi.json": {"GET": Operation(handler=_openapi, does="Describe this API", gives="OpenAPI")}
}
