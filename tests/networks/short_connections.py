"""A client of many short connections, 50 a second, each ended in another way: close, FIN, RST, or at once."""

from __future__ import annotations

import struct
from itertools import count
from typing import Any
from urllib.parse import urlsplit

import trio
import trio.socket

REQUEST = (
    b"GET /?client=1 HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
)
# a Close with code 1000; the mask is zero (RFC 6455 §5.2)
CLOSE = b"\x88\x82\x00\x00\x00\x00\x03\xe8"
PAUSE_S = 0.02
CONNECTION_S = 0.1


async def client(url: str, **_: Any) -> None:
    parts = urlsplit(url)
    assert parts.hostname is not None
    assert parts.port is not None
    async with trio.open_nursery() as nursery:
        for number in count():
            nursery.start_soon(connect, parts.hostname, parts.port, number % 4)
            await trio.sleep(PAUSE_S)


async def connect(host: str, port: int, how: int) -> None:
    try:
        with trio.move_on_after(CONNECTION_S):
            stream = await trio.open_tcp_stream(host, port)
            async with stream:
                await live(stream, how)
    except (OSError, trio.BrokenResourceError):
        pass


async def live(stream: trio.SocketStream, how: int) -> None:
    await stream.send_all(REQUEST)
    if how == 3:
        return
    await stream.receive_some(4096)
    if how == 0:
        await stream.send_all(CLOSE)
        while await stream.receive_some(4096):
            pass
    elif how == 1:
        await stream.send_eof()
        await stream.receive_some(4096)
    else:
        linger = struct.pack("ii", 1, 0)
        stream.setsockopt(trio.socket.SOL_SOCKET, trio.socket.SO_LINGER, linger)
