"""WebSocket on a bare trio stream, strict in what it takes and free in what it sends: RFC 6455 by hand.

It shares no code with the package, wsproto or h11, so that a mistake of theirs is not repeated here.
"""

from __future__ import annotations

import base64
import hashlib
import random
import struct
from dataclasses import dataclass

import trio

CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG = 0, 1, 2, 8, 9, 10
GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
PROTOCOL_ERROR, NO_STATUS, BAD_TEXT = 1002, 1005, 1007
ENDS = (trio.BrokenResourceError, trio.ClosedResourceError, OSError)


class Gone(Exception):
    """The TCP connection is over."""


class Breach(Exception):
    """The peer has broken the protocol; `code` is what to close with."""

    def __init__(self, code: int, what: str) -> None:
        super().__init__(what)
        self.code = code


class Refused(Exception):
    """The handshake was answered with another status than 101."""

    def __init__(self, status: int, headers: dict[str, str]) -> None:
        super().__init__(status)
        self.status, self.headers = status, headers


@dataclass(frozen=True)
class Frame:
    """One frame; `rsv` has the three reserved bits as a number from 0 to 7."""

    opcode: int
    payload: bytes = b""
    fin: bool = True
    rsv: int = 0


def masked(payload: bytes, key: bytes) -> bytes:
    """Return a payload with its mask put on or taken off (RFC 6455 section 5.3)."""
    return bytes(byte ^ key[index % 4] for index, byte in enumerate(payload))


def pack(frame: Frame, key: bytes | None) -> bytes:
    """Return the bytes of a frame; a client's has a mask key."""
    first = frame.opcode | frame.rsv << 4 | (0x80 if frame.fin else 0)
    size, mask = len(frame.payload), 0x80 if key is not None else 0
    if size < 126:
        head = struct.pack("!BB", first, mask | size)
    elif size < 65536:
        head = struct.pack("!BBH", first, mask | 126, size)
    else:
        head = struct.pack("!BBQ", first, mask | 127, size)
    return head + (frame.payload if key is None else key + masked(frame.payload, key))


def accept_key(key: str) -> str:
    """Return the Sec-WebSocket-Accept of a Sec-WebSocket-Key."""
    digest = hashlib.sha1(key.encode() + GUID).digest()
    return base64.b64encode(digest).decode()


def parse_head(head: bytes) -> tuple[str, dict[str, str]]:
    """Return the first line and the headers: names in lower case, values of the same name joined by commas."""
    first, *lines = head.decode("latin-1").split("\r\n")
    headers: dict[str, str] = {}
    for line in lines:
        name, _, value = line.partition(":")
        name, value = name.strip().lower(), value.strip()
        headers[name] = f"{headers[name]}, {value}" if name in headers else value
    return first, headers


class Wire:
    """One connection. `take_frame` refuses what RFC 6455 forbids; `send` sends whatever it is told."""

    def __init__(self, stream: trio.abc.Stream, *, is_client: bool, rng: random.Random) -> None:
        self.stream, self.is_client, self.rng = stream, is_client, rng
        self.path, self.headers = "/", dict[str, str]()
        self.opened_s = trio.current_time()
        self.closing = self.said_close = False
        self.pongs: set[bytes] = set()
        self.ponged = trio.Condition()
        self.rsv_allowed = 0
        self._received = bytearray()
        self._turn = trio.Lock()
        self._in_message = False

    async def _need(self, count: int) -> None:
        while len(self._received) < count:
            try:
                data = await self.stream.receive_some(65536)
            except ENDS as error:
                raise Gone from error
            if not data:
                raise Gone
            self._received += data

    async def _take(self, count: int) -> bytes:
        await self._need(count)
        data = bytes(self._received[:count])
        del self._received[:count]
        return data

    async def take_head(self) -> bytes:
        """Return the next HTTP head, without the empty line at its end."""
        while (end := self._received.find(b"\r\n\r\n")) < 0:
            await self._need(len(self._received) + 1)
        return (await self._take(end + 4))[:-4]

    async def take_frame(self) -> Frame:
        """Return the next frame. Raises Breach for one that the peer may not send."""
        first, second = await self._take(2)
        opcode, fin, rsv = first & 15, bool(first & 0x80), first >> 4 & 7
        size = second & 127
        if opcode >= CLOSE and (size > 125 or not fin):
            raise Breach(PROTOCOL_ERROR, "a control frame that is long or in pieces")
        if size == 126:
            size = int.from_bytes(await self._take(2), "big")
        elif size == 127:
            size = int.from_bytes(await self._take(8), "big")
        if bool(second & 0x80) is self.is_client:
            raise Breach(PROTOCOL_ERROR, "the mask is missing, or there is one from a server")
        if rsv & ~self.rsv_allowed or opcode not in (0, 1, 2, 8, 9, 10):
            raise Breach(PROTOCOL_ERROR, "a reserved bit or opcode")
        key = await self._take(4) if second & 0x80 else None
        payload = await self._take(size)
        if opcode < CLOSE:
            if (opcode == CONTINUATION) is not self._in_message:
                raise Breach(PROTOCOL_ERROR, "a continuation of nothing, or a message in another")
            self._in_message = not fin
        return Frame(opcode, payload if key is None else masked(payload, key), fin, rsv)

    async def send_bytes(self, data: bytes) -> None:
        """Send bytes as they are. Raises Gone."""
        async with self._turn:
            try:
                await self.stream.send_all(data)
            except ENDS as error:
                raise Gone from error

    def packed(self, frame: Frame) -> bytes:
        """Return a frame as this side sends it: masked with a new key by a client."""
        return pack(frame, self.rng.randbytes(4) if self.is_client else None)

    async def send(
        self, opcode: int, payload: bytes = b"", *, fin: bool = True, rsv: int = 0
    ) -> None:
        """Send one frame. Raises Gone."""
        await self.send_bytes(self.packed(Frame(opcode, payload, fin, rsv)))

    async def say_close(self, code: int | None) -> None:
        """Send the Close frame, once; without a code for None."""
        if not self.said_close:
            self.said_close = True
            await self.send(CLOSE, b"" if code is None else struct.pack("!H", code))

    async def cut(self) -> None:
        """Close the socket."""
        await trio.aclose_forcefully(self.stream)
