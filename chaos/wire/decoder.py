"""Reads WebSocket frames from the bytes of one direction, in whatever pieces they come (RFC 6455 §5, RFC 7692).

`read_plain` reads what most frames are at a tenth of the price of `FrameDecoder`, which reads all of them.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from typing import Any, TypeAlias

from chaos.wire.frames import OPCODES, frame_end
from chaos.wire.inflate import Inflater
from chaos.wire.messages import (
    JSON_STARTS,
    START_BYTES,
    Readers,
    bytes_to_keep,
    is_enough,
    read_message,
    read_object,
)

# what happened, its fields, and the payload of a ping or pong, by which an answer is known
Observation: TypeAlias = tuple[str, dict[str, Any], bytes | None]

_TEXT, _BINARY, _CLOSE, _PING, _PONG = 1, 2, 8, 9, 10
# by the first byte of a frame: a whole message or a control frame, without extension bits
_PLAIN = {0x80 | opcode: opcode for opcode in (_TEXT, _BINARY, _CLOSE, _PING, _PONG)}
_CONTROL_BYTES_MAX = 125
_NOT_UTF8 = "a text that is not UTF-8 (RFC 6455 §8.1)"
_NOT_MINIMAL = "a length that a shorter form could say (RFC 6455 §5.2)"


class Undecodable(Exception):
    """What comes cannot be decoded: why, by which rule, and where in the stream the byte is that shows it."""

    def __init__(self, why: str, at_byte: int, byte: int) -> None:
        super().__init__(why)
        self.fields = {"why": why, "at_byte": at_byte, "byte": byte}


def read_plain(
    payload: bytes, start: int, readers: Readers, *, masked: bool
) -> tuple[int, Observation] | None:
    """Read the frame that begins at `start`, if all of it is there and it is the plainest kind.

    A message in one piece, or a control frame; none that is wrong in any way. This is what a `FrameDecoder` would
    say that has no message begun. Returns where the frame ends, and what it is.
    """
    end = frame_end(payload, start)
    opcode = _PLAIN.get(payload[start])
    if end is None or opcode is None or (payload[start + 1] >> 7) != masked:
        return None
    length, body = payload[start + 1] & 0x7F, start + 2 + 4 * masked
    if length > _CONTROL_BYTES_MAX:
        if opcode > _BINARY or not _is_minimal(payload, start):
            return None
        body += 2 if length == 126 else 8
    key = payload[body - 4 : body] if masked else b""
    if opcode > _BINARY:
        observation = _read_control(opcode, payload[body:end], key)
        return None if observation is None else (end, observation)
    try:
        content = _read_content(payload, body, end, key, readers, is_text=opcode == _TEXT)
    except UnicodeDecodeError:
        return None
    return end, ("frame", {"opcode": OPCODES[opcode], "bytes": end - body, **content}, None)


def _read_control(opcode: int, content: bytes, key: bytes) -> Observation | None:
    """Return what a control frame says; None for a Close with half a code."""
    if key and content:
        content = unmask(content, key)
    if opcode != _CLOSE:
        return "frame", {"opcode": OPCODES[opcode], "bytes": len(content)}, content
    # a Close without a body means 1005 (RFC 6455 §7.1.5)
    code = int.from_bytes(content[:2], "big") if content else 1005
    fields = {"opcode": "close", "bytes": len(content), "code": code}
    return None if len(content) == 1 else ("frame", fields, None)


def _read_content(
    payload: bytes, body: int, end: int, key: bytes, readers: Readers, *, is_text: bool
) -> dict[str, Any]:
    """Return what a message says that lies in one piece between two places."""
    size = end - body
    if not size:
        return {}
    first = payload[body] ^ key[0] if key else payload[body]
    if size <= START_BYTES and not readers:
        # what most messages are
        is_object = first in JSON_STARTS
        if not (is_object or is_text):
            return {}
        content = unmask(payload[body:end], key) if key else payload[body:end]
        text = content.decode() if is_text else content
        return read_object(text) if is_object else {}
    wanted = min(size, bytes_to_keep(first, readers, is_text=is_text))
    if wanted > START_BYTES:
        start = payload[body : body + START_BYTES]
        if key:
            start = unmask(start, key)
        if is_enough(start, readers):
            return read_message(start, size, readers, is_text=is_text)
    kept = payload[body : body + wanted]
    if not kept:
        return {}
    if key:
        kept = unmask(kept, key)
    return read_message(kept, size, readers, is_text=is_text)


def _is_minimal(payload: bytes, start: int) -> bool:
    """Tell whether an extended length is one that a shorter form could not say (RFC 6455 §5.2)."""
    if payload[start + 1] & 0x7F == 126:
        return int.from_bytes(payload[start + 2 : start + 4], "big") > _CONTROL_BYTES_MAX
    return 65535 < int.from_bytes(payload[start + 2 : start + 10], "big") < 1 << 63


def unmask(content: bytes, key: bytes) -> bytes:
    """Return the content without its mask, which is its own inverse (RFC 6455 §5.3)."""
    size = len(content)
    repeated = (key * (size // 4 + 1))[:size]
    number = int.from_bytes(content, "big") ^ int.from_bytes(repeated, "big")
    return number.to_bytes(size, "big")


class _Message:
    """What is known of the message that is being read."""

    __slots__ = ("_kept", "_readers", "_size", "_wanted", "inflater", "is_text")

    def __init__(self, opcode: int, inflater: Inflater | None, readers: Readers) -> None:
        self.is_text = opcode == _TEXT
        self.inflater = inflater  # of a compressed message
        self._readers = readers
        self._kept = bytearray()
        self._size = 0
        self._wanted = -1  # how many bytes to keep; not known before the first

    def passes(self, count: int) -> bool:
        """Count bytes of its content whose values say nothing any more; False if they may."""
        if self.inflater is not None or not 0 <= self._wanted <= len(self._kept):
            return False
        self._size += count
        return True

    def add(self, content: bytes) -> None:
        """Take the next bytes of its content."""
        if not content:
            return
        if self._wanted < 0:
            self._wanted = bytes_to_keep(content[0], self._readers, is_text=self.is_text)
        before = len(self._kept)
        self._kept += content[: max(0, self._wanted - before)]
        self._size += len(content)
        if before <= START_BYTES < len(self._kept) and is_enough(
            self._kept[:START_BYTES], self._readers
        ):
            del self._kept[START_BYTES:]
            self._wanted = START_BYTES

    def read(self) -> dict[str, Any]:
        """Return what the whole message says. Raises UnicodeDecodeError."""
        if not self._kept:
            return {}
        return read_message(self._kept, self._size, self._readers, is_text=self.is_text)


class FrameDecoder:
    """Reads one direction, frame after frame. `is_between` says that no frame and no message is begun."""

    def __init__(self, *, masked: bool, inflater: Inflater | None, readers: Readers = ()) -> None:
        """Begin behind the handshake. `inflater` is there if permessage-deflate was agreed."""
        self._masked = masked
        self._inflater = inflater
        self._readers = readers
        self._header = bytearray()  # of the frame that is being read, until it is complete
        self._begins_at = 0  # where that frame begins in the stream
        self._needs = 2  # bytes of its header
        self._opcode: int | None = None  # of the frame whose payload is being read
        self._remaining = 0  # bytes of its payload still to come
        self._bytes = 0  # of its payload, without compression
        self._key = b""  # its mask, turned to the next byte
        self._control = bytearray()  # the payload of a control frame
        self._message: _Message | None = None

    @property
    def is_between(self) -> bool:
        """Whether the next byte begins a frame that begins a message, or a control frame."""
        return not self._header and self._message is None

    def feed(self, payload: bytes, at: int) -> Iterator[Observation]:
        """Take the next bytes, which begin at this place of the stream, and give the frames that they complete.

        Raises Undecodable; nothing more may be fed then.
        """
        place = 0
        while True:
            if self._opcode is None:
                place = self._take_header(payload, place, at)
                if self._opcode is None:
                    return
            body = payload[place : place + self._remaining]
            place += len(body)
            self._remaining -= len(body)
            if body:
                self._take_body(body)
            if self._remaining:
                return
            yield self._finish()

    # headers

    def _take_header(self, payload: bytes, place: int, at: int) -> int:
        """Take bytes until the header is complete; return the place behind them."""
        header = self._header
        while place < len(payload):
            if not header:
                self._begins_at = at + place
            header.append(payload[place])
            why = self._look_at_header()
            if why is not None:
                raise Undecodable(why, at + place, payload[place])
            place += 1
            if len(header) == self._needs:
                self._begin_frame()
                break
        return place

    def _look_at_header(self) -> str | None:
        """Return what is wrong with the last byte of the header, by which rule."""
        header, last = self._header, self._header[-1]
        if len(header) == 1:
            return self._find_wrong_first(last)
        length = header[1] & 0x7F
        width = {126: 2, 127: 8}.get(length, 0)
        if len(header) == 2:
            self._needs = 2 + width + 4 * self._masked
            return self._find_wrong_second(header[0] & 0x0F, last)
        if width and len(header) == 2 + width:
            size = int.from_bytes(header[2:], "big")
            if size >> 63:
                return "a length of 64 bits whose highest is set (RFC 6455 §5.2)"
            return _NOT_MINIMAL if size <= (_CONTROL_BYTES_MAX if width == 2 else 65535) else None
        return None

    def _find_wrong_first(self, first: int) -> str | None:
        opcode, is_final = first & 0x0F, bool(first & 0x80)
        begun, compressed = self._message is not None, bool(first & 0x40)
        rules = (
            (
                first & 0x30,
                "RSV2 or RSV3 set, to which no extension gives a meaning (RFC 6455 §5.2)",
            ),
            (opcode not in OPCODES, f"the reserved opcode {opcode} (RFC 6455 §5.2)"),
            (
                compressed and self._inflater is None,
                "RSV1 set, to which no extension gives a meaning (RFC 6455 §5.2)",
            ),
            (
                compressed and opcode not in (_TEXT, _BINARY),
                "RSV1 set on a frame that begins no message (RFC 7692 §6)",
            ),
            (opcode >= _CLOSE and not is_final, "a control frame in fragments (RFC 6455 §5.5)"),
            (opcode == 0 and not begun, "a continuation of no message (RFC 6455 §5.4)"),
            (
                opcode in (_TEXT, _BINARY) and begun,
                "a message that begins inside another (RFC 6455 §5.4)",
            ),
        )
        return next((why for wrong, why in rules if wrong), None)

    def _find_wrong_second(self, opcode: int, second: int) -> str | None:
        length = second & 0x7F
        if bool(second & 0x80) != self._masked:
            who = "client without" if self._masked else "server with"
            return f"a frame of a {who} a mask (RFC 6455 §5.1)"
        if opcode >= _CLOSE and length > _CONTROL_BYTES_MAX:
            return "a control frame of more than 125 bytes (RFC 6455 §5.5)"
        if opcode == _CLOSE and length == 1:
            return "a Close with half a code (RFC 6455 §5.5.1)"
        return None

    def _begin_frame(self) -> None:
        header = self._header
        self._opcode = header[0] & 0x0F
        ends = 2 + {126: 2, 127: 8}.get(header[1] & 0x7F, 0)
        size = header[1] & 0x7F if ends == 2 else int.from_bytes(header[2:ends], "big")
        self._remaining, self._bytes = size, 0
        self._key = bytes(header[ends:])
        if self._opcode in (_TEXT, _BINARY):
            inflater = self._inflater if header[0] & 0x40 else None
            self._message = _Message(self._opcode, inflater, self._readers)

    # payloads

    def _take_body(self, body: bytes) -> None:
        is_control = self._opcode is not None and self._opcode >= _CLOSE
        if not is_control and self._message is not None and self._message.passes(len(body)):
            self._bytes += len(body)
            return
        if self._masked:
            body, turn = unmask(body, self._key), len(body) % 4
            self._key = self._key[turn:] + self._key[:turn]
        if is_control:
            self._control += body
        else:
            self._take_content(body)

    def _take_content(self, body: bytes, *, ends: bool = False) -> None:
        """Take bytes of a message, or its end."""
        message = self._message
        assert message is not None
        try:
            if message.inflater is None:
                pieces: Iterator[bytes] = iter((body,))
            else:
                pieces = message.inflater.end() if ends else message.inflater.feed(body)
            for piece in pieces:
                message.add(piece)
                self._bytes += len(piece)
        except zlib.error:
            raise self._undecodable("a message that cannot be inflated (RFC 7692 §7.2.2)") from None

    def _finish(self) -> Observation:
        """Return what the frame is that is complete."""
        opcode, is_final = self._opcode, bool(self._header[0] & 0x80)
        assert opcode is not None
        if opcode >= _CLOSE:
            observation = _read_control(opcode, bytes(self._control), b"")
            assert observation is not None, "its header was looked at"
            self._control.clear()
            self._end_frame()
            return observation
        fields: dict[str, Any] = {"opcode": OPCODES[opcode], "bytes": self._bytes}
        if is_final:
            self._take_content(b"", ends=True)
            fields |= {"bytes": self._bytes, **self._read_message()}
        else:
            fields["fin"] = False
        self._end_frame()
        return "frame", fields, None

    def _read_message(self) -> dict[str, Any]:
        assert self._message is not None
        try:
            found = self._message.read()
        except UnicodeDecodeError:
            raise self._undecodable(_NOT_UTF8) from None
        self._message = None
        return found

    def _end_frame(self) -> None:
        self._header.clear()
        self._opcode = None

    def _undecodable(self, why: str) -> Undecodable:
        """Return the mistake of the frame that is being read, which begins with the byte that is named."""
        return Undecodable(why, self._begins_at, self._header[0])
