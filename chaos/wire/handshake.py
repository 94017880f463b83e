"""Whether an answer fits its request (RFC 6455 §4.1), and which extension it agrees to (RFC 7692 §7.1)."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

from wsproto.utilities import generate_accept_token

from chaos.trace import Stream
from chaos.wire.head import parse_fields

Fields = Mapping[str, Sequence[str]]

_DEFLATE = "permessage-deflate"
# what stands between two commas or semicolons that are not inside quotes
_PIECE = re.compile(r'((?:"(?:[^"\\]|\\.)*"|[^",;])*)([,;]|$)')
_STATUS_LINE = re.compile(r"HTTP/1\.[0-9] ([0-9]{3})(?: .*)?", re.DOTALL)
_BITS = re.compile("[89]|1[0-5]")
_NAME_CHARS_MAX = 60
_PATH_CHARS_MAX = 2_048
_SECRET = re.compile(r"(?i)((?:token|auth|key|secret|password|session|signature)[^=&]*=)[^&]*")
_WEBSOCKET = {"websocket"}


@dataclass(frozen=True, slots=True)
class Extension:
    """An extension with its parameters, names in lower case; a parameter without a value has None."""

    name: str
    parameters: tuple[tuple[str, str | None], ...] = ()

    def get(self, name: str) -> str | None:
        """Return the value of a parameter; empty for one without a value, None for one that is not there."""
        return next((value or "" for key, value in self.parameters if key == name), None)

    def keeps_context(self, stream: Stream) -> bool:
        """Whether the messages of a stream are compressed with those before them (RFC 7692 §7.1.1)."""
        side = "client" if stream == "upstream" else "server"
        return self.get(f"{side}_no_context_takeover") is None


@dataclass(frozen=True, slots=True)
class Asked:
    """What a request asks for: its answer must fit that. `path` is without secrets."""

    path: str
    upgrades: bool
    key: str | None
    subprotocols: frozenset[str]
    extensions: tuple[Extension, ...]


@dataclass(frozen=True, slots=True)
class Answer:
    """What a response says. `status` is None without a status line; `wrong` is why a client must refuse a 101."""

    status: int | None
    wrong: str | None
    agreed: Extension | None
    retry_after: tuple[str, ...]
    dates: tuple[str, ...]


def _parse(head: bytes) -> tuple[str, Fields]:
    """Return the first line of a head and the values of each header, in order."""
    first, fields = parse_fields(head)
    grouped: dict[str, list[str]] = {}
    for name, value in fields:
        if name in grouped:
            grouped[name].append(value)
        else:
            grouped[name] = [value]
    return first, grouped


def _path_of(first: str) -> str:
    parts = first.split(" ", 2)
    return _SECRET.sub(r"\1REDACTED", parts[1])[:_PATH_CHARS_MAX] if len(parts) > 1 else ""


# a head is read at both sides of a link, one after the other
@lru_cache(4)
def read_request(head: bytes) -> Asked:
    """Return what a request asks for."""
    first, fields = _parse(head)
    keys = set(fields.get("sec-websocket-key", ()))
    return Asked(
        path=_path_of(first),
        upgrades=any(value.lower() == "websocket" for value in fields.get("upgrade", ())),
        key=keys.pop() if len(keys) == 1 else None,
        subprotocols=frozenset(_tokens(fields, "sec-websocket-protocol")),
        extensions=parse_extensions(fields.get("sec-websocket-extensions", ())),
    )


@lru_cache(4)
def read_answer(head: bytes, asked: Asked | None) -> Answer:
    """Return what a response says to a request; None if that is not known: then less is looked at."""
    first, fields = _parse(head)
    match = _STATUS_LINE.fullmatch(first)
    status = int(match[1]) if match else None
    extensions = parse_extensions(fields.get("sec-websocket-extensions", ()))
    return Answer(
        status=status,
        wrong=_find_wrong(asked, fields) if status == 101 else None,
        agreed=next((row for row in extensions if row.name == _DEFLATE), None),
        retry_after=tuple(fields.get("retry-after", ())),
        dates=tuple(fields.get("date", ())),
    )


def parse_extensions(values: Sequence[str]) -> tuple[Extension, ...]:
    """Return what all headers Sec-WebSocket-Extensions name (RFC 6455 §9.1), which may quote values."""
    if not values:
        return ()
    found: list[Extension] = []
    parts: list[str] = []
    for match in _PIECE.finditer(",".join(values)):
        if text := match[1].strip(" \t"):
            parts.append(text)
        if match[2] != ";" and parts:
            name, *rest = parts
            found.append(Extension(name.lower(), tuple(_parameter(text) for text in rest)))
            parts = []
    return tuple(found)


def _parameter(text: str) -> tuple[str, str | None]:
    name, equals, value = text.partition("=")
    value = value.strip(" \t")
    if len(value) > 1 and value[0] == value[-1] == '"':
        value = re.sub(r"\\(.)", r"\1", value[1:-1])
    return name.strip(" \t").lower(), value if equals else None


def _tokens(fields: Fields, name: str) -> list[str]:
    values = fields.get(name)
    if values is None:
        return []
    return [row for value in values for part in value.split(",") if (row := part.strip(" \t"))]


def _find_wrong(asked: Asked | None, fields: Fields) -> str | None:
    """Return what makes a client fail the connection on a 101 with these headers; None if it fits what was asked."""
    for rule in _RULES:
        wrong = rule(asked, fields)
        if wrong is not None:
            return wrong
    return None


def _check_upgrade(_asked: Asked | None, fields: Fields) -> str | None:
    if {row.lower() for row in _tokens(fields, "upgrade")} != _WEBSOCKET:
        return "no `Upgrade: websocket` (RFC 6455 §4.1)"
    return None


def _check_connection(_asked: Asked | None, fields: Fields) -> str | None:
    if "upgrade" not in (row.lower() for row in _tokens(fields, "connection")):
        return "no `Connection: Upgrade` (RFC 6455 §4.1)"
    return None


def _check_accept(asked: Asked | None, fields: Fields) -> str | None:
    given = fields.get("sec-websocket-accept")
    if given is None:
        return "no Sec-WebSocket-Accept (RFC 6455 §4.1)"
    if asked is None or asked.key is None:
        return None
    if set(given) != {generate_accept_token(asked.key.encode("latin-1")).decode()}:
        return "a Sec-WebSocket-Accept for another key (RFC 6455 §4.1)"
    return None


def _check_subprotocol(asked: Asked | None, fields: Fields) -> str | None:
    chosen = set(_tokens(fields, "sec-websocket-protocol"))
    if asked is None or not chosen or (len(chosen) <= 1 and chosen <= asked.subprotocols):
        return None
    extra = sorted(chosen - asked.subprotocols)
    if not extra:
        return "more than one subprotocol (RFC 6455 §4.1)"
    return f"the subprotocol `{extra[0][:_NAME_CHARS_MAX]}`, not offered (RFC 6455 §4.1)"


def _check_extensions(asked: Asked | None, fields: Fields) -> str | None:
    if asked is None or "sec-websocket-extensions" not in fields:
        return None
    offered = {row.name for row in asked.extensions}
    agreed = parse_extensions(fields.get("sec-websocket-extensions", ()))
    extra = [row.name for row in agreed if row.name not in offered]
    if extra:
        return f"the extension `{extra[0][:_NAME_CHARS_MAX]}`, not offered (RFC 6455 §4.1)"
    rows = [row for row in agreed if row.name == _DEFLATE]
    offers = [row for row in asked.extensions if row.name == _DEFLATE]
    if len(rows) > 1 or (rows and not any(_fits(offer, rows[0]) for offer in offers)):
        return "parameters of permessage-deflate that answer no offer (RFC 7692 §7.1)"
    return None


def _fits(offer: Extension, agreed: Extension) -> bool:
    """Tell whether a server may answer an offer of permessage-deflate with these parameters (RFC 7692 §7.1)."""
    names = [name for name, _ in agreed.parameters]
    if len(set(names)) < len(names):
        return False
    if not all(name in _ALLOWED and _ALLOWED[name](value) for name, value in agreed.parameters):
        return False
    if offer.get("server_no_context_takeover") is not None and (
        agreed.get("server_no_context_takeover") is None
    ):
        return False
    if (asked := offer.get("server_max_window_bits")) is not None:
        given = agreed.get("server_max_window_bits")
        if given is None or (_is_bits(asked) and int(given) > int(asked)):
            return False
    return agreed.get("client_max_window_bits") is None or (
        offer.get("client_max_window_bits") is not None
    )


def _is_bits(value: str | None) -> bool:
    return value is not None and _BITS.fullmatch(value) is not None


def _is_absent(value: str | None) -> bool:
    return value is None


# the parameters that an answer may have, each with what its value may be
_ALLOWED: Mapping[str, Callable[[str | None], bool]] = {
    "server_no_context_takeover": _is_absent,
    "client_no_context_takeover": _is_absent,
    "server_max_window_bits": _is_bits,
    "client_max_window_bits": _is_bits,
}
# in the order of RFC 6455 §4.1
_RULES: tuple[Callable[[Asked | None, Fields], str | None], ...] = (
    _check_upgrade,
    _check_connection,
    _check_accept,
    _check_extensions,
    _check_subprotocol,
)
