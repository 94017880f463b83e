"""HTTP as a client of Toxiproxy may speak it, well or badly, on both servers: raw bytes out, raw bytes in."""

from __future__ import annotations

import socket
from typing import Any

import pytest

pytestmark = pytest.mark.slow

BAD = "400 Bad Request"


def say(port: int, head: str) -> tuple[str, dict[str, str]]:
    """Send a request as it is written; return the status line and the headers of the answer."""
    first, *more = head.split("\n")
    lines = [f"{first} HTTP/1.1", "Host: localhost", "Connection: close", *more]
    request = "\r\n".join([*lines, "", ""]).encode()
    answer = b""
    with socket.create_connection(("127.0.0.1", port), timeout=5) as plain:
        plain.sendall(request)
        while part := plain.recv(65536):
            answer += part
    told = answer.partition(b"\r\n\r\n")[0]
    first, *rows = told.decode("latin-1").split("\r\n")
    return first, dict(row.split(": ", 1) for row in rows if ": " in row)


@pytest.mark.parametrize(
    ("target", "location"),
    [
        ("//%E2%98%83", "/%E2%98%83"),
        ("//a%20b", "/a%20b"),
        ("//a%252Fb?x=%20y", "/a%252Fb?x=%20y"),
        ("//%0d%0aX-Injected:%20yes", "/%0D%0AX-Injected:%20yes"),
        ("/a/../b", "/b"),
    ],
)
def test_redirects_are_percent_encoded(toxi: Any, target: str, location: str) -> None:
    status, headers = say(toxi.port, f"GET {target}")
    assert status == "HTTP/1.1 301 Moved Permanently"
    assert headers["Location"] == location
    assert "X-Injected" not in headers


@pytest.mark.parametrize(
    ("head", "status"),
    [
        ("GET http://localhost:8474/version", "200 OK"),
        ("GET http://elsewhere", "301 Moved Permanently"),
        ("GET http://elsewhere/nope?x", "404 Not Found"),
        ("get /version", "405 Method Not Allowed"),
        ("Get /metrics", "200 OK"),
        ("OPTIONS *", "200 OK"),
        ("GET /version%zz", BAD),
        ("GET /proxies/%", BAD),
        ("GET /version\nExpect: the-unexpected", "417 Expectation Failed"),
        ("GET /version\nConnection: Upgrade, HTTP2-Settings\nUpgrade: h2c\nHTTP2-Settings: AA", "200 OK"),
        ("GET /version\nConnection: Upgrade\nUpgrade: websocket", "200 OK"),
        ("PATCH /nope", "404 Not Found"),
        ("GET /version\nTransfer-Encoding: gzip", "501 Not Implemented"),
    ],
)  # fmt: skip
def test_a_request_is_answered_whatever_it_looks_like(toxi: Any, head: str, status: str) -> None:
    told, _ = say(toxi.port, head)
    assert told == f"HTTP/1.1 {status}"


def test_what_is_no_http_is_refused_in_text_and_the_server_goes_on(toxi: Any) -> None:
    for wrong in ("\x00\x01", "GET", "GET /version HTTP/one", "GET /version HTTP/1.1 x"):
        with socket.create_connection(("127.0.0.1", toxi.port), timeout=5) as plain:
            plain.sendall(wrong.encode() + b"\r\n\r\n")
            answer = plain.recv(4096).decode()
        assert answer.startswith(f"HTTP/1.1 {BAD}\r\n")
        assert "\r\nContent-Type: text/plain; charset=utf-8\r\n" in answer
        assert BAD in answer.partition("\r\n\r\n")[2]
    assert toxi.get("/proxies") == {}


def test_names_of_headers_are_written_as_the_original_writes_them(toxi: Any) -> None:
    _, headers = say(toxi.port, "GET /proxies")
    assert {"Content-Type", "Content-Length", "Date", "X-Toxiproxy-Request-Id"} <= headers.keys()


