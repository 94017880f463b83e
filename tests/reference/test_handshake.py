"""Opening a connection: every way in which a server can fail to answer, and every way a client can fail to ask."""

from __future__ import annotations

import ssl
from collections.abc import Callable
from typing import Any

import pytest
import trio
import trio.testing
import trustme
from wsproto import ConnectionType
from wsproto.events import AcceptConnection, RejectConnection, RejectData, Request, TextMessage

from chaos.reference.connection import Connection
from chaos.reference.handshake import (
    HandshakeRefused,
    Target,
    accept,
    connect,
    open_tcp,
    parse_url,
)
from chaos.reference.outcome import Refused

TARGET = parse_url("ws://test/")


async def refusal(open_stream: Any, connect_timeout_s: float = 3.0) -> Refused:
    with pytest.raises(HandshakeRefused) as caught, trio.fail_after(60):
        async with connect(open_stream, TARGET, headers={}, connect_timeout_s=connect_timeout_s):
            pytest.fail("the handshake should have been refused")
    return caught.value.refused


def answering(answer: bytes, *, then: str = "hold") -> Callable[[Any], Any]:
    async def handler(stream: Any) -> None:
        await stream.receive_some()
        await stream.send_all(answer)
        if then == "close":
            await stream.aclose()
        else:
            await trio.sleep_forever()

    return handler


async def test_a_url_is_taken_apart() -> None:
    assert parse_url("ws://127.0.0.1:8080/a/b?client=3") == Target(
        host="127.0.0.1", port=8080, tls=False, authority="127.0.0.1:8080", resource="/a/b?client=3"
    )
    assert parse_url("wss://user:pw@[::1]") == Target(
        host="::1", port=443, tls=True, authority="[::1]", resource="/"
    )
    for wrong in ("http://x/", "ws://", "x"):
        with pytest.raises(ValueError, match="ws://"):
            parse_url(wrong)


async def test_a_server_that_never_answers_costs_the_connect_timeout(
    autojump_clock: Any, wire: Any
) -> None:
    open_stream = wire(answering(b""))
    refused = await refusal(open_stream, connect_timeout_s=3.0)
    assert (refused.kind, trio.current_time()) == ("timeout", 3.0)
    await assert_closed(open_stream.streams[0])


async def test_a_stream_that_never_opens_costs_the_connect_timeout(autojump_clock: Any) -> None:
    assert (await refusal(trio.sleep_forever)).kind == "timeout"
    assert trio.current_time() == 3.0


@pytest.mark.parametrize("answer", [b"", b"HTTP/1.1 10", b"HTTP/1.1 101 x\r\nUpgrade: webs"])
async def test_a_server_that_hangs_up_before_its_answer_is_noticed_at_once(
    autojump_clock: Any, wire: Any, answer: bytes
) -> None:
    assert (await refusal(wire(answering(answer, then="close")))).kind == "closed"
    assert trio.current_time() == 0


@pytest.mark.parametrize("then", ["hold", "close"])
@pytest.mark.parametrize(
    "head",
    [
        b"HTTP/1.1 403 Forbidden\r\n\r\n",
        b"HTTP/1.1 403 Forbidden\r\nContent-Length: 1000\r\n\r\nonly the beg",
        b"HTTP/1.1 403 Forbidden\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"HTTP/1.0 403 Forbidden\r\n\r\n<html>",
    ],
)
async def test_a_refusal_keeps_its_status_whatever_becomes_of_its_body(
    autojump_clock: Any, wire: Any, head: bytes, then: str
) -> None:
    refused = await refusal(wire(answering(head, then=then)))
    assert (refused.kind, refused.status) == ("http", 403)
    assert trio.current_time() == 0


