"""The link on the machine's own sockets: what TCP shows to each side, with and without faults."""

from __future__ import annotations

import errno
import socket
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
import trio

from chaos.link.link import ClientLink
from chaos.link.transcript import Journal
from chaos.networks.base import apply_step, dialer
from chaos.recorder import Recorder
from chaos.scenario.model import Entry, Scenario
from chaos.scenario.plan import Plan, Step, make_plan
from chaos.trace import Event

pytestmark = pytest.mark.slow

REQUEST = (
    b"GET /chat?token=hush HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n"
)
Handler = Callable[[trio.SocketStream], Awaitable[None]]


class World:
    """A server, a link to it, and what the link recorded."""

    def __init__(self, plan: Plan, link: ClientLink, port: int, recorder: Recorder) -> None:
        self.plan, self.link, self.port, self.recorder = plan, link, port, recorder

        self.streams: list[trio.SocketStream] = []

    async def connect(self) -> trio.SocketStream:
        self.streams.append(await trio.open_tcp_stream("127.0.0.1", self.port))
        return self.streams[-1]

    async def apply(self, number: int) -> None:
        await apply_step(self.link, self.plan, self.plan.steps[number])

    def kinds(self, *kinds: str) -> list[Event]:
        return [event for event in self.recorder.events if event.kind in kinds]

    async def until(self, condition: Callable[[], Any]) -> None:
        with trio.fail_after(3):
            while not condition():
                await trio.sleep(0.002)


@asynccontextmanager
async def world(
    handler: Handler, *entries: dict[str, Any], server_port: int | None = None
) -> AsyncIterator[World]:
    scenario = Scenario(
        version=1,
        name="test",
        duration="60s",
        timeline=[Entry.model_validate({"kind": "fault", "at": "1s"} | entry) for entry in entries],
    )
    plan = make_plan(scenario, 1)
    recorder = Recorder(trio.current_time)
    with trio.fail_after(10):
        async with trio.open_nursery() as nursery:
            listeners = await nursery.start(serve, handler)
            port = server_port or listeners[0].socket.getsockname()[1]
            link = ClientLink(
                seed=1,
                journal=Journal(
                    recorder=recorder,
                    client=1,
                    sides=frozenset(("client", "server")),
                    timeline=scenario.timeline,
                ),
                dial=dialer("127.0.0.1", port, None),
            )
            link_port = await link.open(nursery)
            here = World(plan, link, link_port, recorder)
            yield here
            for stream in here.streams:
                await trio.aclose_forcefully(stream)
            nursery.cancel_scope.cancel()


async def serve(
    handler: Handler, task_status: trio.TaskStatus[Any] = trio.TASK_STATUS_IGNORED
) -> None:
    async def guarded(stream: trio.SocketStream) -> None:
        try:
            await handler(stream)
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            pass

    await trio.serve_tcp(guarded, 0, host="127.0.0.1", task_status=task_status)


async def echo(stream: trio.SocketStream) -> None:
    async for chunk in stream:
        await stream.send_all(chunk)


async def reset(stream: trio.SocketStream) -> None:
    stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    await trio.aclose_forcefully(stream)


def is_reset(error: trio.BrokenResourceError) -> bool:
    cause = error.__cause__
    return isinstance(cause, OSError) and cause.errno in (errno.ECONNRESET, errno.EPIPE)


async def expect_reset(stream: trio.SocketStream) -> None:
    with pytest.raises(trio.BrokenResourceError) as caught:
        await stream.receive_some(100)
    assert is_reset(caught.value)


async def test_bytes_pass_both_ways_and_a_fin_ends_the_connection_cleanly() -> None:
    async with world(echo) as here:
        stream = await here.connect()
        payload = bytes(range(256)) * 4096
        async with trio.open_nursery() as nursery:
            nursery.start_soon(stream.send_all, payload)
            got = b""
            while len(got) < len(payload):
                got += await stream.receive_some(65536)
        assert got == payload
        await stream.send_eof()
        assert await stream.receive_some() == b""
        await here.until(lambda: here.kinds("closed"))
        assert [(e.stream, e["side"]) for e in here.kinds("fin", "rst")] == [
            ("upstream", "client"),
            ("upstream", "server"),
            ("downstream", "server"),
            ("downstream", "client"),
        ]


async def test_a_half_close_passes_and_the_other_direction_goes_on() -> None:
    async def answer_late(stream: trio.SocketStream) -> None:
        got = b"".join([chunk async for chunk in stream])
        await stream.send_all(b"after your FIN: " + got)

    async with world(answer_late) as here:
        stream = await here.connect()
        await stream.send_all(b"hello")
        await stream.send_eof()
        assert b"".join([chunk async for chunk in stream]) == b"after your FIN: hello"


