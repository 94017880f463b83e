"""A 101 either answers its request by the rules, or says which of them it breaks."""

from __future__ import annotations

from typing import Any

import pytest
from wsproto.utilities import generate_accept_token

from chaos.wire.handshake import Extension, parse_extensions, read_answer, read_request
from chaos.wire.observer import Observer

KEY = b"dGhlIHNhbXBsZSBub25jZQ=="
ACCEPT = generate_accept_token(KEY).decode()
FIELDS = {"Upgrade": "websocket", "Connection": "Upgrade", "Sec-WebSocket-Accept": ACCEPT}
DEFLATE = "permessage-deflate"


def request(**fields: str) -> bytes:
    lines = [f"{name.replace('_', '-')}: {value}\r\n".encode() for name, value in fields.items()]
    head = b"GET / HTTP/1.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Key: "
    return head + KEY + b"\r\n" + b"".join(lines)


def answer(changes: dict[str, str | None] | None = None) -> bytes:
    fields = {**FIELDS, **(changes or {})}
    lines = [f"{name}: {value}" for name, value in fields.items() if value is not None]
    return "\r\n".join(["HTTP/1.1 101 Switching Protocols", *lines]).encode()


def wrong(asked: dict[str, str], changes: dict[str, str | None]) -> str | None:
    return read_answer(answer(changes), read_request(request(**asked))).wrong


OFFER = {"Sec_WebSocket_Extensions": f"{DEFLATE}; client_max_window_bits"}
PROTOCOLS = {"Sec_WebSocket_Protocol": "v1, v2"}


@pytest.mark.parametrize(
    ("asked", "changes"),
    [
        ({}, {}),
        ({}, {"Upgrade": "WebSocket"}),
        ({}, {"Connection": "keep-alive, UPGRADE"}),
        ({}, {"Sec-WebSocket-Accept": f" \t{ACCEPT}\t "}),
        (PROTOCOLS, {"Sec-WebSocket-Protocol": "v2"}),
        (PROTOCOLS, {}),
        (OFFER, {}),
        *(
            (OFFER, {"Sec-WebSocket-Extensions": value})
            for value in (
                DEFLATE,
                DEFLATE.upper(),
                f"{DEFLATE}; client_max_window_bits=8",
                f'{DEFLATE}; server_max_window_bits="12"',
                f"{DEFLATE};server_max_window_bits = 12 ;\tclient_no_context_takeover",
                f"{DEFLATE}; SERVER_NO_CONTEXT_TAKEOVER; Client_Max_Window_Bits=15",
                f"{DEFLATE}; client_no_context_takeover; server_no_context_takeover",
            )
        ),
        (
            {"Sec_WebSocket_Extensions": f"x-other; a=b, {DEFLATE}; server_max_window_bits=10"},
            {"Sec-WebSocket-Extensions": f"{DEFLATE}; server_max_window_bits=9"},
        ),
        (
            {"Sec_WebSocket_Extensions": f"{DEFLATE}; server_no_context_takeover, {DEFLATE}"},
            {"Sec-WebSocket-Extensions": DEFLATE},
        ),
        ({"Sec_WebSocket_Extensions": "x-other"}, {"Sec-WebSocket-Extensions": "x-other"}),
    ],
)
def test_what_answers_its_request_rightly(
    asked: dict[str, str], changes: dict[str, str | None]
) -> None:
    assert wrong(asked, changes) is None


