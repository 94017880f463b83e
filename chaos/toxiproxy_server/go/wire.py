"""Toxiproxy's JSON in and out: proxies, toxics, attributes and errors, worded as Toxiproxy 2.12.0 words them.

Defaults and type errors follow Go's decoder (api.go, proxy_collection.go, toxic_collection.go); all of it was
compared with the original's answers. Beyond the original: the faults of `chaos.vocabulary.faults` as toxic types.
"""

from __future__ import annotations

from collections.abc import Container, Mapping
from dataclasses import dataclass, replace
from typing import Any

from pydantic import ValidationError

from chaos.toxiproxy_server.go.gojson import (
    Float32,
    Number,
    Object,
    SyntaxMistake,
    clean,
    kind,
    read,
    to_float32,
)
from chaos.trace import Stream
from chaos.vocabulary.base import Seconds
from chaos.vocabulary.faults import FAULTS, Fault
from chaos.vocabulary.toxics import TOXICS
from chaos.vocabulary.toxics import Toxic as ToxicSettings

_INT64 = range(-(1 << 63), 1 << 63)


def served_faults() -> dict[str, type[Fault]]:
    """Return the faults that are types of toxics here: those that act on streams, by their words."""
    return {word: fault for word, fault in FAULTS.items() if fault.served}


PROXY_FIELDS = {"name": "string", "listen": "string", "upstream": "string", "enabled": "bool"}
_PROXY_TYPE = "toxiproxy.Proxy"
_POPULATE_TYPE = 'struct { toxiproxy.Proxy; Enabled *bool "json:\\"enabled\\"" }'
TOXIC_FIELDS = {"name": "string", "type": "string", "stream": "string", "toxicity": "float32"}
# beyond it a time of our faults is a mistake: floats no longer tell one ms from the next
MS_MAX = (1 << 53) - 1
_UPDATE_TYPE = 'struct { Attributes interface {} "json:\\"attributes\\""; Toxicity float32 "json:\\"toxicity\\"" }'


class ApiError(Exception):
    """What the API answers instead of a result."""

    def __init__(self, message: str, status: int) -> None:
        super().__init__(message)
        self.message = message
        self.status = status

    def body(self) -> dict[str, Any]:
        """Return the answer's body."""
        return {"error": self.message, "status": self.status}


def bad_body(reason: str) -> ApiError:
    """Return the answer to a body that cannot be read."""
    return ApiError(f"bad request body: {reason}", 400)


