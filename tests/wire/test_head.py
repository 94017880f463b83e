"""The head of the handshake's answer, however its bytes are cut."""

from __future__ import annotations

import pytest

from chaos.wire.head import HEAD_BYTES_MAX, ResponseHead

SWITCH = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\r\n"


def feed_all(data: bytes, step: int) -> tuple[ResponseHead, bytes]:
    head, passed = ResponseHead(), b""
    for start in range(0, len(data), step):
        if head.done:
            passed += data[start : start + step]
        else:
            passed += head.feed(data[start : start + step])
    return head, passed


@pytest.mark.parametrize("step", [1, 3, 1000])
def test_a_101_is_passed_on_with_the_frames_behind_it(step: int) -> None:
    head, passed = feed_all(SWITCH + b"\x81\x01x", step)
    assert (head.status, passed) == (101, SWITCH + b"\x81\x01x")


@pytest.mark.parametrize("step", [1, 7, 1000])
def test_interim_answers_before_the_101_are_skipped(step: int) -> None:
    interim = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n"
    head, passed = feed_all(interim + SWITCH, step)
    assert (head.status, passed) == (101, SWITCH)


@pytest.mark.parametrize("step", [1, 1000])
def test_a_refusal_gives_its_status_and_headers_without_its_body(step: int) -> None:
    head, _ = feed_all(b"HTTP/1.1 429 Slow\r\nRetry-After:  7\r\nServer: x\r\n\r\n", step)
    assert (head.status, head.headers) == (429, {"retry-after": "7", "server": "x"})


def test_nothing_of_a_refusal_is_passed_on() -> None:
    head = ResponseHead()
    assert head.feed(b"HTTP/1.0 403 \r\n\r\nbody") == b""
    assert head.status == 403


@pytest.mark.parametrize(
    "data",
    [b"S", b"SSH-2.0-OpenSSH_9.2\r\n", b"\x15\x03\x01\x00\x02", b"HTTP/1.1 abc\r\n\r\n", b"HTTP/2"],
)
def test_what_is_not_http_is_known_at_once(data: bytes) -> None:
    head = ResponseHead()
    head.feed(data)
    assert head.malformed


def test_a_head_without_end_is_not_collected_for_ever() -> None:
    head = ResponseHead()
    head.feed(b"HTTP/1.1 200 OK\r\n")
    assert not head.done
    head.feed(b"a: " + b"x" * HEAD_BYTES_MAX)
    assert head.malformed


def test_half_a_status_line_decides_nothing() -> None:
    head = ResponseHead()
    head.feed(b"HTTP/1.1 40")
    assert not head.done
