"""Subjects about the form of what is on the wire: legal forms that are rare, and breaches of RFC 6455."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Coroutine, Iterator
from typing import Any

import trio
from rig import Client, Row, Server, client_subject, server_subject
from rig_wire import CLOSE, CONTINUATION, PING, TEXT, Frame, Wire, pack

Task = Callable[[Wire], Coroutine[Any, Any, None]]


# legal


async def in_pieces(peer: Client | Server, wire: Wire, row: Row, line: Row) -> None:
    """Send a message in pieces, some of them empty, with a ping between two (RFC 6455 section 5.4)."""
    payload = peer.encode(row, line["size"])
    await wire.send(TEXT, b"", fin=False)
    await wire.send(CONTINUATION, payload[:7], fin=False)
    await wire.send(PING, b"between")
    await wire.send(CONTINUATION, b"", fin=False)
    await wire.send(CONTINUATION, payload[7:], fin=False)
    await wire.send(CONTINUATION, b"")


@server_subject
class PiecesServer(Server):
    """Right: messages in pieces, empty ones among them, and pings between the pieces."""

    async def put(self, wire: Wire, row: Row, line: Row) -> None:
        await in_pieces(self, wire, row, line)


@client_subject
class PiecesClient(Client):
    """Right: messages in pieces, empty ones among them, and pings between the pieces."""

    async def put(self, wire: Wire, row: Row, line: Row) -> None:
        await in_pieces(self, wire, row, line)


async def byte_by_byte(wire: Wire, data: bytes) -> None:
    """Send the first 16 bytes and the last 4 each by itself: where a head or a frame can be cut badly."""
    singles = [data[index : index + 1] for index in range(len(data))]
    for piece in (*singles[:16], data[16:-4], *singles[-4:]):
        await wire.send_bytes(piece)
        await trio.sleep(0.0005)


@server_subject
class BytewiseServer(Server):
    """Right: head and messages in segments of one byte."""

    async def send_response(self, wire: Wire, head: bytes) -> None:
        await byte_by_byte(wire, head)

    def tasks(self, wire: Wire) -> Iterator[Task]:
        # no pings of its own: they would fall between the bytes of a message
        yield from (task for task in super().tasks(wire) if task != self.beat)

    async def on_ping(self, wire: Wire, payload: bytes) -> None:
        self.owed = payload

    async def put(self, wire: Wire, row: Row, line: Row) -> None:
        owed, self.owed = getattr(self, "owed", None), None
        if owed is not None:
            await super().on_ping(wire, owed)
        await byte_by_byte(wire, wire.packed(Frame(TEXT, self.encode(row, 64))))


@client_subject
class BytewiseClient(Client):
    """Right: a request that arrives byte by byte."""

    async def send_request(self, wire: Wire, head: bytes) -> None:
        await byte_by_byte(wire, head)


@server_subject
class OddHeads(Server):
    """Right: names in odd case, tabs, two values of Connection, a repeated header, no reason phrase."""

    def response(self, wire: Wire) -> bytes:
        lines = [
            "HTTP/1.1 101 ",
            "UPGRADE:WebSocket",
            "connection:\tkeep-alive, UPGRADE \t",
            "Set-Cookie: a=1",
            "set-cookie: b=2; Path=/",
            f"SEC-WEBSOCKET-ACCEPT:  {self.accept_for(wire)}  ",
            "Retry-After: 0",
        ]
        return "\r\n".join([*lines, "", ""]).encode()


@client_subject
class OddRequest(Client):
    """Right: names in odd case, a list in Connection, headers in another order."""

    def request(self, path: str, key: str) -> bytes:
        lines = [
            f"GET {path} HTTP/1.1",
            f"HOST:{self.url.netloc}",
            f"sec-websocket-KEY:{key}\t",
            "CONNECTION:keep-alive,  upgrade",
            "UpGrAdE:\tWEBSOCKET",
            "Sec-WebSocket-Version:13",
            "Cookie: a=1",
            "Pragma: no-cache",
        ]
        return "\r\n".join([*lines, "", ""]).encode()


@server_subject
class FirstFrameWithHead(Server):
    """Right: the first message and a ping stand in the same segment as the 101."""

    async def send_response(self, wire: Wire, head: bytes) -> None:
        hello = wire.packed(Frame(TEXT, b'{"type": "hello"}')) + wire.packed(Frame(PING, b"first"))
        await wire.send_bytes(head + hello)


@server_subject
class LongGoodbye(Server):
    """Right: the reason of its Close has the 123 bytes that it may have, in more than one alphabet."""

    async def ask_to_close(self, wire: Wire, code: int | None) -> None:
        wire.said_close = True
        reason = ("restart " + "ß" * 57).encode().ljust(123, b".")
        await wire.send(CLOSE, (code or 1000).to_bytes(2, "big") + reason)
        await trio.sleep(1)
        await wire.cut()


def deflated(payload: bytes, kind: str) -> bytes:
    """Return a payload in a form of RFC 7692 section 7.2.3.

    `final` has BFINAL set, `stored` is not compressed, `parted` has two blocks.
    """
    level = 0 if kind == "stored" else 6
    machine = zlib.compressobj(level, zlib.DEFLATED, -15)
    if kind == "final":
        return machine.compress(payload) + machine.flush(zlib.Z_FINISH) + b"\x00"
    first = machine.compress(payload[:9])
    if kind == "parted":
        first += machine.flush(zlib.Z_FULL_FLUSH)
    data = first + machine.compress(payload[9:]) + machine.flush(zlib.Z_SYNC_FLUSH)
    return data.removesuffix(b"\x00\x00\xff\xff")


@server_subject
class DeflatesOddly(Server):
    """Right: permessage-deflate without context; messages stored, in two blocks, with BFINAL, and plain."""

    def more_headers(self, wire: Wire) -> Iterator[str]:
        wire.rsv_allowed = 4
        yield "Sec-WebSocket-Extensions: permessage-deflate; server_no_context_takeover; client_no_context_takeover"

    async def put(self, wire: Wire, row: Row, line: Row) -> None:
        payload = self.encode(row, line["size"])
        kind = ("plain", "stored", "parted", "final")[row["id"] % 4]
        if kind == "plain":
            await wire.send(TEXT, payload)
        else:
            await wire.send(TEXT, deflated(payload, kind), rsv=4)


@client_subject
class Inflates(Client):
    """Right: offers permessage-deflate, and reads what is compressed and what is not."""

    def more_headers(self) -> Iterator[str]:
        yield "Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits"
        yield "Sec-WebSocket-Extensions: permessage-deflate"

    def agree(self, wire: Wire) -> None:
        wire.rsv_allowed = 4

    async def on_message(self, wire: Wire, opcode: int, payload: bytes) -> None:
        if not payload.startswith(b"{"):
            payload = zlib.decompressobj(-15).decompress(payload + b"\x00\x00\xff\xff")
        await super().on_message(wire, opcode, payload)


# breaches


@client_subject
class Unmasked(Client):
    """Wrong: after the first second its frames have no mask (RFC 6455 section 5.3)."""

    async def put(self, wire: Wire, row: Row, line: Row) -> None:
        frame = Frame(TEXT, self.encode(row, line["size"]))
        if row["id"] % 12 == 0:
            await wire.send_bytes(pack(frame, None))
        else:
            await wire.send_bytes(wire.packed(frame))


class Twelfth(Server):
    """Sends something forbidden in place of each twelfth message."""

    async def put(self, wire: Wire, row: Row, line: Row) -> None:
        if row["id"] % 12:
            await super().put(wire, row, line)
        else:
            await self.wrong(wire, self.encode(row, line["size"]))

    async def wrong(self, wire: Wire, payload: bytes) -> None:
        raise NotImplementedError


@server_subject
class MasksToo(Twelfth):
    """Wrong: a server's frames must not be masked (RFC 6455 section 5.1)."""

    async def wrong(self, wire: Wire, payload: bytes) -> None:
        await wire.send_bytes(pack(Frame(TEXT, payload), b"abcd"))


