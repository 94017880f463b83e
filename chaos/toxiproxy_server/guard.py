"""What stands before the API: the Host header against DNS rebinding, browsers, and limits on bodies."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Collection, Mapping
from contextlib import suppress

import trio
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from chaos.toxiproxy_server.go.wire import ApiError

_HEADER = re.compile(
    r"(?:\[(?P<six>[0-9A-Fa-f:.]+(?:%[0-9A-Za-z._~%-]+)?)\]|(?P<name>[^:\[\]/@]*))(?::[0-9]*)?"
)
READ_S = 15.0  # how long a body may take (api.go, ReadTimeout)
# of a body that is refused
THROWN_AWAY_BYTES = 64 << 20
THROWN_AWAY_S = 2.0
# names that no public name server answers for (RFC 6761, RFC 6762, `internal`, reserved by ICANN in 2024, and `svc`,
# under which Kubernetes knows its services)
_PRIVATE_SUFFIXES = (".localhost", ".local", ".internal", ".test", ".svc")


def is_served(header: str | None, names: Collection[str]) -> bool:
    """Return whether a request with this Host header is served: one of these names, of which `*` means all.

    A web page can make a browser send requests to this machine under a name that its author controls and points
    here (DNS rebinding). Addresses, names without a dot and names that only private resolvers know are not such.
    A request without the header is no browser's.
    """
    if header is None or "*" in names:
        return True
    match = _HEADER.fullmatch(header.strip())
    if match is None:
        return False
    host = (match["six"] or match["name"] or "").lower().rstrip(".")
    if host in names or "." not in host or host.endswith(_PRIVATE_SUFFIXES):
        return True
    with suppress(ValueError):
        ipaddress.ip_address(host)
        return True
    return False


def is_own_page(headers: Mapping[str, str]) -> bool:
    """Return whether a request comes from a page of this server, from a browser's user, or from no browser.

    Browsers send Origin with every request of another site that could change something (Fetch, §3.1), and
    Sec-Fetch-Site with all of them (Fetch Metadata, §2.3).
    """
    origin, host = headers.get("origin"), headers.get("host", "")
    if origin is not None and origin.lower() != f"http://{host.lower()}":
        return False
    return headers.get("sec-fetch-site", "none") in ("none", "same-origin")


def announces_more(headers: Mapping[str, str], limit: int) -> bool:
    """Return whether a request says that its body is larger than a limit: then none of it need be read."""
    announced = headers.get("content-length", "")
    return announced.isascii() and announced.isdigit() and int(announced[:20]) > limit


async def read_limited(request: Request, limit: int) -> bytes:
    """Return the body of a request. Raises ApiError: 413 beyond the limit, 400 if it does not come in time."""
    if announces_more(request.headers, limit):
        raise _too_large(limit)
    parts, size = [], 0
    try:
        with trio.fail_after(READ_S):
            async for part in request.stream():
                size += len(part)
                if size > limit:
                    raise _too_large(limit)
                parts.append(part)
    except ClientDisconnect:
        raise ApiError("bad request body: unexpected EOF", 400) from None
    except trio.TooSlowError:
        raise ApiError("bad request body: i/o timeout", 400) from None
    return b"".join(parts)


def _too_large(limit: int) -> ApiError:
    return ApiError(f"request body too large, expected at most {limit} bytes", 413)


class EarlyAnswer(Response):
    """An answer to a request whose body has not been read: it is sent, and only then the body is thrown away.

    A client that sends all of its body before it reads would otherwise meet an RST in place of the answer (RFC 9112
    section 9.6). One that sends more than is thrown away, or for longer, is let go.
    """

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the answer; cancelling is safe."""
        start = {
            "type": "http.response.start",
            "status": self.status_code,
            "headers": self.raw_headers,
        }
        await send(start)
        await send({"type": "http.response.body", "body": self.body, "more_body": True})
        left = THROWN_AWAY_BYTES
        with trio.move_on_after(THROWN_AWAY_S):
            while left > 0 and (message := await receive()).get("more_body", False):
                left -= len(message["body"])
        await send({"type": "http.response.body", "body": b"", "more_body": False})
