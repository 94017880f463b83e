"""A server with Quart-Trio on Hypercorn's trio worker.

Hypercorn sends pings and does not wait for their pongs, so that the application has a watchdog: it ends a connection
on which nothing has come for as long as a ping and its pong may take. Its clients send something more often.
"""

from __future__ import annotations

import json
from functools import partial
from typing import Any

import trio
from hypercorn.config import Config
from hypercorn.trio import serve as hypercorn_serve
from quart import websocket
from quart_trio import QuartTrio

from chaos import report, subject


@subject(sends=True)
async def serve(host: str, port: int, *, task_status: Any, **options: Any) -> None:
    """Serve until cancelled."""
    config = Config()
    config.bind = [f"{host}:{port}"]
    config.websocket_ping_interval = options["heartbeat"]["interval_s"]
    config.graceful_timeout = 0.1
    config.errorlog = config.accesslog = None
    run = partial(hypercorn_serve, make_app(options), config, shutdown_trigger=trio.sleep_forever)
    async with trio.open_nursery() as nursery:
        (bound,) = await nursery.start(run)
        task_status.started(int(bound.rpartition(":")[2]))


def make_app(options: dict[str, Any]) -> QuartTrio:
    """Return an application with one WebSocket route."""
    app = QuartTrio("stranger")
    newest: dict[str, object] = {}
    last_id: dict[str, int] = {}
    silence_s = options["heartbeat"]["interval_s"] + options["heartbeat"]["timeout_s"]

    async def talk(client: str, me: object, line: dict[str, Any]) -> None:
        while True:
            if newest[client] is me:
                last_id[client] = last_id.get(client, 0) + 1
                report("send", id=last_id[client], to=int(client))
                row = {"id": last_id[client], "sender": "server"}
                await websocket.send(json.dumps(row).ljust(line["size"]))
            await trio.sleep(line["every_s"])

    async def listen(scope: trio.CancelScope) -> None:
        while True:
            with trio.move_on_after(silence_s) as wait:
                row = json.loads(await websocket.receive())
                report("message", id=row["id"], sender=row["sender"])
            if wait.cancelled_caught:
                scope.cancel()
                return

    @app.websocket("/")
    async def ticks() -> None:
        client, me = websocket.args.get("client", "1"), object()
        newest[client] = me
        async with trio.open_nursery() as nursery:
            nursery.start_soon(listen, nursery.cancel_scope)
            for line in options["workload"]:
                if line["sender"] == "server":
                    nursery.start_soon(talk, client, me, line)

    return app