@dataclass(frozen=True, slots=True, kw_only=True)
class ProxyInput:
    """A proxy as a request asks for it; None is what the request leaves open."""

    name: str = ""
    listen: str | None = None
    upstream: str | None = None
    enabled: bool | None = None
    toxics: tuple[Toxic, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Toxic:
    """A toxic of a proxy: as the API shows it, and the settings that machines take."""

    name: str
    type: str
    stream: str  # as it was typed
    toxicity: Float32
    attributes: Mapping[str, Any]
    settings: ToxicSettings | Fault

    @property
    def streams(self) -> tuple[Stream, ...]:
        """The directions it acts on."""
        word = self.stream.lower()
        both: tuple[Stream, ...] = ("upstream", "downstream")
        return both if word == "both" else tuple(stream for stream in both if stream == word)

    def body(self) -> dict[str, Any]:
        """Return it as the API shows it."""
        return {
            "attributes": self.attributes,
            "name": self.name,
            "type": self.type,
            "stream": self.stream,
            "toxicity": self.toxicity,
        }


def read_body(text: bytes) -> Any:
    """Return the first JSON value of a request body. Raises ApiError (400)."""
    try:
        return read(text)
    except SyntaxMistake as mistake:
        raise bad_body(str(mistake)) from None


def read_proxy(value: Any) -> ProxyInput:
    """Read the body of a proxy's creation or update. Raises ApiError (400)."""
    objects = {"logger": _Place("Proxy.Logger", "zerolog.Logger")}
    return ProxyInput(**_struct(value, PROXY_FIELDS, "Proxy", _PROXY_TYPE, objects))


def read_populate(value: Any) -> list[ProxyInput]:
    """Read and check the body of /populate, toxics included. Raises ApiError (400) and then nothing may be done."""
    if value is not None and (isinstance(value, Object) or not isinstance(value, list)):
        raise bad_body(_no_value(value, f"[]{_POPULATE_TYPE}"))
    rows = [(row, _populate_row(row)) for row in value or ()]
    for number, (_, row) in enumerate(rows, 1):
        require(row, f" at proxy {number}")
    found = []
    for number, (given, row) in enumerate(rows, 1):
        try:
            found.append(replace(row, toxics=_populate_toxics(given)))
        except ApiError as error:
            raise ApiError(f"{error.message} at proxy {number}", error.status) from None
    return found


def require(proxy: ProxyInput, where: str = "") -> None:
    """See that a proxy has what every proxy needs. Raises ApiError (400)."""
    for field in ("name", "upstream"):
        if not getattr(proxy, field):
            raise ApiError(f"missing required field: {field}{where}", 400)


def read_toxic(value: Any, taken: Container[str]) -> Toxic:
    """Read a new toxic. Raises ApiError: 409 if its name is among those taken, else 400."""
    objects = {
        "attributes": _Place("ToxicWrapper.attributes", "toxics.NoopToxic", nulled="toxics.Toxic")
    }
    row = _struct(value, TOXIC_FIELDS, "ToxicWrapper", "toxics.ToxicWrapper", objects)
    word = row.get("type", "")
    stream = row.get("stream", "both" if word in served_faults() else "downstream")
    if stream.lower() not in streams_of(word):
        raise ApiError("stream was invalid, can be either upstream or downstream", 400)
    if word not in TOXICS and word not in served_faults():
        raise ApiError("invalid toxic type", 400)
    name = row.get("name") or f"{word}_{stream}"
    if name in taken:
        raise ApiError("toxic already exists", 409)
    known, settings = _settings(word, {}, _attributes(value))
    return Toxic(
        name=name,
        type=word,
        stream=stream,
        toxicity=row.get("toxicity", Float32(1.0)),
        attributes=known,
        settings=settings,
    )


def streams_of(word: str) -> tuple[str, ...]:
    """Return what the stream of a type of toxics may be; only our faults act on both at once."""
    return ("upstream", "downstream", "both")[: 3 if word in served_faults() else 2]


def update_toxic(toxic: Toxic, value: Any) -> Toxic:
    """Return a toxic as an update makes it; other keys than attributes and toxicity are ignored. Raises ApiError."""
    whole = f"toxics.{getattr(toxic.settings, 'go_name', toxic.type)}"
    objects = {"attributes": _Place(".attributes", whole, nulled="")}
    row = _struct(value, {"toxicity": "float32"}, "", _UPDATE_TYPE, objects)
    known, settings = _settings(toxic.type, toxic.attributes, _attributes(value))
    return replace(
        toxic, attributes=known, settings=settings, toxicity=row.get("toxicity", toxic.toxicity)
    )


def _populate_row(row: Any) -> ProxyInput:
    objects = {"logger": _Place(".Proxy.Logger", "zerolog.Logger")}
    where = {"enabled": ""}  # it stands beside the proxy there, not in it
    return ProxyInput(
        **_struct(row, PROXY_FIELDS, ".Proxy", _POPULATE_TYPE, objects, elsewhere=where)
    )


def _populate_toxics(row: Any) -> tuple[Toxic, ...]:
    """Read the toxics of an entry; what is no list of them is ignored, as the original ignores all."""
    toxics: dict[str, Toxic] = {}
    given_list = next((item for key, item in row if key.casefold() == "toxics"), None)
    if isinstance(given_list, Object) or not isinstance(given_list, list):
        return ()
    for given in given_list:
        toxic = read_toxic(given, toxics)
        toxics[toxic.name] = toxic
    return tuple(toxics.values())


def _struct(
    value: Any,
    fields: Mapping[str, str],
    where: str,
    whole: str,
    objects: Mapping[str, _Place] | None = None,
    *,
    elsewhere: Mapping[str, str] | None = None,
) -> dict[str, Any]:
    """Return the known fields of an object; null and missing ones are left out, as Go leaves them as they were.

    Args:
        fields: their names and Go types.
        where, whole: what Go calls the struct, in the place of a field and as a type.
        objects: keys that must be objects and are read by others.
        elsewhere: fields that stand in another struct, and what that is called; null clears them.

    Raises:
        ApiError: of the first mistake in the order of the text (400).
    """
    objects, elsewhere = objects or {}, elsewhere or {}
    if value is None:
        return {}
    if not isinstance(value, Object):
        raise bad_body(_no_value(value, whole))
    found: dict[str, Any] = {}
    nulled = set()
    for key, item in value:
        name = key.casefold()
        if item is None:
            nulled.add(name)
            if name in elsewhere:
                found.pop(name, None)
        elif name in fields:
            found[name] = _convert(item, fields[name], f"{elsewhere.get(name, where)}.{name}")
        elif name in objects:
            objects[name].check(item, nulled=name in nulled)
    return found


@dataclass(frozen=True, slots=True)
class _Place:
    """Where an object stands, in Go's words, and of which type it is.

    `nulled`: the type once null has been there, which nothing fits; empty for one that takes anything and is ignored.
    """

    where: str
    type: str
    nulled: str | None = None

    def check(self, item: Any, *, nulled: bool) -> None:
        """Raise ApiError (400) unless the object may stand here."""
        if nulled and self.nulled is not None:
            if self.nulled:
                raise bad_body(_no_field(item, self.where, self.nulled))
        elif not isinstance(item, Object):
            raise bad_body(_no_field(item, self.where, self.type))


def _attributes(value: Any) -> Object:
    """Return all attributes of a toxic's body, which `_struct` has seen to be objects; none behind a null."""
    found = Object()
    for key, item in value or ():
        if key.casefold() == "attributes":
            if item is None:
                break
            found += item
    return found


def _settings(
    word: str, current: Mapping[str, Any], given: Object
) -> tuple[dict[str, Any], ToxicSettings | Fault]:
    """Return what a toxic's attributes become, and the settings that they are."""
    fault = served_faults().get(word)
    if fault is not None:
        return _fault_settings(fault, current, given)
    type_ = TOXICS[word]
    known = {name: current.get(name, 0) for name in type_.model_fields}
    known |= _struct(
        given, dict.fromkeys(known, type_.go_type), f"{type_.go_name}.attributes", "interface {}"
    )
    survived = type_.survived()
    for name, number in known.items():
        lowest, highest = survived[name]
        if not lowest <= number <= highest:
            raise bad_body(f"expected attributes.{name} from {lowest} to {highest}, got {number}")
    # the original takes negative times as none; a negative latency may still be lifted by jitter
    meant = {
        name: number if name == "latency" else max(0, number) for name, number in known.items()
    }
    return known, type_.model_construct(None, **meant)


def _fault_settings(
    type_: type[Fault], current: Mapping[str, Any], given: Object
) -> tuple[dict[str, Any], Fault]:
    """Read the attributes of one of our faults: durations with a unit as in scenario files, or a number of ms."""
    keys = {field.alias or name: name for name, field in type_.model_fields.items()}
    wanted = dict(current)
    for key, item in given:
        if key not in keys:
            known = ", ".join(keys) or "none"
            raise bad_body(f"unknown attributes.{key}, expected {known}")
        timed = keys[key].endswith("_s") and isinstance(item, Number)
        wanted[key] = _milliseconds(key, item) if timed else plain(item)
    try:
        settings = type_.model_validate(wanted)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(["attributes", *(str(part) for part in first["loc"])])
        raise bad_body(f"{where}: {first['msg'].removeprefix('Value error, ')}") from None
    shown = settings.model_dump(mode="json", by_alias=True, exclude_none=True)
    return shown, settings


def _milliseconds(key: str, number: Number) -> Seconds:
    ms = float(number)
    if not 0 <= ms <= MS_MAX:
        raise bad_body(f"expected attributes.{key} from 0 to {MS_MAX} ms, got {number}")
    return Seconds(ms / 1000)


def plain(item: Any) -> Any:
    """Return a decoded value as Python's own types; of repeated keys the last one counts."""
    if isinstance(item, Object):
        return {key: plain(value) for key, value in item}
    if isinstance(item, list):
        return [plain(value) for value in item]
    if isinstance(item, Number):
        # Python refuses to convert integers of thousands of digits
        whole = item.lstrip("-").isdigit() and len(item) <= 20
        return int(item) if whole else float(item)
    return clean(item) if isinstance(item, str) else item


def _convert(item: Any, type_: str, where: str) -> Any:
    if type_ == "string" and isinstance(item, str) and not isinstance(item, Number):
        return clean(item)
    if type_ == "bool" and isinstance(item, bool):
        return item
    if isinstance(item, Number) and type_ in ("int", "int64", "float32"):
        number = _number(item, type_)
        if number is None:
            raise bad_body(_no_field(item, where, type_, f"number {item}"))
        return number
    raise bad_body(_no_field(item, where, type_))


def _number(item: Number, type_: str) -> int | Float32 | None:
    """Return a number of Go's type, or None if it does not fit."""
    if type_ == "float32":
        try:
            return to_float32(float(item))
        except OverflowError:
            return None
    if not item.lstrip("-").isdigit() or len(item) > 20:
        return None
    return int(item) if int(item) in _INT64 else None


def _no_value(value: Any, whole: str) -> str:
    return f"json: cannot unmarshal {kind(value)} into Go value of type {whole}"


def _no_field(value: Any, where: str, type_: str, what: str | None = None) -> str:
    return (
        f"json: cannot unmarshal {what or kind(value)} into Go struct field {where} of type {type_}"
    )