@pytest.mark.parametrize(
    ("asked", "changes", "what", "rule"),
    [
        ({}, {"Upgrade": None}, "Upgrade", "RFC 6455 §4.1"),
        ({}, {"Upgrade": "h2c"}, "Upgrade", "RFC 6455 §4.1"),
        ({}, {"Connection": None}, "Connection", "RFC 6455 §4.1"),
        ({}, {"Connection": "close"}, "Connection", "RFC 6455 §4.1"),
        ({}, {"Sec-WebSocket-Accept": None}, "Accept", "RFC 6455 §4.1"),
        ({}, {"Sec-WebSocket-Accept": "A" * 27 + "="}, "Accept", "RFC 6455 §4.1"),
        ({}, {"Sec-WebSocket-Accept": ACCEPT.lower()}, "Accept", "RFC 6455 §4.1"),
        ({}, {"Sec-WebSocket-Protocol": "v1"}, "v1", "RFC 6455 §4.1"),
        (PROTOCOLS, {"Sec-WebSocket-Protocol": "v3"}, "v3", "RFC 6455 §4.1"),
        (PROTOCOLS, {"Sec-WebSocket-Protocol": "V1"}, "V1", "RFC 6455 §4.1"),
        (PROTOCOLS, {"Sec-WebSocket-Protocol": "v1, v2"}, "more than one", "RFC 6455 §4.1"),
        ({}, {"Sec-WebSocket-Extensions": DEFLATE}, DEFLATE, "RFC 6455 §4.1"),
        (OFFER, {"Sec-WebSocket-Extensions": "x-other"}, "x-other", "RFC 6455 §4.1"),
        *(
            (OFFER, {"Sec-WebSocket-Extensions": f"{DEFLATE}; {value}"}, DEFLATE, "RFC 7692 §7.1")
            for value in (
                "client_max_window_bits",
                "client_max_window_bits=7",
                "server_max_window_bits=16",
                "server_max_window_bits=012",
                "server_no_context_takeover=1",
                "unknown",
                "server_max_window_bits=9; server_max_window_bits=9",
            )
        ),
        (
            {"Sec_WebSocket_Extensions": DEFLATE},
            {"Sec-WebSocket-Extensions": f"{DEFLATE}; client_max_window_bits=10"},
            DEFLATE,
            "RFC 7692 §7.1",
        ),
        (
            {"Sec_WebSocket_Extensions": f"{DEFLATE}; server_max_window_bits=10"},
            {"Sec-WebSocket-Extensions": DEFLATE},
            DEFLATE,
            "RFC 7692 §7.1",
        ),
        (OFFER, {"Sec-WebSocket-Extensions": f"{DEFLATE}, {DEFLATE}"}, DEFLATE, "RFC 7692 §7.1"),
    ],
)
def test_what_a_client_must_refuse(
    asked: dict[str, str], changes: dict[str, str | None], what: str, rule: str
) -> None:
    found = wrong(asked, changes)
    assert found is not None
    assert what in found
    assert found.endswith(f"({rule})")


def test_several_headers_are_one_list_and_folded_lines_are_one() -> None:
    head = answer() + (
        b"\r\nSec-WebSocket-Extensions: permessage-deflate;\r\n  client_no_context_takeover"
        b"\r\nX: 1\r\nsec-websocket-extensions: x-other"
    )
    offered = f"x-other, {DEFLATE}"
    said = read_answer(head, read_request(request(Sec_WebSocket_Extensions=offered)))
    assert said.wrong is None
    assert said.agreed == Extension(DEFLATE, (("client_no_context_takeover", None),))
    assert not said.agreed.keeps_context("upstream")
    assert said.agreed.keeps_context("downstream")


@pytest.mark.parametrize(
    ("value", "found"),
    [
        ("", ()),
        (",;, ;", ()),
        ("a;b", (Extension("a", (("b", None),)),)),
        ('a;b="c,d;e"', (Extension("a", (("b", "c,d;e"),)),)),
        ('a;b="1\\"2"', (Extension("a", (("b", '1"2'),)),)),
        ("a;b=", (Extension("a", (("b", ""),)),)),
        ("A ; B = 1 , c", (Extension("a", (("b", "1"),)), Extension("c"))),
    ],
)
def test_extensions_are_read_as_rfc_6455_writes_them(
    value: str, found: tuple[Extension, ...]
) -> None:
    assert parse_extensions([value]) == found


@pytest.mark.parametrize("value", ['a;b="', '"', '"' * 50, "=" * 9, "a;" * 9, "\\" * 9, "²;³=¹"])
def test_any_extensions_can_be_read(value: str) -> None:
    parse_extensions([value])


def observed(up: bytes, down: bytes) -> tuple[list[dict[str, Any]], Observer]:
    requests = Observer("upstream")
    responses = Observer("downstream", requests=requests)
    list(requests.feed(up))
    return [fields for kind, fields, _ in responses.feed(down) if kind == "response"], responses


def test_a_line_may_end_with_lf_alone() -> None:
    down = (answer() + b"\r\n\r\n\x89\x00").replace(b"\r\n", b"\n")
    said, responses = observed(request() + b"\r\n", down)
    assert said == [{"status": 101}]
    assert not responses.is_over


def test_of_a_request_that_is_not_known_only_the_answer_itself_is_looked_at() -> None:
    assert read_answer(answer({"Sec-WebSocket-Protocol": "v1"}), None).wrong is None
    assert read_answer(answer({"Upgrade": None}), None).wrong is not None


def test_frames_behind_a_wrong_answer_are_decoded() -> None:
    down = answer({"Sec-WebSocket-Accept": "x"}) + b"\r\n\r\n\x81\x08" + b'{"id":3}'
    requests = Observer("upstream")
    list(requests.feed(request() + b"\r\n"))
    seen = list(Observer("downstream", requests=requests).feed(down))
    assert [kind for kind, _, _ in seen] == ["response", "frame"]
    assert seen[1][1]["id"] == 3
