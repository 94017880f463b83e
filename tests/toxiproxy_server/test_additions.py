"""Beyond the original: faults as toxic types, toxics in /populate and in the config file, and connections by name."""

from __future__ import annotations

import json
import socket
import time
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.slow

REQUEST = b"GET / HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n"


def test_a_fault_acts_both_ways_unless_it_is_told_otherwise(ours: Any) -> None:
    ours.create()
    row = ours.toxic("idle_timeout", after=1500, action="rst")
    assert row == {
        "attributes": {"after": "1.5s", "action": "rst", "counts": "bytes"},
        "name": "idle_timeout_both",
        "type": "idle_timeout",
        "stream": "both",
        "toxicity": 1,
    }
    assert ours.toxic("stall", stream="upstream")["name"] == "stall_upstream"
    changed = ours.do(
        "PATCH", "/proxies/p/toxics/idle_timeout_both", {"attributes": {"after": "2s"}}
    )
    assert changed["attributes"] == {"after": "2s", "action": "rst", "counts": "bytes"}
    ours.toxic("noop")
    names = [toxic["name"] for toxic in ours.get("/proxies/p/toxics")]
    assert names == ["stall_upstream", "noop_downstream", "idle_timeout_both"]


@pytest.mark.parametrize(
    ("type_", "attributes", "told"),
    [
        ("stall", {"x": 1}, "unknown attributes.x, expected none"),
        ("slow_accept", {"delay_s": "1s"}, "unknown attributes.delay_s, expected delay"),
        ("slow_accept", {"delay": -1}, "expected attributes.delay from 0 to 9007199254740991 ms"),
        ("slow_accept", {}, "attributes.delay: Field required"),
        ("slow_accept", {"delay": "soon"}, "a duration needs a number and a unit"),
        ("idle_timeout", {}, "expected `after` or `preset`"),
        ("reject_upgrade", {"status": 99}, "attributes.status: Input should be greater"),
    ],
)
def test_a_fault_that_is_wrong_is_400_and_says_why(
    ours: Any, type_: str, attributes: Any, told: str
) -> None:
    ours.create()
    answer = ours.ask("POST", "/proxies/p/toxics", {"type": type_, "attributes": attributes})
    assert answer.status == 400
    assert told in answer.error
    assert ours.get("/proxies/p/toxics") == []


@pytest.mark.parametrize("type_", ["partition", "loss", "down", "host_crash", "dns_failure"])
def test_what_is_no_fault_of_streams_is_no_toxic(ours: Any, type_: str) -> None:
    ours.create()
    answer = ours.ask("POST", "/proxies/p/toxics", {"type": type_})
    assert (answer.status, answer.error) == (400, "invalid toxic type")


def test_stall_holds_all_and_gives_it_back(ours: Any, peers: Any, wire: Any) -> None:
    port = ours.create(peers.address)
    client, server = peers.warm_pair(port)
    ours.toxic("stall")
    client.sendall(b"held")
    server.sendall(b"too")
    assert wire.silent(server, 0.1)
    assert wire.silent(client, 0.1)
    ours.do("DELETE", "/proxies/p/toxics/stall_both")
    assert wire.read_all(server, 4) == b"held"
    assert wire.read_all(client, 3) == b"too"


def test_blackhole_kills_for_good_and_new_connections_hang(
    ours: Any, peers: Any, wire: Any
) -> None:
    port = ours.create(peers.address)
    client, server = peers.warm_pair(port)
    ours.toxic("blackhole")
    hung = peers.connect(port)
    server.close()
    assert wire.silent(client, 0.2)
    assert wire.silent(hung, 0.1)
    ours.do("DELETE", "/proxies/p/toxics/blackhole_both")
    client.sendall(b"x")
    assert wire.silent(client, 0.1)
    peers.warm_pair(port)


