"""Programs that nobody here wrote run inside the simulation as they are."""

from __future__ import annotations

import asyncio
import datetime
import importlib.util
import logging
import os
import select
import selectors
import socket
import ssl
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


async def hypercorn(nursery: trio.Nursery) -> int:
    """Start Hypercorn's trio worker with an application that takes 3 s, and return its port."""
    config = Config()
    config.bind = ["127.0.0.1:8123"]
    config.errorlog = logging.getLogger("quiet")
    app = Starlette(routes=[Route("/", hello)])
    await nursery.start(partial(serve, app, config))
    return 8123


async def cut(path: Any, after_s: float, for_s: float) -> None:
    await trio.sleep(after_s)
    path.up = False
    await trio.sleep(for_s)
    path.up = True


async def heal(world: Any, after_s: float) -> None:
    await trio.sleep(after_s)
    world.fabric.path("127.0.0.1", "127.0.0.1").up = True


async def upper_case(*, task_status: trio.TaskStatus[int]) -> None:
    """Serve with trio-websocket: every message comes back in capitals."""

    async def handler(request: Any) -> None:
        ws = await request.accept()
        try:
            while True:
                await ws.send_message((await ws.get_message()).upper())
        except trio_websocket.ConnectionClosed:
            pass

    async with trio.open_nursery() as nursery:
        server = await nursery.start(
            partial(trio_websocket.serve_websocket, handler, "127.0.0.1", 0, None)
        )
        task_status.started(server.port)


def test_hypercorn_serves_httpx_and_no_real_port_is_bound(simulate: Any) -> None:
    async def body(world: Any, nursery: trio.Nursery) -> tuple[str, float, bool]:
        port = await hypercorn(nursery)
        world.fabric.path("127.0.0.1", "127.0.0.1").delay = constant(DELAY_S)
        start = time.time()
        async with httpx.AsyncClient(timeout=30, trust_env=False) as client:
            answer = await client.get(f"http://localhost:{port}/")
        return (
            answer.text,
            time.time() - start,
            world.find_listener("127.0.0.1", ("127.0.0.1", port)) is not None,
        )

    text, took_s, simulated = simulate(body)
    assert text == "hello"
    # a handshake and a request, each a round trip of 1 s, and the 3 s of the server; nobody listens at ::1, and the
    # second address is tried after 0.25 s (RFC 8305 section 5)
    assert took_s == pytest.approx(5.25, abs=1e-6)
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
        port = await nursery.start(upper_case)
        answers = []
        async with trio_websocket.open_websocket_url(f"ws://127.0.0.1:{port}/") as ws:
            for second in range(60):
                await ws.send_message(f"tick {second}")
                answers.append(await ws.get_message())
                await trio.sleep(30)
        return answers

    start = time.perf_counter()
    answers = simulate(body)
    assert answers == [f"TICK {second}" for second in range(60)]
    assert time.perf_counter() - start < 30, "half an hour of virtual time"


def test_an_answer_that_is_cut_off_reaches_httpx_with_the_next_retransmission(
    simulate: Any,
) -> None:
    async def body(world: Any, nursery: trio.Nursery) -> tuple[list[str], list[float]]:
        port = await hypercorn(nursery)
        back = world.fabric.path("127.0.0.1", "127.0.0.1")
        texts, took_s = [], []
        async with httpx.AsyncClient(timeout=30, trust_env=False) as client:
            for outage_s in (0.0, 1.0, 5.0):
                start = time.time()
                async with trio.open_nursery() as faults:
                    # the server takes 3 s to answer: its answer falls into the outage
                    faults.start_soon(cut, back, 2.5, outage_s)
                    texts.append((await client.get(f"http://localhost:{port}/")).text)
                    took_s.append(time.time() - start)
        return texts, took_s

    texts, took_s = simulate(body)
    assert texts == ["hello"] * 3
    # it is sent again 0.2, 0.4, 0.8, 1.7 and 3.3 s after it was sent first at 3 s, and then after 6.7 s
    assert took_s == pytest.approx([3.0, 3.8, 9.6], abs=0.2)


def test_httpx_gives_up_a_server_that_a_dead_path_hides_and_finds_it_again(simulate: Any) -> None:
    async def body(world: Any, nursery: trio.Nursery) -> list[tuple[str, float]]:
        port = await hypercorn(nursery)
        path = world.fabric.path("127.0.0.1", "127.0.0.1")
        seen = []
        async with httpx.AsyncClient(timeout=10, trust_env=False) as client:
            for up in (True, False, False, True):
                path.up = up
                start = time.time()
                try:
                    answer = (await client.get(f"http://localhost:{port}/")).text
                except httpx.TimeoutException as error:
                    answer = type(error).__name__
                seen.append((answer, round(time.time() - start, 1)))
        return seen

    assert simulate(body) == [
        ("hello", 3.0),
        ("ReadTimeout", 10.0),  # on the connection that was kept
        ("ConnectTimeout", 10.0),
        ("hello", 3.0),
    ]