async def test_an_rst_from_the_server_reaches_the_client_as_an_rst() -> None:
    async with world(reset) as here:
        stream = await here.connect()
        await expect_reset(stream)
        assert [(e.stream, e["side"]) for e in here.kinds("rst")] == [
            ("downstream", "server"),
            ("downstream", "client"),
        ]


async def test_an_rst_from_the_client_reaches_the_server_as_an_rst() -> None:
    seen: list[bool] = []

    async def listen(stream: trio.SocketStream) -> None:
        try:
            await stream.receive_some()
            seen.append(False)
        except trio.BrokenResourceError as error:
            seen.append(is_reset(error))

    async with world(listen) as here:
        stream = await here.connect()
        await here.until(lambda: here.kinds("dialed"))
        await reset(stream)
        await here.until(lambda: seen)
        assert seen == [True]


async def test_data_sent_to_a_peer_that_closed_is_answered_with_an_rst() -> None:
    async def close_at_once(stream: trio.SocketStream) -> None:
        await stream.aclose()

    async with world(close_at_once) as here:
        stream = await here.connect()
        assert await stream.receive_some() == b""
        with pytest.raises(trio.BrokenResourceError):
            while True:
                await stream.send_all(b"x")
                await trio.sleep(0.01)


async def test_reset_reaches_idle_connections_on_both_sides() -> None:
    seen: list[bool] = []

    async def listen(stream: trio.SocketStream) -> None:
        try:
            await stream.receive_some()
            seen.append(False)
        except trio.BrokenResourceError as error:
            seen.append(is_reset(error))

    async with world(listen, {"word": "reset"}) as here:
        streams = [await here.connect() for _ in range(3)]
        await here.until(lambda: len(here.kinds("dialed")) == 3)
        await here.apply(0)
        for stream in streams:
            await expect_reset(stream)
        await here.until(lambda: len(seen) == 3)
        assert seen == [True] * 3
        assert len(here.kinds("felt")) == 3


async def test_a_reset_towards_the_client_leaves_the_server_half_open() -> None:
    got: list[bytes] = []

    async def listen(stream: trio.SocketStream) -> None:
        got.append(await stream.receive_some())

    async with world(listen, {"word": "reset", "parameters": {"side": "client"}}) as here:
        stream = await here.connect()
        await here.until(lambda: here.kinds("dialed"))
        await here.apply(0)
        await expect_reset(stream)
        await trio.sleep(0.1)
        assert got == []
        assert not here.kinds("closed")


async def test_refuse_refuses_keeps_live_connections_and_listens_again_on_the_same_port() -> None:
    async with world(echo, {"word": "refuse", "for": "1s"}) as here:
        live = await here.connect()
        await here.until(lambda: here.kinds("dialed"))
        await here.apply(0)
        with pytest.raises(OSError, match=r"all attempts|refused"):
            await here.connect()
        await live.send_all(b"still here")
        assert await live.receive_some() == b"still here"
        await here.apply(1)
        again = await here.connect()
        await again.send_all(b"x")
        assert await again.receive_some() == b"x"


async def test_down_closes_live_connections_with_a_fin_and_refuses() -> None:
    async with world(echo, {"word": "down", "for": "1s"}) as here:
        live = await here.connect()
        await here.until(lambda: here.kinds("dialed"))
        await here.apply(0)
        assert await live.receive_some() == b""
        with pytest.raises(OSError, match=r"all attempts|refused"):
            await here.connect()


async def test_a_client_of_a_server_that_is_away_is_reset() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        async with world(echo, server_port=taken.getsockname()[1]) as here:
            await expect_reset(await here.connect())
            assert here.kinds("dial_failed")


