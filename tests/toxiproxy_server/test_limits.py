"""What would take all of a server, taken in bounds: large bodies, proxies in a circle, and no descriptors left."""

from __future__ import annotations

import errno
import http.client
import json
import logging
import resource
import socket
import time
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing
from support.servers import Bystander, an_echo

from chaos.toxiproxy_server.circles import Circles, circle_of
from chaos.toxiproxy_server.shortage import Shortage

LIMIT = 1 << 20
# a machine that others use too; a body that is read in the loop takes a second
PING_S = 0.25
LINUX = pytest.mark.skipif(
    not Path("/proc/self/fd").exists(), reason="prlimit and /proc are Linux's"
)


@pytest.mark.slow
@pytest.mark.parametrize("path", ["/proxies", "/populate", "/timeline"])
def test_a_body_that_is_announced_as_too_large_is_not_read(ours: Any, path: str) -> None:
    with closing(socket.create_connection(("127.0.0.1", ours.port), timeout=5)) as client:
        head = f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {LIMIT + 1}\r\n\r\n"
        client.sendall(head.encode())
        assert client.recv(4096).startswith(b"HTTP/1.1 413 ")


@pytest.mark.slow
@pytest.mark.parametrize("size", [LIMIT + 1, 8 * LIMIT])
def test_who_sends_too_large_a_body_is_told_so(ours: Any, size: int) -> None:
    answer = ours.ask("POST", "/populate", b" " * size)
    assert answer.status == 413
    parts = (b" " * 65536 for _ in range(size // 65536 + 1))
    with closing(http.client.HTTPConnection("127.0.0.1", ours.port, timeout=10)) as calls:
        calls.request(
            "POST", "/proxies", parts, encode_chunked=True, headers={"Transfer-Encoding": "chunked"}
        )
        assert calls.getresponse().status == 413
    assert ours.ask("POST", "/populate", b" " * (LIMIT - 2) + b"[]").status == 201


@pytest.fixture
def own(run_server: Any) -> Iterator[Any]:
    """A server of the test's own: what it is left with need not be removed one by one."""
    with run_server(True) as toxi:
        yield toxi


PROXIES = [
    {"name": f"p{number}", "upstream": "127.0.0.1:9", "enabled": False} for number in range(9000)
]
BODIES = {
    "numbers": b"[" + b"0," * (LIMIT // 2 - 2) + b"0]",
    "objects": b"[" + b'{"a":1},' * (LIMIT // 8 - 1) + b"{}]",
    "keys": b"{" + b'"a":0,' * (LIMIT // 6 - 1) + b'"a":0}',
    "proxies": json.dumps(PROXIES).encode(),
    "toxics": json.dumps(
        [
            {
                "name": "p",
                "upstream": "u:1",
                "toxics": [{"name": f"{n}", "type": "noop"} for n in range(25_000)],
            }
        ]
    ).encode(),
    "timeline": json.dumps(
        {
            "proxy": "by",
            "scenario": "version: 1\ntimeline:\n" + "  - {at: 1s, toxic: noop}\n" * 35_000,
        }
    ).encode(),
}


@pytest.mark.slow
@pytest.mark.parametrize("body", BODIES)
def test_a_large_body_keeps_no_connection_waiting(own: Any, peers: Any, body: str) -> None:
    port = own.create(peers.address, name="by")

    def call() -> None:
        with closing(http.client.HTTPConnection("127.0.0.1", own.port, timeout=60)) as calls:
            path = "/timeline" if body == "timeline" else "/populate"
            calls.request("POST", path, BODIES[body])
            assert calls.getresponse().read()
            calls.request("GET", "/proxies")
            assert calls.getresponse().read()

    took_s = Bystander(*peers.warm_pair(port)).observe(call)
    print(
        f"{body}: {len(took_s)} pings, median {took_s[len(took_s) // 2]:.4f} s, worst {took_s[-1]:.3f} s"
    )
    assert took_s[-1] < PING_S


def fresh_port() -> int:
    with closing(socket.create_server(("127.0.0.1", 0))) as listener:
        return int(listener.getsockname()[1])


def descriptors(toxi: Any) -> int:
    return len(list(Path(f"/proc/{toxi.process.pid}/fd").iterdir()))


@LINUX
@pytest.mark.slow
@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "0.0.0.0"])
@pytest.mark.parametrize("count", [1, 2, 3])
def test_proxies_in_a_circle_close_what_comes_back_and_say_so_once(
    run_server: Any, wire: Any, count: int, host: str
) -> None:
    with run_server(True) as toxi:
        ports = [fresh_port() for _ in range(count)]
        for number, port in enumerate(ports):
            following = ports[(number + 1) % count]
            toxi.create(f"{host}:{following}", name=f"p{number}", listen=f"{host}:{port}")
        before = descriptors(toxi)
        for _ in range(20):
            with closing(socket.create_connection(("127.0.0.1", ports[0]), timeout=5)) as client:
                assert wire.end_of(client) in ("fin", "rst")
        assert descriptors(toxi) < before + 20
        assert toxi.get("/version")
        toxi.log.seek(0)
        lines = [line for line in toxi.log.read().decode().splitlines() if "circle" in line]
        assert 1 <= len(lines) <= count, lines


@pytest.mark.slow
def test_proxies_in_a_row_are_no_circle(ours: Any, peers: Any) -> None:
    last = ours.create(peers.address, name="a")
    for name in "bcd":
        last = ours.create(f"127.0.0.1:{last}", name=name)
    for _ in range(5):
        peers.warm_pair(last)


class Connection:
    """A hop that knows whether it was closed."""

    came_from: Any = None

    def __init__(self, proxy: str) -> None:
        self.proxy = proxy
        self.closed = False

    def close(self) -> None:
        self.closed = True


@pytest.mark.parametrize("dialed_first", [True, False])
def test_a_circle_is_found_whichever_side_is_known_first(
    dialed_first: bool, caplog: pytest.LogCaptureFixture
) -> None:
    circles = Circles()
    hops = [Connection(name) for name in "abab"]
    circles.note_accepted(hops[0], ("client:1", "a"))
    for number, (before, after) in enumerate(zip(hops, hops[1:], strict=False)):
        pair = f"us:{number}", "there"
        if dialed_first:
            circles.note_dialed(before, pair)
        circles.note_accepted(after, pair)
        if not dialed_first:
            circles.note_dialed(before, pair)
    assert [hop.closed for hop in hops] == [False, False, True, True]
    assert circle_of(hops[2]) == ["a", "b", "a"]
    assert [row.levelno for row in caplog.records] == [logging.WARNING] * 2, "each once"


def test_addresses_that_are_used_again_make_no_circle() -> None:
    circles = Circles()
    first, second, third = (Connection(name) for name in "aba")
    circles.note_accepted(first, ("client:1", "a"))
    circles.note_dialed(first, ("us:1", "b"))
    circles.note_accepted(second, ("us:1", "b"))
    circles.forget(accepted=("client:1", "a"), dialed=("us:1", "b"))
    circles.note_accepted(third, ("us:1", "b"))
    assert third.came_from is None
    assert not third.closed


async def test_a_shortage_is_said_once_a_second_at_most(
    autojump_clock: trio.testing.MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    shortage = Shortage()
    for _ in range(350):
        shortage.note(OSError(errno.EMFILE, "Too many open files"))
        await trio.sleep(0.01)
    assert len(caplog.records) == 4


@LINUX
@pytest.mark.slow
@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_at_the_limit_of_open_files_it_says_one_line_and_goes_on_later(
    run_server: Any, wire: Any, host: str
) -> None:
    with run_server(True) as toxi, an_echo() as echo:
        port = toxi.create(echo.replace("127.0.0.1", host))

        def converse() -> None:
            with closing(socket.create_connection(("127.0.0.1", port), timeout=5)) as client:
                client.sendall(b"hello")
                assert wire.read_all(client, 5) == b"hello"

        converse()
        calls = http.client.HTTPConnection("127.0.0.1", toxi.port, timeout=5)
        calls.request("GET", "/version")
        assert calls.getresponse().read()
        limit = descriptors(toxi) + 20
        resource.prlimit(toxi.process.pid, resource.RLIMIT_NOFILE, (limit, limit))
        start = time.monotonic()
        held = [
            socket.create_connection(("127.0.0.1", one), timeout=5)
            for one in [port, toxi.port] * 30
        ]
        for client in held:
            with suppress(OSError):
                client.sendall(bytes(100_000))  # enough to go beside Python, by a pipe
        time.sleep(2.5)
        calls.request("GET", "/proxies")  # on a connection that is there
        assert calls.getresponse().status == 200
        calls.close()
        for client in held:
            client.close()
        deadline = time.monotonic() + 5
        while descriptors(toxi) > limit - 10:
            assert time.monotonic() < deadline, toxi.get("/connections")
            time.sleep(0.05)
        took_s = time.monotonic() - start
        assert toxi.get("/version")
        for _ in range(5):
            converse()
        toxi.log.seek(0)
        lines = toxi.log.read().decode().splitlines()
        assert not [line for line in lines if "Traceback" in line], lines
        assert 1 <= sum("file descriptors" in line for line in lines) <= took_s + 1, lines
        assert len(lines) <= took_s + 4, lines


@LINUX
@pytest.mark.slow
def test_listeners_that_never_read_and_slow_heads_change_nothing_for_others(
    run_server: Any, peers: Any
) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    held = []
    try:
        with run_server(True) as toxi, an_echo() as echo:
            port, busy = toxi.create(peers.address), toxi.create(echo, name="busy")
            before = Bystander(*peers.warm_pair(port)).observe(lambda: make_events(busy))
            memory = resident_bytes(toxi)
            for _ in range(500):
                held.append(socket.socket())
                held[-1].setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
                held[-1].connect(("127.0.0.1", toxi.port))
                held[-1].sendall(b"GET /events HTTP/1.1\r\nHost: localhost\r\n\r\n")
                held.append(socket.create_connection(("127.0.0.1", toxi.port), timeout=5))
                held[-1].sendall(b"GET /version HTTP/1.1\r\nHost: localhost\r\nX: 1\r\n")
            assert toxi.get("/version")
            during = Bystander(*peers.warm_pair(port)).observe(lambda: make_events(busy))
            grown = resident_bytes(toxi) - memory
            medians = [took_s[len(took_s) // 2] for took_s in (before, during)]
            worst = [took_s[len(took_s) * 98 // 100] for took_s in (before, during)]
            print(
                f"median {medians} s, 98th of a hundred {worst} s, memory {grown / 1e6:.0f} MB more"
            )
            assert medians[1] < medians[0] * 3 + 0.005
            assert worst[1] < worst[0] * 3 + 0.05
            assert grown < 100e6
            calls = http.client.HTTPConnection("127.0.0.1", toxi.port, timeout=5)
            calls.request("GET", "/events")  # there is room for one that reads
            assert calls.getresponse().status == 200
            calls.close()
    finally:
        for each in held:
            each.close()
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def make_events(port: int) -> None:
    """Open and close 50 connections a second, for two seconds."""
    for _ in range(100):
        with socket.create_connection(("127.0.0.1", port), timeout=5) as client:
            client.sendall(b"x")
            client.recv(1)
        time.sleep(0.02)


def resident_bytes(toxi: Any) -> int:
    return int(Path(f"/proc/{toxi.process.pid}/statm").read_text().split()[1]) * 4096
