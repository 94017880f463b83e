"""What the toxics do to bytes, on live connections and new ones, on both servers."""

from __future__ import annotations

import hashlib
import random
import socket
import struct
import threading
import time
from typing import Any

import pytest

pytestmark = pytest.mark.slow

# both ways: the machine that runs the tests is shared
LATE_S = 0.25


def timed(stream: Any, size: int, wire: Any) -> float:
    return float(wire.took(lambda: wire.read_all(stream, size)))


def test_latency_delays_one_way_and_fin_follows_the_last_byte(
    toxi: Any, peers: Any, wire: Any
) -> None:
    port = toxi.create(peers.address)
    client, server = peers.warm_pair(port)
    toxi.toxic("latency", latency=300)
    server.sendall(b"late")
    client.sendall(b"now")
    assert timed(server, 3, wire) < LATE_S
    server.close()
    start = time.monotonic()
    assert wire.read_all(client, 4) == b"late"
    assert 0.2 < time.monotonic() - start < 0.3 + LATE_S
    assert wire.took(lambda: wire.end_of(client)) < LATE_S


def test_latency_does_not_delay_a_bare_fin(toxi: Any, peers: Any, wire: Any) -> None:
    port = toxi.create(peers.address)
    toxi.toxic("latency", latency=2000)
    client, server = peers.pair(port)
    server.close()
    assert wire.took(lambda: wire.end_of(client)) < 1


def test_removing_latency_releases_what_waits_at_once_and_in_order(
    toxi: Any, peers: Any, wire: Any
) -> None:
    port = toxi.create(peers.address)
    client, server = peers.warm_pair(port)
    toxi.toxic("latency", latency=60_000)
    for letter in b"abcdef":
        server.sendall(bytes([letter]))
        time.sleep(0.005)
    assert wire.silent(client, 0.1)
    toxi.do("DELETE", "/proxies/p/toxics/latency_downstream")
    assert wire.read_all(client, 6) == b"abcdef"
    server.sendall(b"g")
    assert timed(client, 1, wire) < LATE_S


def test_changing_latency_times_what_waits_anew(toxi: Any, peers: Any, wire: Any) -> None:
    port = toxi.create(peers.address)
    client, server = peers.warm_pair(port)
    toxi.toxic("latency", latency=60_000)
    server.sendall(b"a")
    time.sleep(0.05)
    server.sendall(b"b")
    time.sleep(0.05)
    toxi.do("PATCH", "/proxies/p/toxics/latency_downstream", {"attributes": {"latency": 500}})
    assert timed(client, 1, wire) < LATE_S
    assert 0.2 < timed(client, 1, wire) < 0.5 + LATE_S


def test_jitter_stays_in_its_range_and_order_holds(toxi: Any, peers: Any, wire: Any) -> None:
    port = toxi.create(peers.address)
    toxi.toxic("latency", latency=20, jitter=15)
    client, server = peers.warm_pair(port)
    delays = []
    for number in range(20):
        server.sendall(bytes([number]))
        start = time.monotonic()
        assert wire.read_all(client, 1) == bytes([number])
        delays.append(time.monotonic() - start)
    assert min(delays) >= 0.004
    assert sorted(delays)[9] < 0.04
    assert max(delays) - min(delays) > 0.005


def test_bandwidth_holds_a_chunk_for_its_time(toxi: Any, peers: Any, wire: Any) -> None:
    port = toxi.create(peers.address)
    client, server = peers.warm_pair(port)
    toxi.toxic("bandwidth", rate=100)
    start = time.monotonic()
    server.sendall(b"x" * 30_000)
    assert wire.read_all(client, 1) == b"x"
    assert time.monotonic() - start > 0.09
    wire.read_all(client, 29_999)
    assert 0.28 < time.monotonic() - start < 0.3 + LATE_S


def test_bandwidth_0_holds_everything_and_loses_nothing(toxi: Any, peers: Any, wire: Any) -> None:
    port = toxi.create(peers.address)
    client, server = peers.warm_pair(port)
    toxi.toxic("bandwidth")
    server.sendall(b"held")
    server.close()
    assert wire.silent(client, 0.4)
    toxi.do("PATCH", "/proxies/p/toxics/bandwidth_downstream", {"attributes": {"rate": 1000}})
    assert wire.read_all(client, 4) == b"held"
    assert wire.end_of(client) == "fin"


def test_slow_close_delays_the_end_of_its_own_stream(toxi: Any, peers: Any, wire: Any) -> None:
    port = toxi.create(peers.address)
    toxi.toxic("slow_close", delay=400)
    client, server = peers.warm_pair(port)
    client.close()
    assert wire.took(lambda: wire.end_of(server)) < LATE_S
    client, server = peers.warm_pair(port)
    server.sendall(b"last")
    server.close()
    assert timed(client, 4, wire) < LATE_S
    assert 0.3 < wire.took(lambda: wire.end_of(client)) < 0.4 + LATE_S