async def test_retry_after_of_a_refusal_is_known(autojump_clock: Any, wire: Any) -> None:
    answer = b"HTTP/1.1 503 Busy\r\nRetry-After: 7\r\nContent-Length: 0\r\n\r\n"
    refused = await refusal(wire(answering(answer)))
    assert refused == Refused(
        kind="http",
        status=503,
        headers={"retry-after": "7", "content-length": "0"},
        retry_after_s=7.0,
    )


@pytest.mark.parametrize(
    "answer",
    [
        b"SSH-2.0-OpenSSH_9.2p1\r\n",
        b"\x15\x03\x01\x00\x02\x02\x46",
        b"HTTP/1.1 101 Switching Protocols\r\n\r\n",
        b"HTTP/1.1 101 S\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: d3==\r\n\r\n",
        b"HTTP/1.1 101 X\r\nbad header line\r\n\r\n",
    ],
)
async def test_an_answer_that_is_no_websocket_handshake_is_a_protocol_refusal(
    autojump_clock: Any, wire: Any, answer: bytes
) -> None:
    assert (await refusal(wire(answering(answer)))).kind == "protocol"
    assert trio.current_time() == 0


async def test_hints_before_the_101_are_skipped(
    autojump_clock: Any, wire: Any, script: Any
) -> None:
    async def handler(stream: Any) -> None:
        peer = script(stream)
        assert isinstance(await peer.next(), Request)
        await stream.send_all(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Hints\r\nLink: a\r\n\r\n")
        await peer.send(AcceptConnection())
        await peer.send(TextMessage("hello"))
        await trio.sleep_forever()

    async with connect(wire(handler), TARGET, headers={}) as connection:
        received: list[str | bytes] = []
        with trio.move_on_after(1) as scope:
            await connection.receive_each(received.append, scope)
        assert received == ["hello"]


async def test_a_101_that_is_followed_by_the_end_is_an_open_connection_that_ended(
    autojump_clock: Any, wire: Any, script: Any
) -> None:
    async def handler(stream: Any) -> None:
        await script(stream).accept()
        await stream.aclose()

    async with connect(wire(handler), TARGET, headers={}) as connection:
        await connection.tap.dead.wait()
    assert connection.ended.code == 1006


async def test_headers_and_subprotocols_are_sent(
    autojump_clock: Any, wire: Any, script: Any
) -> None:
    seen: list[Request] = []

    async def handler(stream: Any) -> None:
        peer = script(stream)
        event = await peer.next()
        seen.append(event)
        await peer.send(AcceptConnection(subprotocol="b"))
        await trio.sleep_forever()

    async with connect(
        wire(handler), TARGET, headers={"Authorization": "x"}, subprotocols=("a", "b")
    ) as connection:
        assert connection.websocket.subprotocol == "b"
    assert seen[0].subprotocols == ["a", "b"]
    assert (b"authorization", b"x") in [(k.lower(), v) for k, v in seen[0].extra_headers]


async def test_what_the_block_raises_comes_out_as_it_is(
    autojump_clock: Any, wire: Any, script: Any
) -> None:
    async def handler(stream: Any) -> None:
        await (await script(stream).accept()).drain()

    open_stream = wire(handler)
    with pytest.raises(KeyError, match="mine"):
        async with connect(open_stream, TARGET, headers={}):
            raise KeyError("mine")
    await assert_closed(open_stream.streams[0])


async def test_an_error_of_the_system_is_a_network_refusal(autojump_clock: Any) -> None:
    async def open_stream() -> Any:
        raise ConnectionRefusedError(111, "refused")

    assert (await refusal(open_stream)).kind == "network"


async def assert_closed(stream: Any) -> None:
    with pytest.raises(trio.ClosedResourceError):
        await stream.send_all(b"x")


# --- TLS, made by us before the WebSocket handshake ---


def contexts() -> tuple[ssl.SSLContext, ssl.SSLContext]:
    authority = trustme.CA()
    server = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("127.0.0.1").configure_cert(server)
    client = ssl.create_default_context()
    authority.configure_trust(client)
    return server, client


async def listen(nursery: trio.Nursery, handler: Any) -> Target:
    listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
    nursery.start_soon(trio.serve_listeners, handler, listeners)
    return parse_url(f"wss://127.0.0.1:{listeners[0].socket.getsockname()[1]}/")


async def tls_refusal(target: Target, context: ssl.SSLContext | None = None) -> Refused:
    return await refusal(lambda: open_tcp(target, context), connect_timeout_s=2.0)


@pytest.mark.slow
async def test_an_untrusted_certificate_is_told_from_silence(nursery: trio.Nursery) -> None:
    server, _ = contexts()

    async def handler(stream: Any) -> None:
        secure = trio.SSLStream(stream, server, server_side=True)
        with pytest.raises(trio.BrokenResourceError):
            await secure.do_handshake()
        await trio.aclose_forcefully(secure)

    refused = await tls_refusal(await listen(nursery, handler))
    assert refused.kind == "tls"
    assert "certificate" in refused.detail


@pytest.mark.slow
async def test_a_plain_server_on_a_tls_port_is_a_tls_refusal(nursery: trio.Nursery) -> None:
    async def handler(stream: Any) -> None:
        await stream.receive_some()
        await stream.send_all(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        await stream.aclose()

    assert (await tls_refusal(await listen(nursery, handler))).kind == "tls"


@pytest.mark.slow
async def test_a_hang_up_in_the_tls_handshake_is_not_the_certificates_fault(
    nursery: trio.Nursery,
) -> None:
    async def handler(stream: Any) -> None:
        await stream.receive_some()
        await stream.aclose()

    assert (await tls_refusal(await listen(nursery, handler))).kind == "closed"


@pytest.mark.slow
async def test_nobody_listens() -> None:
    listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
    target = parse_url(f"ws://127.0.0.1:{listeners[0].socket.getsockname()[1]}/")
    await listeners[0].aclose()
    assert (await tls_refusal(target)).kind == "network"


# --- the server's side ---


async def answer_yes(request: Any) -> Any:
    return await request.accept()


async def served(stream: Any) -> Connection | None:
    async with accept(stream, answer_yes, close_timeout_s=1.0) as connection:
        return connection


@pytest.mark.parametrize(
    "request_bytes",
    [
        b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"\x00" * 100,
        b"GET / HTTP/1.1\r\nHost: x\r\nA: " + b"x" * 100_000 + b"\r\n\r\n",
        b"",
        b"GET / HT",
    ],
)
async def test_a_request_that_is_no_handshake_gives_no_connection_and_no_error(
    autojump_clock: Any, request_bytes: bytes
) -> None:
    ours, theirs = trio.testing.memory_stream_pair()
    if request_bytes:
        await ours.send_all(request_bytes)
    await ours.send_eof()
    with trio.fail_after(5):
        assert await served(theirs) is None
    await assert_closed(theirs)


async def test_a_client_that_is_gone_before_the_101_gives_no_connection(
    autojump_clock: Any, script: Any
) -> None:
    ours, theirs = trio.testing.memory_stream_pair()
    await script(ours, ConnectionType.CLIENT).send(Request(host="x", target="/"))

    async def broken() -> None:
        raise trio.BrokenResourceError

    theirs.send_stream.send_all_hook = broken
    assert await served(theirs) is None


async def test_a_rejection_reaches_the_client(autojump_clock: Any, script: Any) -> None:
    ours, theirs = trio.testing.memory_stream_pair()
    peer = script(ours, ConnectionType.CLIENT)
    await peer.send(Request(host="x", target="/"))

    async def no(request: Any) -> None:
        await request.reject(429, body=b"no")

    async with accept(theirs, no, close_timeout_s=1.0) as connection:
        assert connection is None
    event = await peer.next()
    assert isinstance(event, RejectConnection)
    assert event.status_code == 429
    assert isinstance(await peer.next(), RejectData)
