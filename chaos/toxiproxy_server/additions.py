"""Routes beyond the original's: connections, timelines, events and the live page."""

from __future__ import annotations

from typing import Any, get_args

import trio
from starlette.requests import Request
from starlette.responses import Response

from chaos.toxiproxy_server import page
from chaos.toxiproxy_server.connection import ProxiedConnection
from chaos.toxiproxy_server.event_stream import EventStream
from chaos.toxiproxy_server.events import LISTENERS_MAX, Kind
from chaos.toxiproxy_server.go.wire import ApiError, bad_body
from chaos.toxiproxy_server.operations import EVENT_STREAM, HTML, Api, Operation, Table, body, json

HOWS = ("fin", "rst")


async def _connection_index(api: Api, _request: Request) -> Response:
    rows = api.collection.ground.connections.values()
    return json([_connection_body(api, connection) for connection in rows])


async def _connection_delete(api: Api, request: Request) -> Response:
    """End one connection, with FIN or with RST."""
    how = request.query_params.get("how", HOWS[0])
    if how not in HOWS:
        raise bad_body(f"expected how=fin or how=rst, got {how}")
    connection = api.collection.connection(request.path_params["id"])
    if how == "rst":
        connection.reset()
    else:
        connection.close()
    return Response(status_code=204)


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


async def _timeline_start(api: Api, request: Request) -> Response:
    return json(await api.player.play(await body(api, request)), 201)


async def _timeline_show(api: Api, _request: Request) -> Response:
    return json(api.player.status())


async def _timeline_stop(api: Api, _request: Request) -> Response:
    api.player.stop()
    return Response(status_code=204)


async def _events(api: Api, _request: Request) -> Response:
    events = api.collection.ground.events
    if events.listeners >= LISTENERS_MAX:
        raise ApiError(f"too many listeners, expected at most {LISTENERS_MAX}", 503)
    return EventStream(events)


async def _page(_api: Api, _request: Request) -> Response:
    return page.answer()


ROUTES: Table = {
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
            media=EVENT_STREAM,
            refuses=(503,),
        )
    },
}
PAGE_ROUTES: Table = {"/": {"GET": Operation(handler=_page, does="Show the live page", media=HTML)}}