def test_removing_slow_close_closes_at_once(toxi: Any, peers: Any, wire: Any) -> None:
    port = toxi.create(peers.address)
    toxi.toxic("slow_close", delay=60_000)
    client, server = peers.warm_pair(port)
    server.close()
    assert wire.silent(client, 0.1)
    toxi.do("DELETE", "/proxies/p/toxics/slow_close_downstream")
    assert wire.took(lambda: wire.end_of(client)) < LATE_S


def test_timeout_discards_and_closes_after_silence(toxi: Any, peers: Any, wire: Any) -> None:
    port = toxi.create(peers.address)
    toxi.toxic("timeout", timeout=300)
    client, server = peers.pair(port)
    start = time.monotonic()
    for _ in range(5):
        server.sendall(b"lost")
        client.sendall(b"kept")
        assert wire.read_all(server, 4) == b"kept"
        time.sleep(0.1)
    assert client.recv(10) == b""
    assert 0.65 < time.monotonic() - start < 0.8 + LATE_S
    assert wire.end_of(server) == "fin"


@pytest.mark.parametrize("timeout", [0, -5])
def test_timeout_0_never_closes_until_it_is_removed(
    toxi: Any, peers: Any, wire: Any, timeout: int
) -> None:
    port = toxi.create(peers.address)
    client, server = peers.warm_pair(port)
    toxi.toxic("timeout", timeout=timeout)
    server.sendall(b"lost")
    assert wire.silent(client, 0.3)
    toxi.do("DELETE", "/proxies/p/toxics/timeout_downstream")
    assert client.recv(10) == b""
    assert wire.end_of(server) == "fin"


def test_an_end_passes_timeout_at_once(toxi: Any, peers: Any, wire: Any) -> None:
    port = toxi.create(peers.address)
    toxi.toxic("timeout")
    client, server = peers.pair(port)
    server.close()
    assert wire.took(lambda: wire.end_of(client)) < LATE_S


def test_reset_peer_resets_both_at_the_first_byte_of_its_stream(
    toxi: Any, peers: Any, wire: Any
) -> None:
    port = toxi.create(peers.address)
    toxi.toxic("reset_peer", timeout=200, stream="upstream")
    client, server = peers.pair(port)
    server.sendall(b"other way")
    assert wire.read_all(client, 9) == b"other way"
    assert wire.silent(client, 0.3)
    client.sendall(b"trigger")
    start = time.monotonic()
    assert wire.end_of(client) == "rst"
    assert 0.1 < time.monotonic() - start < 0.2 + LATE_S
    assert wire.end_of(server) == "rst"


def test_reset_peer_resets_at_the_end_of_its_stream(toxi: Any, peers: Any, wire: Any) -> None:
    port = toxi.create(peers.address)
    toxi.toxic("reset_peer")
    client, server = peers.pair(port)
    server.close()
    assert wire.end_of(client) == "rst"


def test_slicer_halves_until_pieces_are_small(toxi: Any, peers: Any) -> None:
    port = toxi.create(peers.address)
    client, server = peers.warm_pair(port)
    toxi.toxic("slicer", average_size=10, delay=5000)
    server.sendall(bytes(range(100)))
    pieces = []
    while sum(map(len, pieces)) < 100:
        pieces.append(client.recv(1000))
    assert b"".join(pieces) == bytes(range(100))
    assert [len(piece) for piece in pieces].count(6) >= 8
    assert {len(piece) for piece in pieces} <= {6, 7, 12, 13, 14}


@pytest.mark.parametrize("limit", [1, 100, 33_000])
def test_limit_data_closes_exactly_at_the_limit(
    toxi: Any, peers: Any, wire: Any, limit: int
) -> None:
    port = toxi.create(peers.address)
    client, server = peers.warm_pair(port)
    toxi.toxic("limit_data", bytes=limit)
    server.sendall(b"x" * limit)
    wire.read_all(client, limit)
    assert client.recv(1) == b""
    client, server = peers.pair(port)
    server.sendall(b"y" * (limit + 7))
    wire.read_all(client, limit)
    assert wire.end_of(client) in ("fin", "rst")


@pytest.mark.parametrize("limit", [0, -1])
def test_limit_data_0_closes_with_the_first_byte(
    toxi: Any, peers: Any, wire: Any, limit: int
) -> None:
    port = toxi.create(peers.address)
    client, server = peers.warm_pair(port)
    toxi.toxic("limit_data", bytes=limit)
    assert wire.silent(client, 0.2)
    server.sendall(b"z")
    assert client.recv(1) == b""


def test_limit_data_keeps_its_count_when_the_limit_changes(
    toxi: Any, peers: Any, wire: Any
) -> None:
    port = toxi.create(peers.address)
    client, server = peers.warm_pair(port)
    toxi.toxic("limit_data", bytes=100)
    server.sendall(b"x" * 60)
    wire.read_all(client, 60)
    url = "/proxies/p/toxics/limit_data_downstream"
    toxi.do("PATCH", url, {"attributes": {"bytes": 70}})
    server.sendall(b"x" * 5)
    wire.read_all(client, 5)
    toxi.do("PATCH", url, {"attributes": {"bytes": 10}})
    assert wire.silent(client, 0.15)
    server.sendall(b"x")
    assert client.recv(1) == b""