def test_middleboxes_cut_idle_and_old_connections(ours: Any, peers: Any, wire: Any) -> None:
    port = ours.create(peers.address)
    ours.toxic("idle_timeout", after=300, action="rst")
    client, server = peers.warm_pair(port)
    start = time.monotonic()
    assert wire.end_of(client) == "rst"
    assert 0.2 < time.monotonic() - start < 1
    assert wire.end_of(server) == "rst"
    ours.do("DELETE", "/proxies/p/toxics/idle_timeout_both")
    ours.toxic("max_lifetime", after="200ms")
    client, server = peers.warm_pair(port)
    assert wire.end_of(client) == "fin"


def test_frames_are_dropped_and_delayed_by_opcode(ours: Any, peers: Any, wire: Any) -> None:
    port = ours.create(peers.address)
    client, server = peers.pair(port)
    response = b"HTTP/1.1 101 Switching Protocols\r\n\r\n"
    server.sendall(response)
    wire.read_all(client, len(response))
    ours.toxic("drop_frames", stream="downstream", opcodes=["pong"])
    ours.toxic("delay_frames", stream="downstream", opcodes=["ping"], delay=200)
    server.sendall(b"\x8a\x01p" + b"\x81\x01t" + b"\x89\x01q")
    assert wire.read_all(client, 3) == b"\x81\x01t"
    start = time.monotonic()
    assert wire.read_all(client, 3) == b"\x89\x01q"
    assert time.monotonic() - start > 0.1


def test_reset_sends_an_rst_to_live_and_idle_connections(ours: Any, peers: Any, wire: Any) -> None:
    port = ours.create(peers.address)
    client, server = peers.warm_pair(port)
    ours.toxic("reset")
    assert (wire.end_of(client), wire.end_of(server)) == ("rst", "rst")
    peers.warm_pair(port)


def test_refuse_refuses_new_connections_only(ours: Any, peers: Any, wire: Any) -> None:
    port = ours.create(peers.address)
    client, server = peers.warm_pair(port)
    ours.toxic("refuse")
    assert wire.refused(port)
    client.sendall(b"x")
    assert server.recv(1) == b"x"
    ours.do("PATCH", "/proxies/p", {"enabled": False})
    ours.do("PATCH", "/proxies/p", {"enabled": True})
    assert wire.refused(port)
    ours.do("POST", "/reset")
    peers.warm_pair(port)


def test_slow_accept_lets_a_connection_wait(ours: Any, peers: Any, wire: Any) -> None:
    port = ours.create(peers.address)
    ours.toxic("slow_accept", delay=300)
    assert wire.took(lambda: peers.warm_pair(port)) > 0.25


def test_handshakes_are_rejected_and_stripped(ours: Any, peers: Any, wire: Any) -> None:
    port = ours.create(peers.address)
    ours.toxic("reject_upgrade", status=503, retry_after=1500)
    client = peers.connect(port)
    client.sendall(REQUEST)
    head = client.recv(1000).decode()
    assert head.startswith("HTTP/1.1 503 Service Unavailable\r\n")
    assert "Retry-After: 2\r\n" in head
    assert wire.end_of(client) == "fin"
    ours.do("DELETE", "/proxies/p/toxics/reject_upgrade_both")
    ours.toxic("strip_upgrade")
    client, server = peers.pair(port)
    client.sendall(REQUEST + b"rest")
    head = wire.read_all(server, 50).decode()
    assert head.startswith("GET / HTTP/1.0\r\n")
    assert "Upgrade" not in head


def test_toxicity_0_keeps_faults_of_the_entrance_away(ours: Any, peers: Any) -> None:
    port = ours.create(peers.address)
    for type_ in ("refuse", "reset", "blackhole", "reject_upgrade"):
        ours.toxic(type_, toxicity=0)
    peers.warm_pair(port)


POPULATION = [
    {
        "name": "p",
        "listen": "127.0.0.1:0",
        "upstream": "127.0.0.1:9",
        "toxics": [
            {"type": "latency", "attributes": {"latency": 5}},
            {"type": "stall", "stream": "upstream"},
        ],
    }
]


