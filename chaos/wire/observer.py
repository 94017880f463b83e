"""Decodes one direction of a connection at one side, only watching: what passes becomes events of a trace.

Handshake heads first, then WebSocket frames. What cannot be decoded is an event too, and ends the watching of that
direction at that side: an observer never goes blind in silence.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any

from chaos.trace import Stream
from chaos.wire.decoder import FrameDecoder, Observation, Undecodable, read_plain
from chaos.wire.handshake import Asked, Extension, read_answer, read_request
from chaos.wire.head import HEAD_BYTES_MAX, HeadTooLong, split_head
from chaos.wire.inflate import Inflater
from chaos.wire.messages import Readers
from chaos.wire.retry import read_retry_after

# what is kept of a client that does not wait for the answer to its request
EARLY_BYTES_MAX = 1_048_576
_METHOD_BYTES_MAX = 32
_METHOD = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]*")
# what most heads begin with, and every response
_STARTS = {"upstream": b"GET ", "downstream": b"HTTP/1."}
_NO_HEAD = {
    "upstream": "no request line (RFC 9112 §3)",
    "downstream": "no status line (RFC 9112 §4)",
}


class Observer:
    """Watches one direction at one side. `feed` gives what the bytes complete.

    The observer of a response learns from that of its request what was asked, and that of a request from that of
    the response which extension was `agreed`. `at_rest` says that the next byte begins a frame, and that what it
    means does not depend on any before it.
    """

    def __init__(
        self,
        stream: Stream,
        *,
        requests: Observer | None = None,
        readers: Readers = (),
        wall_clock: Callable[[], float] = lambda: 0.0,
    ) -> None:
        """Watch a connection from its first byte.

        Args:
            stream: the direction.
            requests: the observer of the other direction at the same side; of a response only.
            readers: where the numbers of this sender's messages are; by default at the top of their JSON.
            wall_clock: gives seconds since the epoch, as the client knows them: a refusal may name a date.
        """
        self._stream: Stream = stream
        self._requests = requests
        self._readers = readers
        self._wall_clock = wall_clock
        self._masked = stream == "upstream"
        self._head: bytearray | None = bytearray()
        self._at = 0  # how many bytes have been read
        self._waiting = bytearray()  # frames of a client that did not wait for the answer
        self._is_refused = False
        self._has_frames = False  # a 101 has passed
        self._decoder: FrameDecoder | None = None  # made for the first frame that is not plain
        self._is_plain = False  # no compression was agreed: frames mean what their bytes say
        self.asked: Asked | None = None
        self.agreed: Extension | None = None
        self.at_rest = False
        self.is_over = False  # nothing more is read

    def feed(self, payload: bytes) -> Iterator[Observation]:
        """Take the next bytes and yield what they complete."""
        if self.is_over:
            return
        try:
            if self._head is not None:
                yield from self._read_heads(payload)
            elif self._has_frames:
                yield from self._read_frames(payload)
            else:
                self._wait(payload)
        except Undecodable as error:
            self.is_over, self.at_rest = True, False
            self._waiting.clear()
            yield "undecoded", error.fields, None

    def pass_by(self, payload: bytes) -> None:
        """Count bytes that another observer, at rest before them and after, has read for this one, at rest too."""
        self._at += len(payload)

    @property
    def waiting(self) -> int:
        """The number of bytes that came behind the request before it was answered with 101."""
        return len(self._waiting)

    def upgrade(self, agreed: Extension | None) -> Iterator[Observation]:
        """Start to decode frames: a 101 has passed. Gives what was already waiting."""
        self._begin_frames(agreed)
        waiting, self._waiting = bytes(self._waiting), bytearray()
        self._at -= len(waiting)
        if waiting:
            yield from self.feed(waiting)

    def refuse(self) -> None:
        """Read no frames: the request has been refused. A further request on this connection is not read."""
        self._is_refused = True
        self._waiting.clear()

    def _begin_frames(self, agreed: Extension | None) -> None:
        self._has_frames = True
        self.agreed = agreed
        self._is_plain = agreed is None
        self.at_rest = self._is_plain and self._head is None and not self.is_over

    def _make_decoder(self) -> FrameDecoder:
        inflater = None
        if self.agreed is not None:
            inflater = Inflater(keeps_context=self.agreed.keeps_context(self._stream))
        return FrameDecoder(masked=self._masked, inflater=inflater, readers=self._readers)

    # heads

    def _read_heads(self, payload: bytes) -> Iterator[Observation]:
        assert self._head is not None
        searched = len(self._head)
        self._head += payload
        while (received := self._head) is not None:
            wrong = _find_wrong_byte(received, self._stream)
            if wrong is not None:
                raise Undecodable(_NO_HEAD[self._stream], self._at + wrong, received[wrong])
            try:
                found = split_head(received, searched)
            except HeadTooLong:
                where = HEAD_BYTES_MAX
                why = f"a head of more than {HEAD_BYTES_MAX:,} bytes (RFC 9112 §3)"
                raise Undecodable(why, self._at + where, received[where]) from None
            if found is None:
                return
            head, rest = found
            self._head, searched = None, 0
            begins_at, self._at = self._at, self._at + len(received) - len(rest)
            if self._stream == "upstream":
                yield self._read_request(head)
            else:
                yield from self._read_response(head, rest, begins_at)
            if self._head is None and not self.is_over and rest:
                yield from self.feed(rest)

    def _read_request(self, head: bytes) -> Observation:
        self.asked = asked = read_request(head)
        return "request", {"path": asked.path, "upgrade": asked.upgrades}, None

    def _read_response(self, head: bytes, rest: bytes, begins_at: int) -> Iterator[Observation]:
        answer = read_answer(head, self._requests.asked if self._requests is not None else None)
        status = answer.status or 0
        fields: dict[str, Any] = {"status": status}
        if answer.retry_after:
            told_s = read_retry_after(answer.retry_after, answer.dates, self._wall_clock())
            if told_s is not None:
                fields["retry_after_s"] = told_s[0]
                if told_s[1] > told_s[0]:
                    fields["retry_after_late_s"] = told_s[1]
        if status == 101:
            fields |= {} if answer.wrong is None else {"wrong": answer.wrong}
            self._begin_frames(answer.agreed)
        elif 100 <= status < 200:
            self._head = bytearray(rest)  # the real answer is still to come (RFC 9110 §15.2)
        else:
            self.is_over = True  # what follows is the body of a refusal
        yield "response", fields, None
        if answer.status is None:
            raise Undecodable(_NO_HEAD[self._stream], begins_at, head[0])

    # what is behind the head

    def _wait(self, payload: bytes) -> None:
        """Keep what comes before it is known whether frames will come."""
        if self._is_refused:
            why = "what follows a request that was refused (RFC 9112 §9.3)"
            raise Undecodable(why, self._at, payload[0])
        self._at += len(payload)
        self._waiting += payload
        if len(self._waiting) > EARLY_BYTES_MAX:
            where = self._at - len(self._waiting) + EARLY_BYTES_MAX
            why = f"more than {EARLY_BYTES_MAX:,} bytes before the answer (RFC 6455 §4.1)"
            raise Undecodable(why, where, self._waiting[EARLY_BYTES_MAX])

    def _read_frames(self, payload: bytes) -> Iterator[Observation]:
        at, start = self._at, 0
        self._at += len(payload)
        if self._decoder is None or self._decoder.is_between:
            while start < len(payload):
                seen = read_plain(payload, start, self._readers, masked=self._masked)
                if seen is None:
                    break
                start, observation = seen
                yield observation
        if start < len(payload):
            if self._decoder is None:
                self._decoder = self._make_decoder()
            yield from self._decoder.feed(payload[start:] if start else payload, at + start)
            self.at_rest = self._is_plain and self._decoder.is_between


def _find_wrong_byte(received: bytearray, stream: Stream) -> int | None:
    """Return the place of the first byte by which these cannot be the start of a request or response, if any."""
    if received.startswith(_STARTS[stream]):
        return None
    if stream == "downstream":
        pairs = zip(received, _STARTS[stream], strict=False)
        return next((place for place, (byte, wanted) in enumerate(pairs) if byte != wanted), None)
    match = _METHOD.match(received, 0, _METHOD_BYTES_MAX)
    end = match.end() if match else 0
    if end == len(received):
        return None
    return None if end and received[end] == ord(" ") else end