async def test_reject_upgrade_answers_with_its_status_and_the_server_never_hears_of_it() -> None:
    fault = {"status": 429, "retry_after": "1500ms", "body": "later", "headers": {"X-Why": "WAF"}}
    async with world(echo, {"word": "reject_upgrade", "parameters": fault}) as here:
        await here.apply(0)
        stream = await here.connect()
        await stream.send_all(REQUEST)
        answer = b"".join([chunk async for chunk in stream])
        head, body = answer.split(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 429 Too Many Requests\r\n")
        assert b"Retry-After: 2\r\n" in head + b"\r\n"
        assert b"X-Why: WAF" in head
        assert body == b"later"
        assert not here.kinds("dialed")
        assert here.kinds("response")[0].data == {
            "status": 429,
            "retry_after_s": 2,
            "side": "client",
        }


async def test_secrets_in_a_query_are_not_recorded() -> None:
    async with world(echo) as here:
        stream = await here.connect()
        await stream.send_all(REQUEST)
        await here.until(lambda: here.kinds("request"))
        assert here.kinds("request")[0]["path"] == "/chat?token=REDACTED"


@pytest.mark.parametrize(
    ("style", "first", "upgrade"),
    [
        ("nginx", b"GET /chat?token=hush HTTP/1.0", False),
        ("http11", b"GET /chat?token=hush HTTP/1.1", False),
        ("upgrade_only", b"GET /chat?token=hush HTTP/1.1", True),
    ],
)
async def test_strip_upgrade_forwards_what_a_forgetful_proxy_forwards(
    style: str, first: bytes, upgrade: bool
) -> None:
    async with world(echo, {"word": "strip_upgrade", "parameters": {"style": style}}) as here:
        await here.apply(0)
        stream = await here.connect()
        await stream.send_all(REQUEST[:20])
        await trio.sleep(0.01)
        await stream.send_all(REQUEST[20:] + b"rest")
        got = b""
        while not got.endswith(b"rest"):
            got += await stream.receive_some()
        assert got.startswith(first + b"\r\n")
        assert (b"\r\nUpgrade: websocket\r\n" in got) is upgrade
        assert b"Connection: close\r\n\r\nrest" in got
        assert b"Connection: Upgrade" not in got


async def test_a_blackhole_swallows_new_connections_and_old_ones_stay_dead() -> None:
    async with world(echo, {"word": "blackhole", "for": "1s"}) as here:
        old = await here.connect()
        await here.until(lambda: here.kinds("dialed"))
        await here.apply(0)
        new = await here.connect()
        for stream in (old, new):
            await stream.send_all(b"anybody there?")
        await here.until(lambda: len(here.kinds("felt")) >= 2)
        await here.apply(1)
        with trio.move_on_after(0.1) as scope:
            await old.receive_some()
        assert scope.cancelled_caught
        assert len(here.kinds("dialed")) == 1
        later = await here.connect()
        await later.send_all(b"x")
        assert await later.receive_some() == b"x"


async def test_slow_accept_lets_nothing_happen_before_its_delay() -> None:
    async with world(echo, {"word": "slow_accept", "parameters": {"delay": "150ms"}}) as here:
        await here.apply(0)
        start = trio.current_time()
        stream = await here.connect()
        await stream.send_all(b"x")
        assert await stream.receive_some() == b"x"
        assert trio.current_time() - start >= 0.15


async def test_a_stalled_connection_heals_without_losing_a_byte() -> None:
    async with world(echo, {"word": "stall", "for": "1s"}) as here:
        stream = await here.connect()
        await stream.send_all(b"before ")
        assert await stream.receive_some() == b"before "
        await here.apply(0)
        await stream.send_all(b"during ")
        await stream.send_eof()
        await here.until(lambda: here.kinds("felt"))
        await here.apply(1)
        assert b"".join([chunk async for chunk in stream]) == b"during "


async def test_a_toxic_of_toxicity_0_touches_no_connection() -> None:
    entry = {"kind": "toxic", "word": "timeout", "toxicity": 0.0, "for": "1s"}
    async with world(echo, entry) as here:
        stream = await here.connect()
        await here.apply(0)
        await stream.send_all(b"x")
        assert await stream.receive_some() == b"x"
        await here.apply(1)
        await stream.send_all(b"y")
        assert await stream.receive_some() == b"y"


async def test_a_reset_of_toxicity_0_touches_no_connection() -> None:
    async with world(echo, {"word": "reset", "toxicity": 0.0}) as here:
        stream = await here.connect()
        await here.apply(0)
        await stream.send_all(b"x")
        assert await stream.receive_some() == b"x"


async def test_a_rejection_meets_the_share_of_the_connections_that_it_is_for() -> None:
    entry = {"word": "reject_upgrade", "parameters": {"status": 503}, "toxicity": 0.5}
    async with world(echo, entry) as here:
        await here.apply(0)
        answers = []
        for _ in range(20):
            async with await here.connect() as stream:
                await stream.send_all(b"GET / HTTP/1.1\r\n\r\n")
                answers.append(bytes(await stream.receive_some())[:12])
        assert set(answers) == {b"HTTP/1.1 503", b"GET / HTTP/1"}
        assert 3 <= answers.count(b"HTTP/1.1 503") <= 17


async def test_many_connections_come_and_go_without_a_socket_left() -> None:
    async with world(echo) as here:
        for _ in range(50):
            async with await here.connect() as stream:
                await stream.send_all(b"x")
                assert await stream.receive_some() == b"x"
        await here.until(lambda: len(here.kinds("closed")) == 50)
        assert not here.link._relays


def test_steps_of_a_plan_are_what_these_tests_apply() -> None:
    entry = Entry.model_validate({"kind": "fault", "word": "stall", "at": "1s", "for": "2s"})
    plan = make_plan(Scenario(version=1, name="x", duration="9s", timeline=[entry]), 1)
    assert [(step.at_s, step.change) for step in plan.steps] == [(1.0, "on"), (3.0, "off")]
    assert isinstance(plan.steps[0], Step)
