"""Routes, statuses, headers and the life of a proxy, on both servers."""

from __future__ import annotations

import http.client
import socket
import time
import urllib.parse
from typing import Any

import pytest

pytestmark = pytest.mark.slow

TEXT = "text/plain; charset=utf-8"


@pytest.mark.parametrize(
    "path", ["/", "/nope", "/proxies/", "/proxies/a%2Fb", "/proxies/p/", "/proxies/p/toxics/t/x"]
)
@pytest.mark.parametrize("agent", ["curl/8", "Mozilla/5.0"])
def test_an_unknown_path_is_404_in_text(toxi: Any, path: str, agent: str) -> None:
    answer = toxi.ask("GET", path, User_Agent=agent)
    assert (answer.status, answer.type, answer.body) == (404, TEXT, b"404 page not found\n")
    assert "x-toxiproxy-request-id" not in answer.headers


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("HEAD", "/proxies"),
        ("OPTIONS", "/proxies"),
        ("PUT", "/proxies/p"),
        ("GET", "/reset"),
        ("POST", "/version"),
        ("PUT", "/proxies/p/toxics/t"),
        ("DELETE", "/proxies"),
        ("GET", "/populate"),
    ],
)
def test_a_wrong_method_is_405_without_a_body(toxi: Any, method: str, path: str) -> None:
    answer = toxi.ask(method, path)
    assert (answer.status, answer.body) == (405, b"")
    assert "allow" not in answer.headers
    assert "x-toxiproxy-request-id" not in answer.headers


@pytest.mark.parametrize(
    ("method", "path", "error"),
    [
        ("GET", "/proxies/x", "proxy not found"),
        ("DELETE", "/proxies/x", "proxy not found"),
        ("POST", "/proxies/x", "proxy not found"),
        ("PATCH", "/proxies/x", "proxy not found"),
        ("GET", "/proxies/x/toxics", "proxy not found"),
        ("POST", "/proxies/x/toxics", "proxy not found"),
        ("GET", "/proxies/p/toxics/x", "toxic not found"),
        ("PATCH", "/proxies/p/toxics/x", "toxic not found"),
        ("POST", "/proxies/p/toxics/x", "toxic not found"),
        ("DELETE", "/proxies/p/toxics/x", "toxic not found"),
    ],
)
def test_what_is_not_there_is_404_before_the_body_is_read(
    toxi: Any, method: str, path: str, error: str
) -> None:
    toxi.create()
    answer = toxi.ask(method, path, "no json")
    assert (answer.status, answer.type) == (404, TEXT)
    assert answer.body.decode() == f'{{"error":"{error}","status":404}}\n'
    assert len(answer.headers["x-toxiproxy-request-id"]) == 20


def test_browsers_are_refused_on_known_paths(toxi: Any) -> None:
    answer = toxi.ask("GET", "/version", User_Agent="Mozilla/5.0")
    assert (answer.status, answer.type) == (403, TEXT)
    assert answer.body == b"User agent not allowed\n"
    for agent in ("mozilla/5.0", "", "Mozilla", " x Mozilla/5"):
        assert toxi.ask("GET", "/version", User_Agent=agent).status == 200


def test_the_version_has_its_own_spacing_and_type(toxi: Any) -> None:
    answer = toxi.ask("GET", "/version")
    assert answer.type == "application/json;charset=utf-8"
    assert answer.body.decode() == f'{{"version": "{answer.json["version"]}"}}\n'