@pytest.mark.parametrize(
    ("listen", "bound"),
    [
        ("[::ffff:127.0.0.1]:0", "127.0.0.1"),
        ("[::1%lo]:0", "[::1]"),
        ("[::1]:0", "[::1]"),
        ("127.0.0.1:0", "127.0.0.1"),
    ],
)
def test_an_address_has_one_form(toxi: Any, listen: str, bound: str) -> None:
    made = toxi.do("POST", "/proxies", {"name": "p", "upstream": "u:1", "listen": listen})
    assert made["listen"].rpartition(":")[0] == bound


@pytest.mark.parametrize(
    "host", ["0", "127.1", "0x7f.1", "2130706433", "127.0.0.010", "\uff11\uff12\uff17.0.0.1"]
)
def test_what_only_a_c_library_takes_for_an_address_is_no_host(ours: Any, host: str) -> None:
    # the original asks its name server, which may know it: so only its releases, which have none of C's, say so
    body = {"name": "p", "upstream": "u:1", "listen": f"{host}:0"}
    answer = ours.ask("POST", "/proxies", body)
    assert (answer.status, answer.error) == (500, f"listen tcp: lookup {host}: no such host")


def test_a_port_may_be_a_service_in_capitals(toxi: Any) -> None:
    answer = toxi.ask(
        "POST", "/proxies", {"name": "p", "upstream": "u:1", "listen": "192.0.2.1:HTTP"}
    )
    assert answer.error == "listen tcp 192.0.2.1:80: bind: cannot assign requested address"


def test_the_first_mistake_of_a_body_is_told(toxi: Any) -> None:
    toxi.create()
    for text, field in (
        ('{"attributes": 1, "toxicity": true}', "attributes"),
        ('{"toxicity": true, "attributes": 1}', "toxicity"),
    ):
        assert f"ToxicWrapper.{field} " in toxi.ask("POST", "/proxies/p/toxics", text).error
    text = '[{"name": "a", "upstream": "x:1", "enabled": 0, "Logger": "x"}]'
    assert ".enabled " in toxi.ask("POST", "/populate", text).error


def test_a_null_clears_what_was_there(toxi: Any) -> None:
    toxi.create()
    body = '{"type": "timeout", "name": "t", "attributes": null, "attributes": {}}'
    refused = toxi.ask("POST", "/proxies/p/toxics", body)
    assert (refused.status, "of type toxics.Toxic" in refused.error) == (400, True)
    toxi.toxic("timeout", name="t", timeout=7)
    for more in ('{"timeout": 9}', "5"):
        body = f'{{"attributes": {{"timeout": 8}}, "attributes": null, "attributes": {more}}}'
        assert toxi.do("POST", "/proxies/p/toxics/t", body)["attributes"] == {"timeout": 8}
    row = '"name": "q", "listen": "127.0.0.1:0", "upstream": "x:1"'
    done = toxi.do("POST", "/populate", f'[{{{row}, "enabled": false, "enabled": null}}]')
    assert done["proxies"][0]["enabled"] is True


@pytest.mark.parametrize("host", ["\0", "a\0b"])
def test_a_nul_in_a_host_is_no_host(toxi: Any, host: str) -> None:
    body = {"name": "p", "upstream": "x:1", "listen": f"{host}:0"}
    answer = toxi.ask("POST", "/proxies", body)
    assert (answer.status, answer.error) == (500, f"listen tcp: lookup {host}: no such host")
    assert toxi.ask("POST", "/populate", [body]).json["proxies"] is None


def test_each_byte_that_is_no_utf_8_is_replaced(toxi: Any) -> None:
    body = b'{"name": "\xe2\xa8|\xff", "upstream": "x:1", "enabled": false}'
    assert toxi.ask("POST", "/proxies", body).json["name"] == "\ufffd\ufffd|\ufffd"
    toxi.do("DELETE", "/proxies/%EF%BF%BD%EF%BF%BD%7C%EF%BF%BD")


def test_the_metrics_of_the_process_have_the_originals_names(run_server: Any) -> None:
    for ours in (True, False):
        with run_server(ours, "-runtime-metrics") as toxi:
            text = toxi.ask("GET", "/metrics").body.decode()
        for name in ("go_info", "go_goroutines", "go_threads", "process_open_fds",
                     "process_resident_memory_bytes", "process_virtual_memory_bytes"):  # fmt: skip
            assert f"\n{name}" in "\n" + text, (ours, name)
