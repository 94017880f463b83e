"""The observer sees what a peer would see, compression included, and keeps no payload."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from wsproto import ConnectionType, WSConnection
from wsproto.events import (
    AcceptConnection,
    BytesMessage,
    CloseConnection,
    Event,
    Ping,
    Pong,
    Request,
    TextMessage,
)
from wsproto.extensions import PerMessageDeflate

from chaos.wire.decoder import Observation, read_plain
from chaos.wire.handshake import Extension
from chaos.wire.observer import Observer


def conversation(*, deflate: bool, client: list[Event], server: list[Event]) -> tuple[bytes, bytes]:
    """Return the bytes of a whole conversation, upstream and downstream, made by a real implementation."""
    ours, theirs = WSConnection(ConnectionType.CLIENT), WSConnection(ConnectionType.SERVER)
    offered = [PerMessageDeflate()] if deflate else []
    up = ours.send(Request(host="h", target="/?client=1", extensions=offered))
    theirs.receive_data(up)
    list(theirs.events())
    accepted = [PerMessageDeflate()] if deflate else []
    down = theirs.send(AcceptConnection(extensions=accepted))
    ours.receive_data(down)
    list(ours.events())
    up += b"".join(ours.send(event) for event in client)
    down += b"".join(theirs.send(event) for event in server)
    return up, down


def watch(up: bytes, down: bytes, *, step: int = 1 << 20) -> list[tuple[str, dict[str, Any]]]:
    """Return what the two observers of one side say, the response first, as on the wire."""
    requests = Observer("upstream")
    responses = Observer("downstream", requests=requests)
    head = up.index(b"\r\n\r\n") + 4
    seen = list(feed(requests, up[:head], step))
    for kind, fields in feed(responses, down, step):
        seen.append((kind, fields))
        if kind == "response" and fields["status"] == 101:
            seen += plain(requests.upgrade(responses.agreed))
    seen += feed(requests, up[head:], step)
    assert not requests.is_over
    return seen


def plain(seen: Iterable[Observation]) -> list[tuple[str, dict[str, Any]]]:
    return [(kind, fields) for kind, fields, _ in seen]


def feed(observer: Observer, payload: bytes, step: int) -> Any:
    for start in range(0, len(payload), step):
        yield from plain(observer.feed(payload[start : start + step]))


def frames(seen: list[tuple[str, dict[str, Any]]]) -> list[dict[str, Any]]:
    return [fields for kind, fields in seen if kind == "frame"]


MESSAGE = json.dumps({"id": 17, "sender": "client-1", "sent_at_s": 0.5, "pad": "x" * 500})


def test_a_chunk_that_looks_like_a_frame_but_lies_in_one_is_no_frame() -> None:
    _, down = conversation(deflate=False, client=[], server=[BytesMessage(b"ab\x89\x00")])
    observer = Observer("downstream")
    seen = plain([*observer.feed(down[:-2]), *observer.feed(down[-2:])])
    assert [(row["opcode"], row["bytes"]) for row in frames(seen)] == [("binary", 4)]


@pytest.mark.parametrize("deflate", [False, True])
@pytest.mark.parametrize("step", [1, 7, 1 << 20])
def test_it_sees_heads_messages_pings_pongs_and_close_codes(deflate: bool, step: int) -> None:
    up, down = conversation(
        deflate=deflate,
        client=[
            TextMessage(MESSAGE),
            Ping(b"p"),
            BytesMessage(MESSAGE.encode()),
            CloseConnection(4000),
        ],
        server=[Pong(b"p"), TextMessage("hello"), CloseConnection(1001, "away")],
    )
    seen = watch(up, down, step=step)
    assert seen[0] == ("request", {"path": "/?client=1", "upgrade": True})
    assert seen[1] == ("response", {"status": 101})
    size = len(MESSAGE)
    assert frames(seen) == [
        {"opcode": "pong", "bytes": 1},
        {"opcode": "text", "bytes": 5},
        {"opcode": "close", "bytes": 6, "code": 1001},
        {"opcode": "text", "bytes": size, "id": 17, "sender": "client-1"},
        {"opcode": "ping", "bytes": 1},
        {"opcode": "binary", "bytes": size, "id": 17, "sender": "client-1"},
        {"opcode": "close", "bytes": 2, "code": 4000},
    ]


def test_a_close_without_a_code_is_1005() -> None:
    up, down = conversation(deflate=False, client=[], server=[])
    assert frames(watch(up, down + b"\x88\x00"))[-1]["code"] == 1005


@pytest.mark.parametrize("size", [5_000, 200_000])
def test_the_number_of_a_large_message_is_found_without_keeping_it(size: int) -> None:
    text = json.dumps({"id": 9, "sender": "server", "pad": "x" * size})
    up, down = conversation(deflate=False, client=[], server=[TextMessage(text)])
    assert frames(watch(up, down, step=4096)) == [
        {"opcode": "text", "bytes": len(text), "id": 9, "sender": "server"}
    ]


@pytest.mark.parametrize("text", ["{}", '{"id": "x"}', "[1]", '{"id": 1', "{" * 5000, "not json"])
def test_other_messages_have_no_number(text: str) -> None:
    up, down = conversation(deflate=False, client=[TextMessage(text)], server=[])
    assert set(frames(watch(up, down))[0]) == {"opcode", "bytes"}


def test_what_comes_before_the_101_waits_and_is_counted() -> None:
    up, down = conversation(deflate=False, client=[Ping(b"early")], server=[])
    requests = Observer("upstream")
    assert [kind for kind, _ in plain(requests.feed(up))] == ["request"]
    assert requests.waiting == len(up) - up.index(b"\r\n\r\n") - 4
    assert [fields["opcode"] for _, fields in plain(requests.upgrade(None))] == ["ping"]
    assert requests.waiting == 0
    assert down.startswith(b"HTTP/1.1 101")


def test_a_refusal_has_a_status_and_retry_after_and_no_frames() -> None:
    responses = Observer("downstream")
    answer = (
        b"HTTP/1.1 429 Too Many Requests\r\nRetry-After: 7\r\nContent-Length: 2\r\n\r\n\x81\x00"
    )
    assert plain(responses.feed(answer)) == [("response", {"status": 429, "retry_after_s": 7})]
    assert list(responses.feed(b"\x81\x00")) == []


def test_an_interim_response_is_followed_by_the_real_one() -> None:
    responses = Observer("downstream")
    answer = b"HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 101 Switching Protocols\r\n\r\n\x89\x00"
    assert [(kind, f.get("status")) for kind, f in plain(responses.feed(answer))] == [
        ("response", 103),
        ("response", 101),
        ("frame", None),
    ]


def test_secrets_in_the_path_are_redacted() -> None:
    requests = Observer("upstream")
    head = b"GET /ws?client=2&access_token=abc&x=1&api_key=def HTTP/1.1\r\n\r\n"
    ((_, fields),) = plain(requests.feed(head))
    assert fields["path"] == "/ws?client=2&access_token=REDACTED&x=1&api_key=REDACTED"


@given(st.binary(max_size=400), st.integers(1, 50))
def test_junk_never_raises(junk: bytes, step: int) -> None:
    for head in (b"", b"HTTP/1.1 101 x\r\n\r\n"):
        observer = Observer("downstream")
        for _ in feed(observer, head + junk, step):
            pass
    observer = Observer("upstream")
    list(feed(observer, b"GET / HTTP/1.1\r\n\r\n" + junk, step))
    list(observer.upgrade(Extension("permessage-deflate")))


@st.composite
def wire_frames(draw: st.DrawFn) -> bytes:
    """Return a frame, often a plain one, sometimes one that nobody may send."""
    first = draw(
        st.sampled_from([0x81, 0x82, 0x88, 0x89, 0x8A, 0x01, 0x80, 0x00, 0xC1, 0x83, 0x09])
    )
    payload = draw(
        st.one_of(
            st.binary(max_size=8),
            st.sampled_from(
                [b'{"id": 5, "sender": "client-1"}', b"{", b"x" * 126, b"{" + b"x" * 5000]
            ),
            st.integers(1, 9).map(lambda n: b'{"id": %d, "pad": "%s"}' % (n, b"y" * 1000 * n)),
        )
    )
    masked = draw(st.sampled_from([True, True, True, False]))
    form = draw(st.sampled_from(["least", "least", "least", "two", "eight"]))
    size = len(payload)
    if form == "eight" or size > 65535:
        length = bytes([127]) + size.to_bytes(8, "big")
    elif form == "two" or size > 125:
        length = bytes([126]) + size.to_bytes(2, "big")
    else:
        length = bytes([size])
    key = draw(st.binary(min_size=4, max_size=4)) if masked else b""
    body = bytes(byte ^ key[i % 4] for i, byte in enumerate(payload)) if masked else payload
    return bytes([first, length[0] | 0x80 * masked]) + length[1:] + key + body


@given(st.lists(wire_frames(), max_size=5))
@example([b"\x81\x80abcd", b"\x88\x82\x00\x00\x00\x00\x0f\xa0"])
def test_whole_frames_read_at_once_say_what_the_decoder_says(frames: list[bytes]) -> None:
    def watched(chunks: list[bytes]) -> list[Any]:
        observer = Observer("upstream")
        seen = [*observer.feed(b"GET / HTTP/1.1\r\n\r\n"), *observer.upgrade(None)]
        for chunk in chunks:
            seen += observer.feed(chunk)
        return seen

    joined = b"".join(frames)
    in_bytes = watched([joined[i : i + 1] for i in range(len(joined))])
    assert watched([joined]) == in_bytes
    assert watched(frames) == in_bytes
    assert watched([joined[:7], joined[7:]]) == in_bytes


def test_most_frames_are_read_without_the_decoder() -> None:
    seen = read_plain(b"\x89\x80abcd", 0, (), masked=True)
    assert seen == (6, ("frame", {"opcode": "ping", "bytes": 0}, b""))
    assert read_plain(b"\x89\x80abcd", 0, (), masked=False) is None


@pytest.mark.parametrize(("opening", "named"), [(b'{"id": 5, "a": ', {"id": 5}), (b'{"a": ', {})])
def test_a_message_nested_deeper_than_python_reads_is_no_harm(
    opening: bytes, named: dict[str, Any]
) -> None:
    payload = opening + b"[" * 2000 + b"]" * 2000 + b"}"
    assert len(payload) < 4096
    seen = read_plain(b"\x81\x7e" + len(payload).to_bytes(2, "big") + payload, 0, (), masked=False)
    assert seen is not None
    assert seen[1] == ("frame", {"opcode": "text", "bytes": len(payload), **named}, None)
