"""Programs that nobody here wrote run inside the simulation as they are."""

from __future__ import annotations

import datetime
import logging
import socket
import subprocess
import threading
import time
from functools import partial
from typing import Any

import httpx
import pytest
import trio
import trio_websocket
from hypercorn.config import Config
from hypercorn.trio import serve
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route
from websockets.trio.client import connect
from websockets.trio.server import serve as serve_websockets

from chaos.networks.simulated.doors import EPOCH_S, EscapeError
from chaos.networks.simulated.paths import constant

DELAY_S = 0.5


async def hello(_: Request) -> PlainTextResponse:
    await trio.sleep(3)
    return PlainTextResponse("hello")


def test_hypercorn_serves_httpx_and_no_real_port_is_bound(simulate: Any) -> None:
    async def body(world: Any, nursery: trio.Nursery) -> tuple[str, float, bool]:
        config = Config()
        config.bind = ["127.0.0.1:8123"]
        config.errorlog = logging.getLogger("quiet")
        app = Starlette(routes=[Route("/", hello)])
        await nursery.start(partial(serve, app, config))
        world.fabric.path("127.0.0.1", "127.0.0.1").delay = constant(DELAY_S)
        start = time.time()
        async with httpx.AsyncClient(timeout=30, trust_env=False) as client:
            answer = await client.get("http://localhost:8123/")
        return (
            answer.text,
            time.time() - start,
            world.find_listener("127.0.0.1", ("127.0.0.1", 8123)) is not None,
        )

    text, took_s, simulated = simulate(body)
    assert text == "hello"
    # a handshake and a request, each a round trip of 1 s, and the 3 s of the server
    assert took_s == pytest.approx(5.0, abs=1e-6)
    assert simulated


def test_a_websocket_of_the_websockets_library_notices_a_dead_path_by_its_own_keepalive(
    simulate: Any,
) -> None:
    async def body(world: Any, nursery: trio.Nursery) -> tuple[str, float]:
        async def echo(connection: Any) -> None:
            async for message in connection:
                await connection.send(message)

        server = await nursery.start(partial(serve_websockets, echo, 8200, host="127.0.0.1"))
        assert server is not None
        async with connect("ws://localhost:8200/") as client:
            await client.send("hello")
            answer = await client.recv()
            start = trio.current_time()
            for ends in (("127.0.0.1", "127.0.0.1"),):
                world.fabric.path(*ends).up = False
            with pytest.raises(Exception, match=r"keepalive|1011|timed out"):
                await client.recv()
            return str(answer), trio.current_time() - start

    answer, took_s = simulate(body)
    assert answer == "hello"
    # ping interval 20 s, pong timeout 20 s, close timeout 10 s, from wherever in its interval the path died
    assert 30 <= took_s <= 50


def test_trio_websockets_own_client_and_server_talk(simulate: Any) -> None:
    async def body(world: Any, nursery: trio.Nursery) -> list[str]:
        async def handler(request: Any) -> None:
            ws = await request.accept()
            try:
                while True:
                    await ws.send_message((await ws.get_message()).upper())
            except trio_websocket.ConnectionClosed:
                pass

        await nursery.start(
            partial(trio_websocket.serve_websocket, handler, "127.0.0.1", 8300, None)
        )
        answers = []
        async with trio_websocket.open_websocket_url("ws://127.0.0.1:8300/") as ws:
            for second in range(60):
                await ws.send_message(f"tick {second}")
                answers.append(await ws.get_message())
                await trio.sleep(30)
        return answers

    start = time.perf_counter()
    answers = simulate(body)
    assert answers == [f"TICK {second}" for second in range(60)]
    assert time.perf_counter() - start < 30, "half an hour of virtual time"


def test_wall_clocks_follow_virtual_time(simulate: Any) -> None:
    async def body(_: Any, __: trio.Nursery) -> list[float]:
        start = time.monotonic()
        await trio.sleep(3600)
        now = datetime.datetime.now(datetime.UTC)
        return [time.time(), now.timestamp(), time.monotonic() - start]

    assert simulate(body) == pytest.approx([EPOCH_S + 3600, EPOCH_S + 3600, 3600])
    assert time.time() > EPOCH_S + 3600, "and are themselves again afterwards"


def test_threads_of_trio_run_inline_at_zero_virtual_time(simulate: Any) -> None:
    async def body(_: Any, __: trio.Nursery) -> tuple[int, float]:
        start = trio.current_time()
        return await trio.to_thread.run_sync(sum, (1, 2, 3)), trio.current_time() - start

    assert simulate(body) == (6, 0.0)


@pytest.mark.parametrize(
    ("reach", "name"),
    [
        (lambda: threading.Thread(target=print).start(), "a thread"),
        (lambda: subprocess.Popen(["true"]), "a subprocess"),
        (lambda: time.sleep(1), "time.sleep"),
        (lambda: socket.create_connection(("127.0.0.1", 9)), "a real connection"),
    ],
)
def test_what_is_real_is_refused_by_name(simulate: Any, reach: Any, name: str) -> None:
    async def body(_: Any, __: trio.Nursery) -> None:
        with pytest.raises(EscapeError, match=name):
            reach()

    simulate(body)


def test_an_unknown_host_is_a_name_error_and_never_asks_the_real_resolver(simulate: Any) -> None:
    async def body(_: Any, __: trio.Nursery) -> None:
        with pytest.raises(socket.gaierror, match="no host 'example"):
            await trio.open_tcp_stream("example.invalid", 80)

    simulate(body)
