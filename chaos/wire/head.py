"""HTTP heads: where one ends, what it says, and how faults answer or change it. Pure: bytes in, bytes out.

Everything in this project that reads a head from bytes as they come asks `split_head`, so there is one limit.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from http import HTTPStatus

from chaos.vocabulary.faults import RejectUpgrade, StripUpgrade

END_OF_HEAD = b"\r\n\r\n"
# h11 allows 16 KiB; this leaves room for the cookies of large sites, and for servers that were told to take more
HEAD_BYTES_MAX = 262_144
# a line may end with LF alone (RFC 9112 §2.2)
_EMPTY_LINE = re.compile(rb"\n\r?\n")
_LINE_END = re.compile(rb"\r?\n")
# a line that begins with white space goes on with the one before it (RFC 9112 §5.2)
_FOLD = re.compile(rb"\r?\n[ \t]+")
_STATUS_LINE = re.compile(r"HTTP/1\.[01] ([1-9][0-9]{2})(?: [^\r\n]*)?\r?$")
_PREFIX = b"HTTP/1."


class HeadTooLong(ValueError):
    """A head has more than HEAD_BYTES_MAX bytes."""


def split_head(received: bytes | bytearray, searched: int = 0) -> tuple[bytes, bytes] | None:
    """Return the first head of these bytes, without the empty line that ends it, and the bytes behind it.

    Returns None as long as the head is not complete. The first `searched` bytes were looked at before. Raises
    HeadTooLong.
    """
    end = _EMPTY_LINE.search(received, max(0, searched - 2))
    if (len(received) if end is None else end.start()) > HEAD_BYTES_MAX:
        raise HeadTooLong
    if end is None:
        return None
    return bytes(received[: end.start()]).removesuffix(b"\r"), bytes(received[end.end() :])


def parse_fields(head: bytes) -> tuple[str, list[tuple[str, str]]]:
    """Return the first line of a head and its header fields in order, names in lower case.

    Each byte is a character (ISO 8859-1): a head may hold any (RFC 9110 §5.5).
    """
    first, *lines = _unfold(head).decode("latin-1").split("\n")
    rows = [line.partition(":") for line in lines]
    fields = [(name.strip(" \t").lower(), value.strip(" \t\r")) for name, _, value in rows]
    return first.removesuffix("\r"), fields


def parse_head(head: bytes) -> tuple[str, dict[str, str]]:
    """Return the first line of a head and its headers: names in lower case, of a repeated name the last value."""
    first, fields = parse_fields(head)
    return first, dict(fields)


def _unfold(head: bytes) -> bytes:
    """Return a head with each folded line as one."""
    return _FOLD.sub(b" ", head) if b"\n " in head or b"\n\t" in head else head


@dataclass(slots=True)
class ResponseHead:
    """Collects bytes until the head of the final response to a handshake is complete.

    trio-websocket 0.12.2 takes a 103 for a refusal, loses the status of a response whose body has no length, and
    waits for ever for the rest of a body that was cut off. So the head is read here first, and only a 101 is passed
    on. `status` and `headers` are set when the head is complete; `malformed` is set when the bytes are not HTTP.
    Interim responses (1xx other than 101) are skipped, as RFC 9110 §15.2 asks of every client.
    """

    status: int | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    malformed: bool = False
    _waiting: bytes = b""

    @property
    def done(self) -> bool:
        """Whether nothing is to be learnt from further bytes."""
        return self.malformed or self.status is not None

    def feed(self, data: bytes) -> bytes:
        """Take bytes in; return the 101 with what followed it, or nothing as long as there is none."""
        assert not self.done, "bytes after the head go straight to the WebSocket"
        self._waiting += data
        try:
            while not self.done and (found := split_head(self._waiting)) is not None:
                head, self._waiting = found
                self._parse(head)
                if self.status == 101:
                    return head + END_OF_HEAD + self._waiting
        except HeadTooLong:
            self.malformed = True
        if not self.done:
            self.malformed = not _PREFIX.startswith(self._waiting[: len(_PREFIX)])
        return b""

    def _parse(self, head: bytes) -> None:
        first, headers = parse_head(head)
        match = _STATUS_LINE.fullmatch(first)
        if match is None:
            self.malformed = True
        elif not 100 <= int(match[1]) <= 199 or match[1] == "101":
            self.status, self.headers = int(match[1]), headers


def rejection(settings: RejectUpgrade) -> bytes:
    """Return the response that a proxy gives instead of 101 (RFC 9110 §15)."""
    body = settings.body.encode()
    reason = settings.reason or _phrase(settings.status)
    headers = {"Content-Length": str(len(body)), "Connection": "close"}
    if body:
        headers["Content-Type"] = "text/plain; charset=utf-8"
    if settings.retry_after_s is not None:
        # whole seconds (RFC 9110 §10.2.3), rounded up so that nobody may come early
        headers["Retry-After"] = str(math.ceil(settings.retry_after_s))
    headers.update(settings.headers)
    lines = [f"HTTP/1.1 {settings.status} {reason}".rstrip()]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    return "\r\n".join(lines).encode("latin-1", "replace") + END_OF_HEAD + body


def without_upgrade(head: bytes, settings: StripUpgrade) -> bytes:
    """Return the head of a handshake request as a proxy forwards it that does not know of WebSocket.

    nginx without its three lines for WebSocket speaks HTTP/1.0 with `Connection: close` and drops Upgrade, a
    hop-by-hop header (RFC 9110 §7.6.1, nginx ngx_http_proxy_module). `head` comes without the empty line at its end,
    the result has it.
    """
    first, *lines = _LINE_END.split(_unfold(head))
    if settings.style == "nginx":
        first = first.replace(b"HTTP/1.1", b"HTTP/1.0")
    dropped = {b"connection"} | ({b"upgrade"} if settings.style != "upgrade_only" else set())
    kept = [line for line in lines if line.split(b":", 1)[0].strip().lower() not in dropped]
    return b"\r\n".join([first, *kept, b"Connection: close"]) + END_OF_HEAD


def _phrase(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return "Status"