def test_a_half_close_closes_both_ways(toxi: Any, peers: Any, wire: Any) -> None:
    port = toxi.create(peers.address)
    for first, second in ((0, 1), (1, 0)):
        ends = peers.warm_pair(port)
        ends[first].shutdown(1)
        assert wire.end_of(ends[second]) == "fin"
        assert ends[first].recv(1) == b""


def test_what_is_queued_the_other_way_still_arrives_late(toxi: Any, peers: Any, wire: Any) -> None:
    port = toxi.create(peers.address)
    client, server = peers.warm_pair(port)
    toxi.toxic("latency", latency=400)
    server.sendall(b"reply")
    time.sleep(0.05)
    client.shutdown(1)
    assert wire.end_of(server) == "fin"
    start = time.monotonic()
    assert wire.read_all(client, 5) == b"reply"
    assert time.monotonic() - start > 0.2
    assert client.recv(1) == b""


@pytest.mark.parametrize("from_client", [True, False])
def test_an_rst_arrives_as_a_fin(toxi: Any, peers: Any, wire: Any, from_client: bool) -> None:
    port = toxi.create(peers.address)
    client, server = peers.warm_pair(port)
    one, other = (client, server) if from_client else (server, client)
    one.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    one.close()
    assert wire.end_of(other) == "fin"


def test_disabling_discards_what_is_queued(toxi: Any, peers: Any, wire: Any) -> None:
    port = toxi.create(peers.address)
    client, server = peers.warm_pair(port)
    toxi.toxic("latency", latency=60_000)
    server.sendall(b"queued")
    time.sleep(0.05)
    toxi.do("PATCH", "/proxies/p", {"enabled": False})
    assert client.recv(10) == b""
    assert wire.end_of(server) == "fin"
    assert len(toxi.get("/proxies/p")["toxics"]) == 1


@pytest.mark.parametrize(
    "upstream", ["127.0.0.1:1", "http://localhost:80", "no-port", "127.0.0.1:99999", "[::1"]
)
def test_a_client_is_accepted_and_closed_when_the_upstream_cannot_be_had(
    toxi: Any, peers: Any, wire: Any, upstream: str
) -> None:
    port = toxi.create(upstream)
    client = peers.connect(port)
    assert wire.end_of(client) in ("fin", "rst")
    assert toxi.get("/proxies/p")["upstream"] == upstream


def test_an_upstream_by_name_is_tried_on_all_its_addresses(toxi: Any, peers: Any) -> None:
    port = toxi.create(peers.address.replace("127.0.0.1", "localhost"))
    peers.warm_pair(port)


def test_toxicity_0_lets_everything_pass(toxi: Any, peers: Any, wire: Any) -> None:
    port = toxi.create(peers.address)
    toxi.toxic("latency", latency=60_000, toxicity=0)
    toxi.toxic("timeout", toxicity=0)
    toxi.toxic("limit_data", toxicity=-1)
    peers.warm_pair(port)


def test_toxicity_is_drawn_once_for_each_connection_and_stream(
    toxi: Any, peers: Any, wire: Any
) -> None:
    port = toxi.create(peers.address)
    for stream in ("upstream", "downstream"):
        toxi.toxic("bandwidth", rate=0, stream=stream, toxicity=0.5)
    seen = set()
    pairs = [peers.pair(port) for _ in range(40)]
    for client, server in pairs:
        client.sendall(b"a")
        server.sendall(b"b")
    time.sleep(0.2)
    for client, server in pairs:
        seen.add((wire.silent(server, 0.005), wire.silent(client, 0.005)))
    assert len(seen) == 4


def test_toxics_act_in_the_order_in_which_they_were_added(toxi: Any, peers: Any, wire: Any) -> None:
    port = toxi.create(peers.address)
    toxi.toxic("limit_data", bytes=4)
    toxi.toxic("latency", latency=200)
    client, server = peers.pair(port)
    server.sendall(b"four")
    assert 0.15 < timed(client, 4, wire) < 0.2 + LATE_S
    assert client.recv(1) == b""


def test_bulk_passes_through_five_noops_intact(toxi: Any, peers: Any, wire: Any) -> None:
    port = toxi.create(peers.address)
    for number in range(5):
        toxi.toxic("noop", name=f"n{number}")
    client, server = peers.warm_pair(port)
    payload = random.Random(1).randbytes(3_000_000)
    sender = threading.Thread(target=server.sendall, args=(payload,))
    sender.start()
    got = wire.read_all(client, len(payload))
    sender.join()
    assert hashlib.sha256(got).digest() == hashlib.sha256(payload).digest()
