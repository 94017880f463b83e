"""Toxiproxy's HTTP API as a Starlette application: every route, status, body and header of api.go."""

from __future__ import annotations

import posixpath
import secrets
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import trio
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route
from starlette.types import ASGIApp, Receive, Scope, Send

from chaos.faults.gojson import write
from chaos.faults.wire import (
    ApiError,
    bad_body,
    read_body,
    read_populate,
    read_proxy,
    read_toxic,
    update_toxic,
)
from chaos.toxiproxy_server import metrics
from chaos.toxiproxy_server.carried import Carried
from chaos.toxiproxy_server.collection import Collection, Populating
from chaos.toxiproxy_server.guard import HostCheck, is_browser, read_limited

Handler = Callable[["Api", Request], Awaitable[Response]]
JSON = "application/json"
_TEXT = {"Content-Type": "text/plain; charset=utf-8", "X-Content-Type-Options": "nosniff"}
_ALPHABET = "0123456789abcdefghijklmnopqrstuv"


@dataclass(frozen=True, slots=True, kw_only=True)
class Api:
    """What the handlers work on."""

    collection: Collection
    version: str
    proxy_metrics: bool = False
    runtime_metrics: bool = False


def make_app(api: Api, hosts: HostCheck) -> ASGIApp:
    """Return the application. It starts nothing and owns nothing."""
    routes: list[BaseRoute] = [
        _route(path, dict(methods), api) for path, methods in _ROUTES.items()
    ]
    if api.proxy_metrics or api.runtime_metrics:
        every = Route("/metrics", partial(_answer, api, _ANY_METRICS))
        every.methods = None  # any method
        routes.append(every)
    app = Starlette(routes=routes, exception_handlers={404: _not_found, 405: _not_allowed})
    app.router.redirect_slashes = False
    return _Front(app, hosts)


def _route(path: str, methods: dict[str, Handler], api: Api) -> Route:
    route = Route(path, partial(_answer, api, methods), methods=list(methods))
    assert route.methods is not None
    # Starlette adds HEAD to GET; the original answers 405
    route.methods.discard("HEAD")
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
        if not self._hosts.allows(request.headers.get("host")):
            return _text("Host not allowed", 403)
        path = request.scope["path"]
        clean = _clean(path)
        if clean != path:
            query = f"?{request.url.query}" if request.url.query else ""
            return Response(status_code=301, headers={"Location": clean + query})
        return None


def _clean(path: str) -> str:
    clean = posixpath.normpath("/" + path.lstrip("/"))
    return clean + "/" if path.endswith("/") and clean != "/" else clean


def _text(text: str, status: int) -> Response:
    return Response(text + "\n", status, headers=_TEXT)


def _json(body: Any, status: int = 200) -> Response:
    return Response(write(body), status, media_type=JSON)


def _error(error: ApiError) -> Response:
    return _text(write(error.body()), error.status)


async def _not_found(_request: Request, _: Exception) -> Response:
    return _text("404 page not found", 404)


async def _not_allowed(_request: Request, _: Exception) -> Response:
    return Response(status_code=405)


async def _answer(api: Api, methods: Mapping[str, Handler], request: Request) -> Response:
    """Answer a request that a route has matched."""
    if is_browser(request.headers.get("user-agent", "")):
        answer = _text("User agent not allowed", 403)
    else:
        try:
            answer = await methods.get(request.method, _metrics)(api, request)
        except ApiError as error:
            answer = _error(error)
    answer.headers["X-Toxiproxy-Request-Id"] = _request_id()
    return answer


def _request_id() -> str:
    """Return a fresh id: 20 characters, as the original's."""
    return "".join(secrets.choice(_ALPHABET) for _ in range(20))


async def _body(api: Api, request: Request) -> Any:
    return read_body(await read_limited(request, api.collection.limits.body_bytes))


async def _proxy_index(api: Api, _request: Request) -> Response:
    proxies = api.collection.proxies
    return _json({name: proxies[name].body() for name in sorted(proxies)})


async def _proxy_create(api: Api, request: Request) -> Response:
    wanted = read_proxy(await _body(api, request))
    return _json((await api.collection.create(wanted)).body(), 201)


async def _populate(api: Api, request: Request) -> Response:
    """Answer with what was done, and what went wrong at the first that failed."""
    try:
        rows = read_populate(await _body(api, request))
        done = await api.collection.populate(rows)
    except Populating as stopped:
        error, done = stopped.error, stopped.done
        body = error.body() | {"proxies": [proxy.body() for proxy in done] or None}
        return _json(body, error.status)
    except ApiError as error:
        return _json(error.body() | {"proxies": None}, error.status)
    return _json({"proxies": [proxy.body() for proxy in done] or None}, 201)


