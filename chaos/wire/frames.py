"""Where WebSocket frames begin and end in a byte stream (RFC 6455 §5.2), without decoding them.

`FrameCutter` keeps in step with a stream from its first byte: the HTTP head, then frame after frame. It is cheap
enough to run always, so that a fault on frames can be added to a connection that is already open.
"""

from __future__ import annotations

from copy import copy
from dataclasses import dataclass

from chaos.wire.head import HeadTooLong, split_head

OPCODES = {0: "continuation", 1: "text", 2: "binary", 8: "close", 9: "ping", 10: "pong"}
DATA_OPCODES = frozenset({"continuation", "text", "binary"})
_HEADER_BYTES_MAX = 14
# short lengths that mean a length of so many bytes
_WIDE_LENGTHS = {126: 2, 127: 8}


@dataclass(frozen=True, slots=True)
class Span:
    """A part of a chunk that belongs to one frame; `opcode` is None for what is not a frame.

    `begins` and `ends` are of the frame. `is_final` says that the frame has FIN set, and so ends its message.
    """

    payload: bytes
    opcode: str | None
    begins: bool = False
    ends: bool = False
    is_final: bool = True


def frame_sizes(data: bytes, start: int = 0) -> tuple[int, int] | None:
    """Return the lengths of header and payload of the frame at `start`, or None if its header is not all there."""
    there = len(data) - start
    if there < 2:
        return None
    second = data[start + 1]
    width = _WIDE_LENGTHS.get(second & 0x7F, 0)
    header = 2 + width + (4 if second & 0x80 else 0)
    if there < header:
        return None
    if width:
        return header, int.from_bytes(data[start + 2 : start + 2 + width], "big")
    return header, second & 0x7F


def frame_end(payload: bytes, start: int) -> int | None:
    """Return where the frame ends that begins at `start`, or None if it is not all there."""
    sizes = frame_sizes(payload, start)
    if sizes is None:
        return None
    end = start + sizes[0] + sizes[1]
    return end if end <= len(payload) else None


class FrameCutter:
    """Follows one direction of a connection and says which bytes belong to which frame."""

    __slots__ = ("_head", "_header", "_is_final", "_opcode", "_remaining", "opaque")

    def __init__(self) -> None:
        self._head: bytes | None = b""  # of the HTTP message; None once past it
        self._header = b""  # of the frame that is being read
        self._opcode: str | None = None
        self._is_final = True  # that frame ends its message
        self._remaining = 0  # payload bytes of that frame still to come
        self.opaque = False  # not a WebSocket stream: no frames will come

    def copy(self) -> FrameCutter:
        """Return a cutter that is at the same place of the stream."""
        return copy(self)

    def feed(self, payload: bytes) -> list[Span]:
        """Return the spans of the next bytes of the stream; joined they are these bytes."""
        spans = []
        while payload and self._head is not None and not self.opaque:
            taken = self._feed_head(payload)
            spans.append(Span(payload[:taken], None))
            payload = payload[taken:]
        if self.opaque:
            return [*spans, Span(payload, None)] if payload else spans
        start = 0
        # most chunks hold whole frames: those need no state
        while self._opcode is None and (end := frame_end(payload, start)) is not None:
            opcode, is_final = _kind_of(payload[start])
            spans.append(
                Span(payload[start:end], opcode, begins=True, ends=True, is_final=is_final)
            )
            start = end
        payload = payload[start:]
        while payload:
            span = self._feed_frame(payload)
            spans.append(span)
            payload = payload[len(span.payload) :]
        return spans

    def skip(self, payload: bytes) -> None:
        """Go past the next bytes of the stream, whatever they are."""
        if self.opaque:
            return
        # most chunks hold whole frames: those need no state
        if self._head is None and self._opcode is None:
            start = 0
            while (end := frame_end(payload, start)) is not None:
                start = end
            payload = payload[start:]
        if payload:
            self.feed(payload)

    def _feed_head(self, payload: bytes) -> int:
        assert self._head is not None
        self._head += payload
        if not _may_be_http(self._head):
            self.opaque = True
            return len(payload)
        try:
            found = split_head(self._head)
        except HeadTooLong:
            self.opaque = True
            return len(payload)
        if found is None:
            return len(payload)
        head, rest = found
        first_line = head.partition(b"\n")[0]
        if _informational(first_line):
            # 100 and 103 come before the real answer (RFC 9110 §15.2)
            self._head = b""
        else:
            self.opaque = first_line.startswith(b"HTTP/") and b" 101" not in first_line[:13]
            self._head = None
        return len(payload) - len(rest)

    def _feed_frame(self, payload: bytes) -> Span:
        begins = self._opcode is None
        if begins:
            self._opcode, self._is_final = _kind_of(payload[0])
            self._header = b""
        opcode = self._opcode
        taken = 0
        if self._remaining == 0:
            taken = self._feed_header(payload)
        body = min(self._remaining, len(payload) - taken)
        self._remaining -= body
        ends = self._remaining == 0 and frame_sizes(self._header) is not None
        if ends:
            self._opcode = None
        return Span(payload[: taken + body], opcode, begins, ends, self._is_final)

    def _feed_header(self, payload: bytes) -> int:
        before = len(self._header)
        self._header += payload[: _HEADER_BYTES_MAX - before]
        sizes = frame_sizes(self._header)
        if sizes is not None:
            self._header, self._remaining = self._header[: sizes[0]], sizes[1]
        return len(self._header) - before


def _kind_of(first: int) -> tuple[str, bool]:
    """Return the opcode of a frame with this first byte, and whether it has FIN set."""
    return OPCODES.get(first & 0x0F, "reserved"), first >= 0x80


def _may_be_http(head: bytes) -> bool:
    """Whether a WebSocket handshake may begin so: with GET (RFC 6455 §4.1) or with a status line."""
    return b"GET ".startswith(head[:4]) or b"HTTP/".startswith(head[:5])


def _informational(first_line: bytes) -> bool:
    return first_line.startswith(b"HTTP/1.1 1") and not first_line.startswith(b"HTTP/1.1 101")