def test_trio_websockets_own_client_waits_for_ever_on_a_half_open_socket(simulate: Any) -> None:
    async def body(world: Any, nursery: trio.Nursery) -> tuple[str, bool, float]:
        port = await nursery.start(upper_case)
        async with trio_websocket.open_websocket_url(
            f"ws://127.0.0.1:{port}/", disconnect_timeout=5
        ) as ws:
            await ws.send_message("before")
            before = await ws.get_message()
            world.fabric.path("127.0.0.1", "127.0.0.1").up = False
            with trio.move_on_after(15 * 60) as patience:
                await ws.get_message()
            gone = trio.current_time()
            nursery.start_soon(heal, world, 1.0)
        return before, patience.cancelled_caught, trio.current_time() - gone

    before, waited, closing_s = simulate(body)
    assert before == "BEFORE"
    assert waited, "nothing tells it: it has no heartbeat"
    assert 0 < closing_s < 5, "the closing handshake is sent again once the path is back"


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


def test_a_program_that_looks_for_a_free_port_gets_it(simulate: Any) -> None:
    async def body(world: Any, nursery: trio.Nursery) -> tuple[bool, bytes]:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
            taken = False
            with socket.socket() as second:
                try:
                    second.bind(("127.0.0.1", port))
                except OSError:
                    taken = True
        handed = socket.socket()
        handed.bind(("127.0.0.1", port))
        handed.listen()
        listener = trio.socket.from_stdlib_socket(handed)
        client = await trio.open_tcp_stream("localhost", port)
        await trio.lowlevel.wait_readable(listener)
        server, _ = await listener.accept()
        await client.send_all(b"x")
        await trio.lowlevel.wait_readable(server.fileno())
        return taken, await server.recv(1)

    assert simulate(body) == (True, b"x")


def test_two_ends_of_a_socketpair_and_a_host_by_its_name(simulate: Any) -> None:
    async def body(world: Any, nursery: trio.Nursery) -> list[bytes]:
        world.hosts.add("shop", "10.7.7.7")
        one, other = trio.socket.socketpair()
        await one.sendmsg([b"a", b"b"])
        got = [await other.recv(9)]
        one.close()
        got.append(await other.recv(9))
        with pytest.raises(socket.gaierror, match="'shopp'"):
            await trio.socket.socket().connect(("shopp", 80))
        with pytest.raises(ConnectionRefusedError):
            await trio.socket.socket().connect(("shop", 80))
        return got

    assert simulate(body) == [b"ab", b""]


@pytest.mark.parametrize(
    ("reach", "name"),
    [
        (lambda: threading.Thread(target=print).start(), "a thread"),
        (lambda: subprocess.Popen(["true"]), "a subprocess"),
        (lambda: time.sleep(1), "time.sleep"),
        (lambda: socket.create_connection(("127.0.0.1", 9)), "socket.connect"),
        (lambda: asyncio.run(asyncio.sleep(0)), "asyncio.run"),
        (lambda: asyncio.new_event_loop(), "asyncio.new_event_loop"),
        (lambda: asyncio.SelectorEventLoop(), "asyncio.new_event_loop"),
        (lambda: asyncio.Runner().run(asyncio.sleep(0)), "asyncio.Runner"),
        (lambda: select.select([], [], [], 1), "select.select"),
        (lambda: selectors.DefaultSelector().select(1), "Selector.select"),
        (lambda: os.fork(), "os.fork"),
        (lambda: os.system("true"), "os.system"),
        (lambda: socket.gethostbyaddr("127.0.0.1"), "socket.gethostbyaddr"),
        (lambda: socket.socket().dup(), "socket.dup"),
        (lambda: trio.socket.socket().dup(), "SocketType.dup"),
        (lambda: ssl.create_default_context().wrap_socket(socket.socket()), "wrap_socket"),
    ],
)
def test_what_is_real_is_refused_by_name(simulate: Any, reach: Any, name: str) -> None:
    async def body(_: Any, __: trio.Nursery) -> None:
        with pytest.raises(EscapeError, match=name):
            reach()

    simulate(body)


@pytest.mark.skipif(importlib.util.find_spec("uvloop") is None, reason="uvloop is not installed")
@pytest.mark.parametrize("name", ["run", "new_event_loop", "Loop"])
def test_a_loop_that_is_not_asyncios_own_is_refused_by_name(simulate: Any, name: str) -> None:
    uvloop = importlib.import_module("uvloop")

    async def body(_: Any, __: trio.Nursery) -> None:
        with pytest.raises(EscapeError, match=f"uvloop.{name}"):
            getattr(uvloop, name)(*([asyncio.sleep(0)] if name == "run" else []))

    simulate(body)


def test_an_unknown_host_is_a_name_error_and_never_asks_the_real_resolver(simulate: Any) -> None:
    async def body(_: Any, __: trio.Nursery) -> None:
        with pytest.raises(socket.gaierror, match="'example"):
            await trio.open_tcp_stream("example.invalid", 80)

    simulate(body)


def test_a_socket_that_nothing_refers_to_any_more_is_closed_as_the_machine_does(
    simulate: Any,
) -> None:
    async def body(_world: Any, _nursery: trio.Nursery) -> tuple[bytes, bytes]:
        listeners = await trio.open_tcp_listeners(80, host="127.0.0.1")
        client = await trio.open_tcp_stream("127.0.0.1", 80)
        accepted = await listeners[0].accept()
        await accepted.send_all(b"x")
        seen = bytes(await client.receive_some())
        del client
        return seen, bytes(await accepted.receive_some())

    assert simulate(body) == (b"x", b"")
