"""The head of the server's answer to a handshake, taken from the bytes as they come. Pure.

trio-websocket 0.12.2 takes a 103 for a refusal, loses the status of an answer whose body has no length, and waits
for ever for the rest of a body that was cut off. So the head is read here first, and only a 101 is passed on.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

# As h11, which allows 16 KiB for an incomplete event, with room for the cookies of large sites.
HEAD_BYTES_MAX = 65_536
_STATUS_LINE = re.compile(rb"HTTP/1\.[01] ([1-9][0-9]{2})(?: [^\r\n]*)?\r?$")
_PREFIX = b"HTTP/1."


@dataclass(slots=True)
class ResponseHead:
    """Collects bytes until the head of the final answer is complete.

    `status` and `headers` (names in lower case; a repeated name keeps its last value) are set when it is;
    `malformed` when the bytes are not HTTP. Interim answers (1xx other than 101) are skipped, as RFC 9110 §15.2
    asks of every client.
    """

    status: int | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    malformed: bool = False
    _waiting: bytearray = field(default_factory=bytearray)

    @property
    def done(self) -> bool:
        """Whether nothing is to be learnt from further bytes."""
        return self.malformed or self.status is not None

    def feed(self, data: bytes) -> bytes:
        """Take bytes in; return the 101 with what followed it, or nothing as long as there is none."""
        assert not self.done, "bytes after the head go straight to the WebSocket"
        self._waiting += data
        while not self.done and (end := self._waiting.find(b"\r\n\r\n")) >= 0:
            head, rest = bytes(self._waiting[:end]), self._waiting[end + 4 :]
            self._parse(head)
            if self.status == 101:
                return head + b"\r\n\r\n" + bytes(rest)
            self._waiting = rest
        if not self.done:
            start = bytes(self._waiting[: len(_PREFIX)])
            self.malformed = not _PREFIX.startswith(start) or len(self._waiting) > HEAD_BYTES_MAX
        return b""

    def _parse(self, head: bytes) -> None:
        first, *rest = head.split(b"\r\n")
        match = _STATUS_LINE.fullmatch(first)
        if match is None:
            self.malformed = True
            return
        status = int(match[1])
        if 100 <= status <= 199 and status != 101:
            return
        headers = {}
        for line in rest:
            name, _, value = line.decode("latin-1").partition(":")
            headers[name.strip().lower()] = value.strip()
        self.status, self.headers = status, headers