def test_populate_takes_toxics_with_their_proxies(ours: Any) -> None:
    [row] = ours.do("POST", "/populate", POPULATION)["proxies"]
    assert [toxic["name"] for toxic in row["toxics"]] == ["stall_upstream", "latency_downstream"]
    assert ours.get("/proxies/p") == row


def test_a_toxic_that_is_wrong_stops_populate_before_anything_is_done(ours: Any) -> None:
    wrong = {"name": "q", "upstream": "u:1", "toxics": [{"type": "noop"}, {"type": "noop"}]}
    answer = ours.ask("POST", "/populate", [*POPULATION, wrong])
    assert (answer.status, answer.error) == (409, "toxic already exists at proxy 2")
    assert answer.json["proxies"] is None
    assert ours.get("/proxies") == {}


@pytest.mark.parametrize("toxics", [None, [], 5, "x", {}])
def test_toxics_that_clients_echo_do_no_harm(ours: Any, toxics: Any) -> None:
    row = {"name": "p", "upstream": "u:1", "listen": "127.0.0.1:0", "toxics": toxics}
    assert ours.do("POST", "/populate", [row])["proxies"][0]["toxics"] == []


def test_the_config_file_takes_toxics(run_server: Any, tmp_path: Path) -> None:
    path = tmp_path / "toxiproxy.json"
    path.write_text(json.dumps(POPULATION))
    with run_server(True, "-config", str(path)) as toxi:
        assert len(toxi.get("/proxies/p")["toxics"]) == 2


def test_connections_are_listed_with_peers_age_bytes_and_toxics(ours: Any, peers: Any) -> None:
    port = ours.create(peers.address)
    ours.toxic("latency", name="on")
    ours.toxic("latency", name="off", toxicity=0)
    client, server = peers.warm_pair(port)
    client.sendall(b"12345")
    server.recv(5)
    [row] = ours.get("/connections")
    assert row["client"] == f"127.0.0.1:{client.getsockname()[1]}"
    assert row["upstream"] == peers.address
    assert row["proxy"] == "p"
    assert row["bytes"] == {
        "upstream": {"received": 6, "sent": 6},
        "downstream": {"received": 1, "sent": 1},
    }
    assert row["toxics"] == ["on"]
    assert 0 <= row["age_s"] < 10
    client.close()
    deadline = time.monotonic() + 5
    while ours.get("/connections"):
        assert time.monotonic() < deadline


@pytest.mark.parametrize("how", ["", "?how=fin", "?how=rst"])
def test_one_connection_is_ended_by_its_id(ours: Any, peers: Any, wire: Any, how: str) -> None:
    port = ours.create(peers.address)
    first, second = peers.warm_pair(port), peers.warm_pair(port)
    rows = ours.get("/connections")
    ours.do("DELETE", f"/connections/{rows[0]['id']}{how}")
    expected = "rst" if "rst" in how else "fin"
    assert [wire.end_of(end) for end in first] == [expected, expected]
    second[0].sendall(b"x")
    assert second[1].recv(1) == b"x"
    assert ours.ask("DELETE", f"/connections/{rows[0]['id']}").status == 404


def test_a_connection_that_is_not_there_and_a_way_that_is_not_known_are_errors(ours: Any) -> None:
    for id_ in ("0", "x", "-1", "9" * 30, "²"):
        answer = ours.ask("DELETE", f"/connections/{id_.encode().hex() if id_ == '²' else id_}")
        assert (answer.status, answer.error) == (404, "connection not found")
    assert ours.ask("DELETE", "/connections/1?how=bang").status == 400


def test_the_faithful_policy_passes_half_closes_and_resets(
    run_server: Any, peers: Any, wire: Any
) -> None:
    with run_server(True, "--faithful") as toxi:
        port = toxi.create(peers.address)
        client, server = peers.warm_pair(port)
        client.shutdown(socket.SHUT_WR)
        assert server.recv(1) == b""
        server.sendall(b"answer")
        assert wire.read_all(client, 6) == b"answer"
        client, server = peers.warm_pair(port)
        server.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")
        server.close()
        assert wire.end_of(client) == "rst"
