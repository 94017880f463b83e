"""Decodes one direction of a connection, only watching: handshake heads and WebSocket frames become trace events.

wsproto's frame decoder does the work (permessage-deflate included, RFC 7692), so an observer sees what a peer
would; the plainest frames are read without it. A stream that is no WebSocket is watched for its head only.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

from wsproto.extensions import Extension, PerMessageDeflate
from wsproto.frame_protocol import Frame, FrameDecoder, Opcode, ParseFailed

from chaos.trace import Stream
from chaos.wire.frames import frame_end
from chaos.wire.head import HeadTooLong, parse_head, split_head

# a workload message names its id in its first bytes; what lies behind this is padding
_ID_BYTES = 4096
_ID = re.compile(rb'"id"\s*:\s*(\d{1,15})\b')
_SENDER = re.compile(rb'"sender"\s*:\s*"([a-z0-9-]{1,40})"')
_SECRET = re.compile(r"(?i)((?:token|auth|key|secret|password|session|signature)[^=&]*=)[^&]*")
# first byte of a frame that is a whole message or a control frame, without extension bits
_PLAIN = {
    0x80 | opcode.value: opcode
    for opcode in (Opcode.TEXT, Opcode.BINARY, Opcode.CLOSE, Opcode.PING, Opcode.PONG)
}
_NAMES = {opcode: opcode.name.lower() for opcode in Opcode}
_BRACE = ord("{")

Observation = tuple[str, dict[str, Any]]


class Observer:
    """Watches one direction at one side. `feed` gives (kind, fields) for what the bytes complete.

    The observer of a request learns from that of the response which extension was agreed: `extension` is the
    accepted permessage-deflate line, or None. `at_rest` says that the next byte begins a frame, and
    that what it means does not depend on any before it.
    """

    def __init__(self, stream: Stream) -> None:
        self._stream: Stream = stream
        self._head: bytes | None = b""
        self._decoder: FrameDecoder | None = None
        self._plain = False  # no extension was agreed: frames mean what their bytes say
        self.at_rest = False
        self._waiting = b""  # frames of a client that did not wait for the answer
        self._parts = bytearray()
        self._opcode: Opcode | None = None
        self._bytes = 0
        self.extension: str | None = None
        self.broken: str | None = None

    def feed(self, payload: bytes) -> Iterator[Observation]:
        """Take the next bytes and yield what they complete."""
        if self.broken is not None:
            return
        if self._head is not None:
            self._head += payload
            try:
                while self._head is not None and (found := split_head(self._head)) is not None:
                    self._head, payload = None, found[1]
                    yield self._read_head(*found)
            except HeadTooLong:
                self.broken = "no HTTP head"
        if self._head is None and self._decoder is not None:
            yield from self._read_frames(payload)
        elif self._head is None:
            self._waiting += payload

    @property
    def waiting(self) -> int:
        """The number of bytes that came behind the request before it was answered with 101."""
        return len(self._waiting)

    def upgrade(self, extension: str | None) -> Iterator[Observation]:
        """Start to decode frames: a 101 has passed. Gives what was already waiting."""
        self._decoder = _make_decoder(self._stream, extension)
        self.at_rest = self._plain = extension is None
        waiting, self._waiting = self._waiting, b""
        yield from self._read_frames(waiting)

    def _read_head(self, head: bytes, rest: bytes) -> Observation:
        first, headers = parse_head(head)
        if self._stream == "upstream":
            parts = first.split(" ")
            path = _SECRET.sub(r"\1REDACTED", parts[1]) if len(parts) > 1 else ""
            upgrade = headers.get("upgrade", "").lower() == "websocket"
            return "request", {"path": path, "upgrade": upgrade}
        return self._read_response(first, headers, rest)

    def _read_response(self, first: str, headers: dict[str, str], rest: bytes) -> Observation:
        match = re.match(r"HTTP/1\.\d (\d{3})", first)
        status = int(match[1]) if match else 0
        fields: dict[str, Any] = {"status": status}
        retry_after = headers.get("retry-after", "")
        if retry_after.isdigit():
            fields["retry_after_s"] = int(retry_after)
        if status == 101:
            self.extension = _agreed_deflate(headers.get("sec-websocket-extensions", ""))
            self._decoder = _make_decoder("downstream", self.extension)
            self.at_rest = self._plain = self.extension is None
        elif 100 <= status < 200:
            self._head = rest  # the real answer is still to come (RFC 9110 §15.2)
        else:
            self.broken = "not a WebSocket"
        return "response", fields

    def _read_frames(self, payload: bytes) -> Iterator[Observation]:
        assert self._decoder is not None
        if self.at_rest:
            start, masked = 0, self._stream == "upstream"
            while start < len(payload):
                seen = read_plain(payload, start, masked=masked)
                if seen is None:
                    break
                start, observation = seen
                yield observation
            payload = payload[start:]
        if payload:
            yield from self._decode(self._decoder, payload)

    def _decode(self, decoder: FrameDecoder, payload: bytes) -> Iterator[Observation]:
        decoder.receive_bytes(payload)
        try:
            while (frame := decoder.process_buffer()) is not None:
                if self._opcode is None:
                    self._opcode = frame.opcode
                assert isinstance(frame.payload, bytes)
                self._bytes += len(frame.payload)
                if len(self._parts) < _ID_BYTES:
                    self._parts += frame.payload
                if frame.frame_finished:
                    yield self._finish(frame)
        except ParseFailed as error:
            self.broken = str(error)
        done = self.broken is None and decoder.header is None and not len(decoder.buffer)
        self.at_rest = self._plain and done

    def _finish(self, frame: Frame) -> Observation:
        assert self._opcode is not None
        fields = {
            "opcode": _NAMES[self._opcode],
            "bytes": self._bytes,
            **_content_of(self._opcode, bytes(self._parts[:_ID_BYTES])),
        }
        self._opcode = None
        self._bytes = 0
        self._parts.clear()
        return "frame", fields


def read_plain(payload: bytes, start: int, *, masked: bool) -> tuple[int, Observation] | None:
    """Read the frame that begins at `start`, if all of it is there and it is the plainest kind.

    A message in one piece, or a control frame; none that is wrong in any way. The decoder takes all others: this is
    what it would say, at a tenth of the price, and most frames are such.
    """
    end = frame_end(payload, start)
    if end is None:
        return None
    opcode, second = _PLAIN.get(payload[start]), payload[start + 1]
    length = second & 0x7F
    if opcode is None or (second >> 7) != masked:
        return None
    if length > 125 and (opcode.iscontrol() or not _is_minimal(payload, start)):
        return None
    body = start + 2 + {126: 2, 127: 8}.get(length, 0)
    content = payload[body + 4 * masked : min(end, body + 4 * masked + _ID_BYTES)]
    if masked and (
        opcode is Opcode.CLOSE or (content[:1] and content[0] ^ payload[body] == _BRACE)
    ):
        content = _unmask(content, payload[body : body + 4])
    fields = {
        "opcode": _NAMES[opcode],
        "bytes": end - body - 4 * masked,
        **_content_of(opcode, content),
    }
    return end, ("frame", fields)


def _is_minimal(payload: bytes, start: int) -> bool:
    """Tell whether an extended length is one that a shorter form could not say (RFC 6455 §5.2)."""
    if payload[start + 1] & 0x7F == 126:
        return int.from_bytes(payload[start + 2 : start + 4], "big") > 125
    return 65535 < int.from_bytes(payload[start + 2 : start + 10], "big") < 1 << 63


def _unmask(content: bytes, key: bytes) -> bytes:
    """Return the content without its mask, which is its own inverse (RFC 6455 §5.3)."""
    repeated = (key * (len(content) // 4 + 1))[: len(content)]
    number = int.from_bytes(content, "big") ^ int.from_bytes(repeated, "big")
    return number.to_bytes(len(content), "big")


def _content_of(opcode: Opcode, payload: bytes) -> dict[str, Any]:
    """Return what checks need of a payload: a close code, or a workload message's number and sender."""
    if opcode is Opcode.CLOSE:
        # a Close without a body means 1005 (RFC 6455 §7.1.5)
        return {"code": int.from_bytes(payload[:2], "big") if len(payload) >= 2 else 1005}
    if opcode not in (Opcode.TEXT, Opcode.BINARY) or not payload.startswith(b"{"):
        return {}
    return _parse_message(payload) if len(payload) < _ID_BYTES else _search_message(payload)


def _search_message(payload: bytes) -> dict[str, Any]:
    number, sender = _ID.search(payload), _SENDER.search(payload)
    fields: dict[str, Any] = {"id": int(number[1])} if number else {}
    return fields | ({"sender": sender[1].decode()} if sender else {})


def _parse_message(payload: bytes) -> dict[str, Any]:
    try:
        row = json.loads(payload)
    except RecursionError:  # how deep Python reads differs between its releases
        return _search_message(payload)
    except ValueError:
        return {}
    return {
        key: row[key]
        for key, kind in (("id", int), ("sender", str))
        if isinstance(row.get(key), kind)
    }


def _make_decoder(stream: Stream, extension: str | None) -> FrameDecoder:
    extensions: list[Extension] = []
    if extension is not None:
        deflate = PerMessageDeflate()
        deflate.finalize(extension)
        extensions.append(deflate)
    # a "client" decoder reads what a server sends, and the other way round
    return FrameDecoder(client=stream == "downstream", extensions=extensions)


def _agreed_deflate(value: str) -> str | None:
    offers = (offer.strip() for offer in value.split(","))
    return next((offer for offer in offers if offer.startswith("permessage-deflate")), None)
