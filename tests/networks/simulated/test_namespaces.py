"""The truth of a dead path: network namespaces of this machine, and the simulation held against them.

Three namespaces in a row, and the middle one forwards; a `blackhole` route there drops without a word. They are made
and removed by the test, and settings are changed inside them only.
"""

from __future__ import annotations

import errno
import json
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest
import trio

from chaos.networks.simulated.hosts import LINK_ADDRESS, SERVER_ADDRESS
from chaos.networks.simulated.sockets import SimulatedSocket

pytestmark = pytest.mark.slow

# a child at each end takes one JSON command per line and answers with one
AGENT = """
import errno, json, socket, sys, time
sock = peer = None
for line in sys.stdin:
    order = json.loads(line)
    start, value, error = time.monotonic(), None, None
    try:
        match order["do"]:
            case "listen":
                sock = socket.create_server((order["host"], 7000))
            case "accept":
                sock.settimeout(20); peer, _ = sock.accept()
            case "connect":
                peer = socket.create_connection((order["host"], 7000), timeout=20)
            case "option":
                peer.setsockopt(order["level"], order["name"], order["value"])
            case "send":
                value = peer.send(b"x")
            case "recv":
                peer.settimeout(20); value = len(peer.recv(100))
    except OSError as failure:
        error = errno.errorcode.get(failure.errno, repr(failure))
    print(json.dumps([value, error, time.monotonic() - start, time.monotonic()]), flush=True)
"""
HERE, THERE = "10.231.1.2", "10.231.2.2"
# A tail loss probe (RFC 8985 section 7) may come at the first timeout and leave the doubling to start after it, which
# shifts each retransmission by one initial timeout; the figures that the model keeps were measured without one.
TICK_S = 0.25
LAST_TICK_S = 3.3
DROPPED_S = 1.2


class Row:
    """Three namespaces in a row, a child in each outer one."""

    def __init__(self) -> None:
        tag = f"tc{os.getpid()}"
        self.left, self.middle, self.right = (f"{tag}{letter}" for letter in "lmr")
        self.agents: dict[str, subprocess.Popen[str]] = {}

    def ip(self, *words: str, check: bool = True) -> None:
        subprocess.run(["ip", *words], check=check, capture_output=True, timeout=10)

    def inside(self, name: str, *words: str) -> None:
        self.ip("netns", "exec", name, *words)

    def build(self) -> None:
        for name in (self.left, self.middle, self.right):
            self.ip("netns", "add", name)
            self.ip("-n", name, "link", "set", "lo", "up")
        for side, name in (("1", self.left), ("2", self.right)):
            self.ip("link", "add", "out", "netns", name, "type", "veth", "peer", "name", f"in{side}",
                    "netns", self.middle)  # fmt: skip
            self.ip("-n", name, "addr", "add", f"10.231.{side}.2/24", "dev", "out")
            self.ip("-n", self.middle, "addr", "add", f"10.231.{side}.1/24", "dev", f"in{side}")
            self.ip("-n", name, "link", "set", "out", "up")
            self.ip("-n", self.middle, "link", "set", f"in{side}", "up")
            self.ip("-n", name, "route", "add", "default", "via", f"10.231.{side}.1")
            self.agents[name] = subprocess.Popen(
                ["ip", "netns", "exec", name, sys.executable, "-c", AGENT],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            )
        self.inside(self.middle, "sh", "-c", "echo 1 > /proc/sys/net/ipv4/ip_forward")

    def remove(self) -> None:
        for agent in self.agents.values():
            agent.kill()
            agent.communicate()
        for name in (self.left, self.middle, self.right):
            self.ip("netns", "del", name, check=False)

    def drop(self, on: bool) -> None:
        for host in (HERE, THERE):
            self.ip("-n", self.middle, "route", "add" if on else "del", "blackhole", f"{host}/32")

    def tell(self, namespace: str, do: str, **order: Any) -> None:
        pipe = self.agents[namespace].stdin
        assert pipe is not None
        pipe.write(json.dumps({"do": do, **order}) + "\n")
        pipe.flush()

    def hear(self, name: str) -> tuple[Any, str | None, float, float]:
        """Return an order's value, its errno's name, how long it took and when it was done."""
        pipe = self.agents[name].stdout
        assert pipe is not None
        value, error, took_s, at_s = json.loads(pipe.readline())
        return value, error, took_s, at_s

    def do(self, namespace: str, do: str, **order: Any) -> tuple[Any, str | None, float, float]:
        self.tell(namespace, do, **order)
        return self.hear(namespace)

    def connect(self) -> None:
        self.do(self.right, "listen", host=THERE)
        self.tell(self.right, "accept")
        assert self.do(self.left, "connect", host=THERE)[1] is None
        assert self.hear(self.right)[1] is None


@pytest.fixture
def row() -> Iterator[Row]:
    if sys.platform != "linux" or os.geteuid() != 0 or shutil.which("ip") is None:
        pytest.skip("network namespaces need Linux, root and `ip`")
    made = Row()
    try:
        made.build()
        yield made
    except subprocess.CalledProcessError as error:
        pytest.skip(f"no network namespaces here: {error.stderr!r}")
    finally:
        made.remove()


def agree(simulated_s: float, real_s: float) -> None:
    """Fail unless two times are within 5 % and a tick of each other."""
    assert abs(simulated_s - real_s) <= 0.05 * real_s + TICK_S, (simulated_s, real_s)


