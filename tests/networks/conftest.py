"""A server, a network and raw WebSocket bytes: what every network must do is tested on each of them."""

from __future__ import annotations

import os
import shutil
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import pytest
import trio

from chaos.networks import make_network
from chaos.recorder import Recorder
from chaos.scenario.model import Entry, Scenario
from chaos.scenario.plan import Plan, Step, make_plan
from chaos.trace import Event

REQUIRE = "TRIO_CHAOS_REQUIRE_TOXIPROXY"
UPGRADE = b"Upgrade: websocket\r\nConnection: Upgrade\r\n"
# the key and its answer of RFC 6455 §1.3
REQUEST = (
    b"GET /?client=1 HTTP/1.1\r\nHost: x\r\n"
    + UPGRADE
    + b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
)
RESPONSE = (
    b"HTTP/1.1 101 Switching Protocols\r\n"
    + UPGRADE
    + b"Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n"
)
Handler = Callable[[trio.SocketStream], Awaitable[None]]


def frame(payload: bytes, *, masked: bool) -> bytes:
    """Return a binary frame; the mask is zero, so that the payload stays readable (RFC 6455 §5.2)."""
    size, bit = len(payload), 0x80 if masked else 0
    if size < 126:
        length = bytes([size | bit])
    elif size < 1 << 16:
        length = bytes([126 | bit]) + size.to_bytes(2, "big")
    else:
        length = bytes([127 | bit]) + size.to_bytes(8, "big")
    return b"\x82" + length + (bytes(4) if masked else b"") + payload


async def read_exactly(stream: trio.SocketStream, size: int) -> bytes:
    got = b""
    while len(got) < size:
        chunk = await stream.receive_some(min(65536, size - len(got)))
        if not chunk:
            raise EOFError(f"the stream ended after {len(got)} of {size} bytes")
        got += chunk
    return got


async def upgrade(stream: trio.SocketStream) -> None:
    """Do a client's handshake."""
    await stream.send_all(REQUEST)
    assert await read_exactly(stream, len(RESPONSE)) == RESPONSE


async def echo(stream: trio.SocketStream) -> None:
    """Answer each byte that comes, in frames of what one read returned."""
    async for chunk in stream:
        await stream.send_all(frame(chunk, masked=False))


@dataclass(kw_only=True)
class World:
    """What a test works with: a running network, and what it recorded."""

    plan: Plan
    recorder: Recorder
    network: Any
    ports: list[int]
    nursery: trio.Nursery
    streams: list[trio.SocketStream] = field(default_factory=list)

    async def connect(self, client: int = 1) -> trio.SocketStream:
        """Connect and do the handshake."""
        stream = await trio.open_tcp_stream("127.0.0.1", self.ports[client - 1])
        self.streams.append(stream)
        await upgrade(stream)
        return stream

    async def apply(self, entry: int, change: str) -> None:
        """Apply a step of the plan now."""
        await self.network.apply(self.step(entry, change))

    def step(self, entry: int, change: str) -> Step:
        [step] = [s for s in self.plan.steps if s.entry == entry and s.change == change]
        return step

    def kinds(self, *kinds: str) -> list[Event]:
        return [event for event in self.recorder.events if event.kind in kinds]

    @property
    def felt(self) -> list[Event]:
        return [event for event in self.recorder.events if event.kind == "felt"]

    def entries_felt(self) -> set[int]:
        return {event["entry"] for event in self.felt}

    async def until(self, condition: Callable[[], Any], within_s: float = 5) -> None:
        with trio.fail_after(within_s):
            while not condition():
                await trio.sleep(0.005)


def scenario(*entries: dict[str, Any], clients: int = 1) -> Scenario:
    return Scenario(
        version=1,
        name="contract",
        duration="60s",
        client={"count": clients},
        timeline=[
            Entry.model_validate({"at": "1s"} | {"stream": default_stream(entry)} | entry)
            for entry in entries
        ],
    )


def default_stream(entry: dict[str, Any]) -> str:
    """Return what the loader fills in: Toxiproxy's default for toxics, both ways for faults."""
    return "downstream" if entry["kind"] == "toxic" else "both"


@asynccontextmanager
async def open_world(
    name: str,
    handler: Handler,
    *entries: dict[str, Any],
    clients: int = 1,
    url: str | None = None,
) -> AsyncIterator[World]:
    """Run a server with `handler` behind a network; closes everything at the end, also after a failure."""
    plan = make_plan(scenario(*entries, clients=clients), 1)
    networks: list[Any] = []
    recorder = Recorder(trio.current_time, sink=lambda e: [n.see(e) for n in networks])
    async with trio.open_nursery() as nursery:
        listeners = await nursery.start(serve, handler)
        network = make_network(name, url)(
            plan=plan,
            recorder=recorder,
            host="127.0.0.1",
            port=listeners[0].socket.getsockname()[1],
            tls=None,
        )
        networks.append(network)
        ports = list(await network.open(nursery))
        world = World(
            plan=plan,
            recorder=recorder,
            network=network,
            ports=ports,
            nursery=nursery,
        )
        try:
            with trio.fail_after(25):
                yield world
        finally:
            for stream in world.streams:
                with trio.CancelScope(shield=True):
                    await trio.aclose_forcefully(stream)
            nursery.cancel_scope.cancel()


async def serve(
    handler: Handler, task_status: trio.TaskStatus[Any] = trio.TASK_STATUS_IGNORED
) -> None:
    async def upgraded(stream: trio.SocketStream) -> None:
        try:
            assert await read_exactly(stream, len(REQUEST)) == REQUEST
            await stream.send_all(RESPONSE)
            await handler(stream)
        except (trio.BrokenResourceError, trio.ClosedResourceError, EOFError):
            pass

    await trio.serve_tcp(upgraded, 0, host="127.0.0.1", task_status=task_status)


def need_toxiproxy() -> None:
    """Skip without a toxiproxy-server; fail if it is required."""
    if shutil.which("toxiproxy-server") is None:
        if os.environ.get(REQUIRE) == "1":
            pytest.fail(f"no toxiproxy-server on PATH, and {REQUIRE}=1", pytrace=False)
        pytest.skip(f"no toxiproxy-server on PATH (set {REQUIRE}=1 to make this a failure)")


@pytest.fixture
def toxiproxy_server() -> None:
    need_toxiproxy()


@pytest.fixture(params=["embedded", pytest.param("toxiproxy", marks=pytest.mark.toxiproxy)])
def net(request: pytest.FixtureRequest) -> str:
    """Run a test on each network."""
    if request.param == "toxiproxy":
        need_toxiproxy()
    return str(request.param)


@pytest.fixture
def world() -> Any:
    """Return `open_world`; fixtures are how test modules share code here."""
    return open_world


@pytest.fixture
def wire() -> Any:
    """Return the raw WebSocket helpers."""
    return SimpleNamespace(frame=frame, upgrade=upgrade, echo=echo, read_exactly=read_exactly)