def test_a_path_that_is_not_clean_is_redirected(toxi: Any) -> None:
    for path in ("//proxies", "/proxies/../proxies", "/./proxies", "/x//../proxies"):
        with socket.create_connection(("127.0.0.1", toxi.port), timeout=5) as plain:
            plain.sendall(f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
            head = plain.recv(4096).decode().lower()
        assert head.startswith("http/1.1 301")
        assert "location: /proxies\r\n" in head


def test_every_route_answers_with_a_fresh_request_id(toxi: Any) -> None:
    ids = {toxi.ask("GET", "/proxies").headers["x-toxiproxy-request-id"] for _ in range(5)}
    assert len(ids) == 5


def test_a_connection_is_kept_for_further_calls(toxi: Any) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", toxi.port, timeout=5)
    connection.request("GET", "/version")
    connection.getresponse().read()
    port = connection.sock.getsockname()[1]
    connection.request("GET", "/nope")
    connection.getresponse().read()
    assert connection.sock.getsockname()[1] == port
    connection.close()


def test_proxies_are_listed_by_sorted_name(toxi: Any) -> None:
    for name in ("b", "a", "C", "é"):
        toxi.create(name=name)
    assert list(toxi.get("/proxies")) == ["C", "a", "b", "é"]


@pytest.mark.parametrize("name", ["sp ace", "a:b@c", "ü", "%", "a?b", "..."])
def test_names_are_percent_decoded(toxi: Any, name: str) -> None:
    toxi.create(name=name)
    quoted = urllib.parse.quote(name, safe="")
    assert toxi.get(f"/proxies/{quoted}")["name"] == name
    toxi.do("POST", f"/proxies/{quoted}/toxics", {"type": "noop", "name": name})
    assert toxi.get(f"/proxies/{quoted}/toxics/{quoted}")["name"] == name


def test_creating_checks_name_then_upstream_then_duplicates_then_binds(
    toxi: Any, wire: Any
) -> None:
    port = toxi.create()
    taken = f"127.0.0.1:{port}"
    assert toxi.ask("POST", "/proxies", {"listen": taken}).error.endswith("name")
    assert toxi.ask("POST", "/proxies", {"name": "p", "listen": taken}).error.endswith("upstream")
    again = toxi.ask("POST", "/proxies", {"name": "p", "upstream": "u", "listen": taken})
    assert (again.status, again.error) == (409, "proxy already exists")
    clash = toxi.ask("POST", "/proxies", {"name": "q", "upstream": "u", "listen": taken})
    assert (clash.status, clash.error) == (
        500,
        f"listen tcp {taken}: bind: address already in use",
    )
    assert list(toxi.get("/proxies")) == ["p"]


@pytest.mark.parametrize(
    ("listen", "error"),
    [
        ("nonsense", "address nonsense: missing port in address"),
        ("a:b:c", "address a:b:c: too many colons in address"),
        ("[::1", "address [::1: missing ']' in address"),
        ("[::1]", "address [::1]: missing port in address"),
        ("[::1]x:1", "address [::1]x:1: missing port in address"),
        ("[::1]:2:3", "address [::1]:2:3: too many colons in address"),
        ("a]b:1", "address a]b:1: unexpected ']' in address"),
        ("a[b:1", "address a[b:1: unexpected '[' in address"),
        ("127.0.0.1:nosuchservice", "lookup tcp/nosuchservice: unknown port"),
        ("127.0.0.1:99999", "address 99999: invalid port"),
        ("127.0.0.1:-1", "address -1: invalid port"),
        ("/run/x.sock", "address /run/x.sock: missing port in address"),
    ],
)
def test_an_address_that_cannot_be_read_is_500(toxi: Any, listen: str, error: str) -> None:
    wanted = {"name": "q", "upstream": "u:1", "listen": listen}
    answer = toxi.ask("POST", "/proxies", wanted)
    assert (answer.status, answer.error) == (500, f"listen tcp: {error}")
    toxi.create()
    answer = toxi.ask("PATCH", "/proxies/p", {"listen": listen})
    assert (answer.status, answer.error) == (500, error)
    assert toxi.get("/proxies/p")["enabled"]


@pytest.mark.parametrize("listen", ["", ":0", "0.0.0.0:0", "[::]:0"])
def test_all_interfaces_are_shown_as_two_colons(toxi: Any, listen: str, wire: Any) -> None:
    if not socket.has_dualstack_ipv6():
        pytest.skip("no IPv6 here")
    row = toxi.do("POST", "/proxies", {"name": "p", "upstream": "u:1", "listen": listen})
    port = wire.port_of(row["listen"])
    assert row["listen"] == f"[::]:{port}"
    for host in ("127.0.0.1", "::1"):
        socket.create_connection((host, port), timeout=5).close()


@pytest.mark.parametrize(
    ("listen", "shown"),
    [
        ("localhost:0", "127.0.0.1:"),
        ("127.0.0.1:0", "127.0.0.1:"),
        ("[::1]:0", "[::1]:"),
        ("127.0.0.2:", "127.0.0.2:"),
    ],
)
def test_listen_becomes_where_it_listens(toxi: Any, listen: str, shown: str) -> None:
    row = toxi.do("POST", "/proxies", {"name": "p", "upstream": "u:1", "listen": listen})
    assert row["listen"].startswith(shown)
    assert not row["listen"].endswith(":0")


def test_a_proxy_that_starts_disabled_keeps_its_address_as_it_was_typed(toxi: Any) -> None:
    row = {"name": "p", "upstream": "u:1", "listen": "nonsense", "enabled": False}
    assert toxi.do("POST", "/proxies", row)["listen"] == "nonsense"
    for body in ({}, {"enabled": False}, {"enabled": True}):
        answer = toxi.ask("PATCH", "/proxies/p", body)
        assert (answer.status, answer.error) == (500, "address nonsense: missing port in address")
    assert (
        toxi.ask("POST", "/reset").error == "listen tcp: address nonsense: missing port in address"
    )


def test_toxics_in_the_body_of_a_new_proxy_are_ignored(toxi: Any) -> None:
    row = {"name": "p", "upstream": "u:1", "listen": "127.0.0.1:0", "toxics": [{"type": "noop"}]}
    assert toxi.do("POST", "/proxies", row)["toxics"] == []


@pytest.mark.parametrize("method", ["POST", "PATCH"])
def test_disabling_refuses_and_enabling_takes_the_same_port(
    toxi: Any, wire: Any, method: str
) -> None:
    port = toxi.create()
    for enabled in (False, False, True, True):
        row = toxi.do(method, "/proxies/p", {"enabled": enabled})
        assert (row["enabled"], row["listen"]) == (enabled, f"127.0.0.1:{port}")
        assert wire.refused(port) is not enabled


def test_an_update_that_changes_nothing_disturbs_nothing(toxi: Any, peers: Any) -> None:
    port = toxi.create(peers.address)
    client, server = peers.warm_pair(port)
    for body in (
        {},
        {"name": "other"},
        {"enabled": True},
        {"enabled": None, "listen": None, "upstream": None},
        {"listen": f"localhost:{port}"},
    ):
        assert toxi.do("POST", "/proxies/p", body)["name"] == "p"
    client.sendall(b"still")
    assert server.recv(9) == b"still"


def test_another_upstream_closes_connections_and_serves_new_ones(
    toxi: Any, peers: Any, wire: Any
) -> None:
    port = toxi.create(peers.address)
    client, server = peers.warm_pair(port)
    same = peers.address.replace("127.0.0.1", "localhost")
    assert toxi.do("PATCH", "/proxies/p", {"upstream": same})["listen"] == f"127.0.0.1:{port}"
    assert (wire.end_of(client), wire.end_of(server)) == ("fin", "fin")
    peers.warm_pair(port)


def test_another_address_moves_the_proxy_and_a_bad_one_leaves_it_disabled(
    toxi: Any, wire: Any
) -> None:
    port = toxi.create()
    taken = toxi.create(name="other")
    answer = toxi.ask("PATCH", "/proxies/p", {"listen": f"127.0.0.1:{taken}"})
    assert answer.status == 500
    assert answer.error == f"listen tcp 127.0.0.1:{taken}: bind: address already in use"
    row = toxi.get("/proxies/p")
    assert (row["enabled"], row["listen"]) == (False, f"127.0.0.1:{taken}")
    assert wire.refused(port)
    moved = toxi.do("PATCH", "/proxies/p", {"listen": "127.0.0.1:0", "enabled": True})
    assert not wire.refused(wire.port_of(moved["listen"]))


def test_deleting_refuses_and_closes(toxi: Any, peers: Any, wire: Any) -> None:
    port = toxi.create(peers.address)
    client, server = peers.warm_pair(port)
    answer = toxi.ask("DELETE", "/proxies/p")
    assert (answer.status, answer.body, answer.type) == (204, b"", None)
    assert wire.refused(port)
    assert (wire.end_of(client), wire.end_of(server)) == ("fin", "fin")
    assert toxi.ask("DELETE", "/proxies/p").status == 404


def test_populate_leaves_equal_proxies_alone(toxi: Any, peers: Any) -> None:
    port = toxi.create(peers.address)
    toxi.toxic("noop")
    client, server = peers.warm_pair(port)
    row = {"name": "p", "upstream": peers.address, "listen": f"localhost:{port}", "enabled": False}
    [shown] = toxi.do("POST", "/populate", [row])["proxies"]
    assert (shown["enabled"], len(shown["toxics"])) == (True, 1)
    client.sendall(b"still")
    assert server.recv(9) == b"still"


def test_populate_replaces_others_with_their_toxics(toxi: Any, peers: Any, wire: Any) -> None:
    port = toxi.create(peers.address)
    toxi.toxic("noop")
    client, _ = peers.warm_pair(port)
    rows = [
        {"name": "p", "upstream": "u:1", "listen": f"127.0.0.1:{port}"},
        {"name": "q", "upstream": "u:1", "listen": "127.0.0.1:0", "enabled": False},
    ]
    answer = toxi.ask("POST", "/populate", rows)
    assert (answer.status, answer.type) == (201, "application/json")
    first, second = answer.json["proxies"]
    assert (first["upstream"], first["enabled"], first["toxics"]) == ("u:1", True, [])
    assert second["enabled"] is False
    assert wire.end_of(client) == "fin"


def test_populate_stops_at_the_first_that_fails(toxi: Any, wire: Any) -> None:
    port = toxi.create(name="b")
    taken = toxi.create(name="x")
    rows = [
        {"name": "a", "upstream": "u:1", "listen": "127.0.0.1:0"},
        {"name": "b", "upstream": "u:1", "listen": f"127.0.0.1:{taken}"},
        {"name": "c", "upstream": "u:1", "listen": "127.0.0.1:0"},
    ]
    answer = toxi.ask("POST", "/populate", rows)
    assert (answer.status, answer.type) == (500, "application/json")
    assert answer.error == f"listen tcp 127.0.0.1:{taken}: bind: address already in use"
    assert [row["name"] for row in answer.json["proxies"]] == ["a"]
    rows_now = toxi.get("/proxies")
    assert list(rows_now) == ["a", "b", "x"]
    assert rows_now["b"]["enabled"] is False
    assert rows_now["b"]["listen"] == f"127.0.0.1:{port}"


def test_populate_takes_the_last_of_two_with_one_name_and_lists_both(toxi: Any) -> None:
    rows = [{"name": "a", "upstream": f"u:{n}", "listen": "127.0.0.1:0"} for n in (1, 2)]
    shown = toxi.do("POST", "/populate", rows)["proxies"]
    assert [row["upstream"] for row in shown] == ["u:1", "u:2"]
    assert toxi.get("/proxies")["a"]["upstream"] == "u:2"


def test_reset_starts_all_and_removes_toxics_but_no_connection(toxi: Any, peers: Any) -> None:
    port = toxi.create(peers.address)
    toxi.toxic("latency", latency=5)
    client, server = peers.warm_pair(port)
    toxi.create(name="off", enabled=False)
    answer = toxi.ask("POST", "/reset", "ignored")
    assert (answer.status, answer.body) == (204, b"")
    rows = toxi.get("/proxies")
    assert all(row["enabled"] and row["toxics"] == [] for row in rows.values())
    client.sendall(b"still")
    assert server.recv(9) == b"still"


def test_metrics_count_bytes_once_a_connection_is_over(toxi: Any, peers: Any, wire: Any) -> None:
    port = toxi.create(peers.address, name='m"x')
    client, server = peers.pair(port)
    client.sendall(b"x" * 2_000_000)
    wire.read_all(server, 2_000_000)
    server.sendall(b"y" * 123_456)
    wire.read_all(client, 123_456)
    client.close()
    wire.end_of(server)
    answer = None
    for _ in range(100):
        answer = toxi.ask("GET", "/metrics")
        if answer.body.count(b'{direction="') == 4:
            break
        time.sleep(0.02)
    assert answer is not None
    assert answer.type == "text/plain; version=0.0.4; charset=utf-8; escaping=underscores"
    labels = f'listener="127.0.0.1:{port}",proxy="m\\"x",upstream="{peers.address}"'
    lines = answer.body.decode().splitlines()
    for what in ("received", "sent"):
        name = f"toxiproxy_proxy_{what}_bytes_total"
        assert f"# HELP {name} " in lines
        assert f"# TYPE {name} counter" in lines
        assert f'{name}{{direction="upstream",{labels}}} 2e+06' in lines
        assert f'{name}{{direction="downstream",{labels}}} 123456' in lines