def sleep(seconds: float) -> None:
    trio.run(trio.sleep, seconds)


async def simulated_pair() -> tuple[trio.SocketStream, trio.SocketStream]:
    [listener] = await trio.open_tcp_listeners(0, host="127.0.0.1")
    client = await trio.open_tcp_stream("127.0.0.1", listener.socket.getsockname()[1])
    return client, await listener.accept()


LOCAL = ("127.0.0.1", "127.0.0.1")


def test_data_of_a_blackout_arrives_at_the_same_retransmission(row: Row, simulate: Any) -> None:
    async def body(world: Any, nursery: trio.Nursery) -> float:
        client, server = await simulated_pair()
        world.fabric.path(*LOCAL).up = False
        await client.send_all(b"x")
        start = trio.current_time()
        await trio.sleep(DROPPED_S)
        world.fabric.path(*LOCAL).up = True
        await server.receive_some()
        return trio.current_time() - start

    row.connect()
    row.drop(on=True)
    sent_s = row.do(row.left, "send")[3]
    row.tell(row.right, "recv")
    sleep(DROPPED_S)
    row.drop(on=False)
    value, error, _, arrived_s = row.hear(row.right)
    assert (value, error) == (1, None)
    agree(simulate(body), arrived_s - sent_s)


def test_a_lost_syn_is_sent_again_at_the_same_time(row: Row, simulate: Any) -> None:
    async def body(world: Any, nursery: trio.Nursery) -> float:
        [listener] = await trio.open_tcp_listeners(0, host="127.0.0.1")
        world.fabric.path(*LOCAL).up = False

        async def heal() -> None:
            await trio.sleep(DROPPED_S)
            world.fabric.path(*LOCAL).up = True

        nursery.start_soon(heal)
        start = trio.current_time()
        await trio.open_tcp_stream("127.0.0.1", listener.socket.getsockname()[1])
        return trio.current_time() - start

    row.do(row.right, "listen", host=THERE)
    row.drop(on=True)
    row.tell(row.left, "connect", host=THERE)
    sleep(DROPPED_S)
    row.drop(on=False)
    _, error, took_s, _ = row.hear(row.left)
    assert error is None
    agree(simulate(body), took_s)


OPTIONS = {
    "keepalive": [
        (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
        (socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 2),
        (socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 1),
        (socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 3),
    ],
    "user timeout": [(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, 5000)],
}


@pytest.mark.parametrize("name", OPTIONS)
def test_silence_ends_with_the_same_error_after_the_same_time(
    row: Row, simulate: Any, name: str
) -> None:
    sends = name == "user timeout"

    async def body(world: Any, _: trio.Nursery) -> tuple[str, float]:
        client, _server = await simulated_pair()
        for level, option, value in OPTIONS[name]:
            client.socket.setsockopt(level, option, value)
        world.fabric.path(*LOCAL).up = False
        start = trio.current_time()
        if sends:
            await client.socket.send(b"x")
        with pytest.raises(OSError) as caught:  # noqa: PT011 - the number is compared
            await client.socket.recv(1)
        return errno.errorcode[caught.value.errno or 0], trio.current_time() - start

    row.connect()
    for level, option, value in OPTIONS[name]:
        row.do(row.left, "option", level=level, name=option, value=value)
    row.drop(on=True)
    if sends:
        row.do(row.left, "send")
    _, error, took_s, _ = row.do(row.left, "recv")
    simulated_error, simulated_s = simulate(body)
    assert simulated_error == error
    if sends:
        # checked when a retransmission is due, the last of them 3.3 s after the one before; kernels that clamp that
        # timer to what is left of the option are early, and the model keeps to the later figure
        assert all(5 <= seconds <= 5 + LAST_TICK_S for seconds in (simulated_s, took_s))
    else:
        agree(simulated_s, took_s)


def test_a_booted_host_that_forgot_the_connection_answers_with_rst(row: Row, simulate: Any) -> None:
    """The child is killed while nothing passes, so that its kernel's FIN is lost, and with it the connection."""

    async def body(world: Any, _: trio.Nursery) -> str:
        world.hosts.settle(1)
        listener, dialed = (
            SimulatedSocket(world, socket.AF_INET, socket.SOCK_STREAM, 0, home)
            for home in (SERVER_ADDRESS, LINK_ADDRESS)
        )
        await listener.bind((SERVER_ADDRESS, 7000))
        listener.listen()
        await dialed.connect((SERVER_ADDRESS, 7000))
        world.crash(SERVER_ADDRESS)
        await trio.sleep(3)
        world.boot(SERVER_ADDRESS)
        await dialed.send(b"x")
        with pytest.raises(OSError) as caught:  # noqa: PT011 - the number is compared
            await dialed.recv(1)
        return errno.errorcode[caught.value.errno or 0]

    row.connect()
    row.drop(on=True)
    # orphaned: with few retries left the kernel forgets it soon after the unanswered FIN
    row.inside(row.right, "sh", "-c", "echo 1 > /proc/sys/net/ipv4/tcp_orphan_retries")
    row.agents[row.right].kill()
    sleep(3)
    row.drop(on=False)
    row.do(row.left, "send")
    assert row.do(row.left, "recv")[1] == simulate(body) == "ECONNRESET"
