"""HTTP heads as faults change or answer them. Pure: bytes in, bytes out."""

from __future__ import annotations

import math
from http import HTTPStatus

from chaos.vocabulary.faults import RejectUpgrade, StripUpgrade

END_OF_HEAD = b"\r\n\r\n"
HEAD_BYTES_MAX = 64 * 1024


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


def strip(head: bytes, settings: StripUpgrade) -> bytes:
    """Return a handshake request as a proxy forwards it that does not know of WebSocket.

    nginx without its three lines for WebSocket speaks HTTP/1.0 with `Connection: close` and drops Upgrade, a
    hop-by-hop header (RFC 9110 §7.6.1, nginx ngx_http_proxy_module).
    """
    first, *lines = head.removesuffix(END_OF_HEAD).split(b"\r\n")
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
