"""Connecting to upstreams: addresses the short way, names the long way."""

from __future__ import annotations

import errno
import socket

import pytest
import trio

from chaos.toxiproxy_server.address import dial

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("host", ["127.0.0.1", "::1", "localhost"])
async def test_an_upstream_is_connected_to_by_address_and_by_name(host: str) -> None:
    listener = socket.create_server(
        (host, 0), family=socket.AF_INET6 if ":" in host else socket.AF_INET
    )
    with listener:
        port = listener.getsockname()[1]
        with await dial(f"[{host}]:{port}" if ":" in host else f"{host}:{port}") as connected:
            accepted, _ = listener.accept()
            with accepted:
                connected.sendall(b"x")
                assert accepted.recv(1) == b"x"
                with pytest.raises(BlockingIOError):
                    connected.recv(1)
            assert connected.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1
            assert connected.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) == 1


@pytest.mark.parametrize("host", ["127.0.0.1", "[::1]"])
async def test_a_port_that_nobody_has_is_refused(host: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    with pytest.raises(OSError, match=r".") as caught:
        await dial(f"{host}:{port}")
    assert caught.value.errno == errno.ECONNREFUSED


async def test_a_dial_that_nobody_answers_can_be_cancelled() -> None:
    with socket.create_server(("127.0.0.1", 0), backlog=0) as listener:
        waiting = []
        for _ in range(4):
            client = socket.socket()
            client.setblocking(False)
            client.connect_ex(listener.getsockname())
            waiting.append(client)
        with trio.move_on_after(0.2) as scope:
            await dial(f"127.0.0.1:{listener.getsockname()[1]}")
        for client in waiting:
            client.close()
    assert scope.cancelled_caught
