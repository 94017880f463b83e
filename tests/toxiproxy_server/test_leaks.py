"""Streams that end in the middle of a chain: the original keeps goroutines and buffers for each, we keep nothing."""

from __future__ import annotations

import socket
import time
from pathlib import Path
from typing import Any

import pytest

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="sockets are counted in /proc"),
]

CONNECTIONS = 50
WAIT_S = 5.0


def see_nothing_left(toxi: Any, before: int) -> None:
    deadline = time.monotonic() + WAIT_S
    while toxi.get("/connections") or toxi.sockets() > before:
        assert time.monotonic() < deadline, (toxi.get("/connections"), toxi.sockets(), before)
        time.sleep(0.05)


def end_midway(ours: Any, peers: Any) -> None:
    """Let 50 servers send 100 kB each into whatever is in their way, and read until it is over."""
    port = int(ours.get("/proxies/p")["listen"].rpartition(":")[2])
    for _ in range(CONNECTIONS):
        client, server = peers.pair(port)
        try:
            server.sendall(bytes(100_000))
            while client.recv(65536):
                pass
        except OSError:
            pass
        client.close()
        server.close()


@pytest.mark.parametrize(
    ("type_", "attributes"), [("limit_data", {"bytes": 1_000}), ("reset_peer", {"timeout": 1})]
)
@pytest.mark.parametrize("behind", [None, "latency", "bandwidth"])
def test_a_stream_that_a_toxic_ends_leaves_nothing(
    ours: Any, peers: Any, type_: str, attributes: dict[str, int], behind: str | None
) -> None:
    ours.create(peers.address)
    before = ours.sockets()
    ours.toxic(type_, attributes=attributes)
    if behind is not None:
        ours.toxic(behind, attributes={"latency": 1, "rate": 1_000_000})
    end_midway(ours, peers)
    see_nothing_left(ours, before)


@pytest.mark.parametrize("toxic", [None, "latency", "bandwidth"])
def test_a_client_that_vanishes_in_a_download_leaves_nothing(
    ours: Any, peers: Any, toxic: str | None
) -> None:
    port = ours.create(peers.address)
    before = ours.sockets()
    if toxic is not None:
        ours.toxic(toxic, attributes={"latency": 20, "rate": 100_000})
    for _ in range(10):
        client, server = peers.warm_pair(port)
        server.setblocking(False)
        try:
            while True:
                server.send(bytes(1 << 20))
        except BlockingIOError:
            pass
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")
        client.close()
        server.close()
    see_nothing_left(ours, before)


def test_removing_a_toxic_of_a_stream_that_is_ending_hits_no_other(
    ours: Any, peers: Any, wire: Any
) -> None:
    port = ours.create(peers.address)
    for number in range(3):
        ours.toxic("slow_close", name=f"s{number}", delay=60_000)
    ours.toxic("latency", latency=1)
    client, server = peers.warm_pair(port)
    server.sendall(b"last words")
    server.shutdown(socket.SHUT_WR)
    assert wire.read_all(client, 10) == b"last words"
    for number in (1, 0):
        ours.do("DELETE", f"/proxies/p/toxics/s{number}")
        assert wire.silent(client, 0.1)
    ours.do("DELETE", "/proxies/p/toxics/s2")
    assert wire.end_of(client) == "fin"


def test_ends_that_are_held_on_both_streams_come_out_when_their_toxics_go(
    ours: Any, peers: Any, wire: Any
) -> None:
    port = ours.create(peers.address)
    for stream in ("upstream", "downstream"):
        ours.toxic("bandwidth", stream=stream, rate=0)
    client, server = peers.pair(port)
    client.sendall(b"up")
    server.sendall(b"down")
    client.shutdown(socket.SHUT_WR)
    server.shutdown(socket.SHUT_WR)
    time.sleep(0.2)
    assert len(ours.get("/connections")) == 1
    ours.do("DELETE", "/proxies/p/toxics/bandwidth_downstream")
    assert wire.read_all(client, 4) == b"down"
    assert wire.end_of(client) == "fin"
    ours.do("DELETE", "/proxies/p/toxics/bandwidth_upstream")
    assert wire.read_all(server, 2) == b"up"
    assert wire.end_of(server) == "fin"


FORGETS = (
    ("blackhole", {}),
    ("idle_timeout", {"after": 50, "action": "drop"}),
    ("max_lifetime", {"after": 50, "action": "drop"}),
    ("idle_timeout", {"after": 50, "action": "drop_then_rst"}),
    ("reset", {"side": "client"}),
)


@pytest.mark.parametrize("ends_are", ["toxiproxy", "faithful"])
@pytest.mark.parametrize("how", ["fin", "rst"])
def test_what_was_forgotten_is_freed_once_its_clients_and_its_fault_have_gone(
    run_server: Any, peers: Any, wire: Any, how: str, ends_are: str
) -> None:
    with run_server(True, *(["--faithful"] if ends_are == "faithful" else [])) as ours:
        port = ours.create(peers.address)
        before = ours.sockets()
        for number, (type_, attributes) in enumerate(FORGETS):
            pairs = [peers.warm_pair(port) for _ in range(CONNECTIONS // 5)]
            ours.toxic(type_, name="x", attributes=attributes)
            time.sleep(0.1)
            for client, _ in pairs:
                if type_ != "reset":
                    client.sendall(b"lost")
                if how == "rst":
                    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")
                client.close()
            # while the fault is in force, the server's side does not hear of it
            assert wire.silent(pairs[0][1], 0.1), type_
            if number % 2 == 0 or type_ == "reset":
                ours.do("POST", "/reset")
            else:
                ours.do("DELETE", "/proxies/p/toxics/x")
            see_nothing_left(ours, before)


def test_a_client_that_waits_still_hears_nothing_and_is_freed_when_it_goes(
    ours: Any, peers: Any, wire: Any
) -> None:
    port = ours.create(peers.address)
    before = ours.sockets()
    client, server = peers.warm_pair(port)
    ours.toxic("blackhole", name="x")
    late = peers.connect(port)
    ours.do("POST", "/reset")
    for each in (client, server, late):
        each.sendall(b"anybody?")
        assert wire.silent(each, 0.1)
    client.close()
    late.close()
    assert wire.end_of(server) in ("fin", "rst")
    see_nothing_left(ours, before)


def test_switching_a_blackhole_makes_no_connection_grow(ours: Any, peers: Any) -> None:
    port = ours.create(peers.address)
    peers.warm_pair(port)
    for _ in range(300):
        ours.toxic("blackhole", name="x")
        ours.do("DELETE", "/proxies/p/toxics/x")
    start = time.monotonic()
    ours.toxic("latency", latency=1)
    assert time.monotonic() - start < 0.2