@server_subject
class ReservedBit(Twelfth):
    """Wrong: RSV2 is set, and no extension was agreed (RFC 6455 section 5.2)."""

    async def wrong(self, wire: Wire, payload: bytes) -> None:
        await wire.send(TEXT, payload, rsv=2)


@server_subject
class NoUtf8(Twelfth):
    """Wrong: a text that is no UTF-8 (RFC 6455 section 5.6)."""

    async def wrong(self, wire: Wire, payload: bytes) -> None:
        await wire.send(TEXT, payload.rstrip() + b"\xff\xfe")


@server_subject
class PingInPieces(Twelfth):
    """Wrong: a ping in two pieces (RFC 6455 section 5.4)."""

    async def wrong(self, wire: Wire, payload: bytes) -> None:
        await wire.send(PING, b"a", fin=False)
        await wire.send(CONTINUATION, b"b")


@server_subject
class LooseContinuation(Twelfth):
    """Wrong: a continuation of nothing (RFC 6455 section 5.4)."""

    async def wrong(self, wire: Wire, payload: bytes) -> None:
        await wire.send(CONTINUATION, payload)


@server_subject
class ReservedCode(Twelfth):
    """Wrong: it sends the close code 1006, which may not stand in a frame (RFC 6455 section 7.4.1)."""

    async def wrong(self, wire: Wire, payload: bytes) -> None:
        await wire.send(CLOSE, (1006).to_bytes(2, "big"))