async def _proxy_show(api: Api, request: Request) -> Response:
    return _json(api.collection.get(request.path_params["proxy"]).body())


async def _proxy_update(api: Api, request: Request) -> Response:
    proxy = api.collection.get(request.path_params["proxy"])
    await api.collection.update(proxy, read_proxy(await _body(api, request)))
    return _json(proxy.body())


async def _proxy_delete(api: Api, request: Request) -> Response:
    api.collection.delete(request.path_params["proxy"])
    return Response(status_code=204)


async def _toxic_index(api: Api, request: Request) -> Response:
    proxy = api.collection.get(request.path_params["proxy"])
    return _json([toxic.body() for toxic in proxy.toxics()])


async def _toxic_create(api: Api, request: Request) -> Response:
    name = request.path_params["proxy"]
    api.collection.get(name)
    body = await _body(api, request)
    # looked up again: the body may have taken its time, and the proxy gone meanwhile
    proxy = api.collection.get(name)
    toxic = read_toxic(body, [known.name for known in proxy.toxics()])
    api.collection.add_toxic(proxy, toxic)
    return _json(toxic.body())


async def _toxic_show(api: Api, request: Request) -> Response:
    proxy = api.collection.get(request.path_params["proxy"])
    return _json(proxy.toxic(request.path_params["toxic"]).body())


async def _toxic_update(api: Api, request: Request) -> Response:
    proxy = api.collection.get(request.path_params["proxy"])
    name = request.path_params["toxic"]
    proxy.toxic(name)
    body = await _body(api, request)
    toxic = update_toxic(proxy.toxic(name), body)
    proxy.change(toxic)
    return _json(toxic.body())


async def _toxic_delete(api: Api, request: Request) -> Response:
    proxy = api.collection.get(request.path_params["proxy"])
    proxy.remove(request.path_params["toxic"])
    return Response(status_code=204)


async def _reset(api: Api, _request: Request) -> Response:
    await api.collection.reset()
    return Response(status_code=204)


async def _version(api: Api, _request: Request) -> Response:
    text = f'{{"version": {write(api.version)}}}\n'
    return Response(text, headers={"Content-Type": "application/json;charset=utf-8"})


async def _metrics(api: Api, _request: Request) -> Response:
    text = metrics.handler_metrics()
    if api.runtime_metrics:
        text = metrics.runtime_metrics() + text
    if api.proxy_metrics:
        text += metrics.proxy_metrics(api.collection.ground.totals)
    return Response(text, headers={"Content-Type": metrics.CONTENT_TYPE})


async def _connection_index(api: Api, _request: Request) -> Response:
    """Beyond the original: the open connections."""
    rows = api.collection.ground.connections.values()
    return _json([_connection_body(api, carried) for carried in rows])


async def _connection_delete(api: Api, request: Request) -> Response:
    """Beyond the original: end one connection, with FIN or with RST."""
    how = request.query_params.get("how", "fin")
    if how not in ("fin", "rst"):
        raise bad_body(f"expected how=fin or how=rst, got {how}")
    carried = api.collection.connection(request.path_params["id"])
    if how == "rst":
        carried.reset()
    else:
        carried.close()
    return Response(status_code=204)


def _connection_body(api: Api, carried: Carried) -> dict[str, Any]:
    proxy = api.collection.proxies.get(carried.origin.proxy)
    return {
        "id": carried.id,
        "proxy": carried.origin.proxy,
        "client": carried.client,
        "upstream": carried.server,
        "age_s": round(trio.current_time() - carried.opened_s, 3),
        "bytes": {
            stream: {"received": counter.received, "sent": counter.sent}
            for stream, counter in carried.bytes.items()
        },
        "toxics": proxy.active(carried) if proxy is not None else [],
    }


_ANY_METRICS: Mapping[str, Handler] = {}
_ROUTES: Mapping[str, Mapping[str, Handler]] = {
    "/reset": {"POST": _reset},
    "/proxies": {"GET": _proxy_index, "POST": _proxy_create},
    "/populate": {"POST": _populate},
    "/proxies/{proxy}": {
        "GET": _proxy_show,
        "POST": _proxy_update,
        "PATCH": _proxy_update,
        "DELETE": _proxy_delete,
    },
    "/proxies/{proxy}/toxics": {"GET": _toxic_index, "POST": _toxic_create},
    "/proxies/{proxy}/toxics/{toxic}": {
        "GET": _toxic_show,
        "POST": _toxic_update,
        "PATCH": _toxic_update,
        "DELETE": _toxic_delete,
    },
    "/version": {"GET": _version},
    "/connections": {"GET": _connection_index},
    "/connections/{id}": {"DELETE": _connection_delete},
}
