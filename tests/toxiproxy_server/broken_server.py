"""A server of this project with operations that are broken, each in another way: `python broken_server.py PORT`."""

from __future__ import annotations

import sys
from dataclasses import replace
from typing import Any

from starlette.responses import Response

from chaos.commands.main import main
from chaos.toxiproxy_server import api
from chaos.toxiproxy_server.api import json


async def raises(_api: Any, _request: Any) -> Response:
    raise ValueError("a handler that raises")


async def accepts_all(_api: Any, _request: Any) -> Response:
    return await json({"proxies": None}, 201)


async def other_status(_api: Any, _request: Any) -> Response:
    return await json({}, 202)


async def other_type(_api: Any, _request: Any) -> Response:
    return Response("[]", media_type="text/csv")


async def other_shape(_api: Any, _request: Any) -> Response:
    return await json({"playing": "yes"})


async def other_error(_api: Any, _request: Any) -> Response:
    return Response('{"error":"out of luck","status":500}', 500, media_type="text/plain")


BROKEN = {
    ("/version", "GET"): raises,
    ("/populate", "POST"): accepts_all,
    ("/proxies", "GET"): other_status,
    ("/connections", "GET"): other_type,
    ("/timeline", "GET"): other_shape,
    ("/reset", "POST"): other_error,
}

if __name__ == "__main__":
    for path, methods in api.ROUTES.items():
        for method in methods:
            if (path, method) in BROKEN:
                methods[method] = replace(methods[method], handler=BROKEN[path, method])  # type: ignore[index]
    sys.argv = ["trio-chaos", "toxiproxy-server", "-port", sys.argv[1]]
    main()
