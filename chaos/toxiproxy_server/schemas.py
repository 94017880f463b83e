"""JSON Schemas (draft 2020-12) of all bodies of the API, from the tables by which bodies are read and written."""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy
from typing import Any

from chaos.scenario.describe import keys_of, required_of, schema_of
from chaos.scenario.entries import entry_keys
from chaos.scenario.model import Entry, Trigger
from chaos.scenario.schema import what_of
from chaos.toxiproxy_server.go.wire import (
    MS_MAX,
    PROXY_FIELDS,
    TOXIC_FIELDS,
    served_faults,
    streams_of,
)
from chaos.toxiproxy_server.playable import REFUSED_KEYS, SEEN_EVENT
from chaos.vocabulary.base import DURATION_PATTERN
from chaos.vocabulary.faults import FAULTS
from chaos.vocabulary.toxics import TOXICS
from chaos.vocabulary.word import Kind
from chaos.vocabulary.words import WORDS

Schema = dict[str, Any]
_FLOAT32_END = float(2**128 - 2**103)  # from here on numbers round to infinity
_NONE_OR_OBJECT: Schema = {"type": ["object", "null"]}
# Go's types, as the original declares them
_GO: Mapping[str, Schema] = {
    "string": {"type": "string"},
    "bool": {"type": "boolean"},
    "float32": {
        "type": "number",
        "exclusiveMinimum": -_FLOAT32_END,
        "exclusiveMaximum": _FLOAT32_END,
    },
}
_SAYS = {
    "listen": "HOST:PORT to listen on; without it a free port of all interfaces",
    "upstream": "HOST:PORT to lead to; looked up for each connection",
    "enabled": "whether it accepts connections; true unless given",
    "stream": "`downstream` is what the server sends; any case",
    "toxicity": "share of connections that it applies to",
}


def ref(name: str) -> Schema:
    """Return a reference to a component."""
    return {"$ref": f"#/components/schemas/{name}"}


def components() -> dict[str, Schema]:
    """Return the schemas by name."""
    return {
        "Proxy": _proxy(),
        "Proxies": {"type": "object", "additionalProperties": ref("Proxy")},
        "ProxyInput": _proxy_input(needed=True),
        "ProxyUpdate": _proxy_input(needed=False),
        "PopulateInput": _populate_input(),
        "Populated": _closed({"proxies": _or_null(_list("Proxy"))}),
        "PopulateError": _closed({**_error(), "proxies": _or_null(_list("Proxy"))}),
        "Toxic": _one_of("Toxic", ""),
        "Toxics": _list("Toxic"),
        "ToxicInput": _one_of("Toxic", "Input"),
        "ToxicUpdate": _toxic_update(),
        **_toxics(),
        "Version": _closed({"version": {"type": "string"}}),
        "Error": _closed(_error()),
        "Connection": _connection(),
        "Connections": _list("Connection"),
        "TimelineInput": _timeline_input(),
        "TimelineEntry": {"anyOf": [ref(name) for name in _entries()]},
        **_entries(),
        "TimelineStatus": _timeline_status(),
        "OpenAPI": {"type": "object", "required": ["openapi", "info", "paths"]},
    }


def _closed(properties: Mapping[str, Schema], **more: Any) -> Schema:
    """Return the schema of an object that has just these keys, all of them."""
    return {
        "type": "object",
        "properties": dict(properties),
        "required": list(properties),
        "additionalProperties": False,
        **more,
    }


def _list(name: str) -> Schema:
    return {"type": "array", "items": ref(name)}


def _or_null(schema: Schema) -> Schema:
    if isinstance(schema.get("type"), str) and "enum" not in schema and "const" not in schema:
        return {**schema, "type": [schema["type"], "null"]}
    return {"anyOf": [schema, {"type": "null"}]}


def _said(name: str, schema: Schema) -> Schema:
    return {**schema, "description": _SAYS[name]} if name in _SAYS else dict(schema)


def _fields(table: Mapping[str, str]) -> dict[str, Schema]:
    return {name: _said(name, _GO[type_]) for name, type_ in table.items()}


def _proxy() -> Schema:
    logger: Schema = {"type": "object", "maxProperties": 0, "description": "always empty"}
    return _closed({**_fields(PROXY_FIELDS), "Logger": logger, "toxics": ref("Toxics")})


def _proxy_input(*, needed: bool) -> Schema:
    properties = {name: _or_null(schema) for name, schema in _fields(PROXY_FIELDS).items()}
    if needed:
        properties |= {name: {**_GO["string"], "minLength": 1} for name in ("name", "upstream")}
    properties["Logger"] = _NONE_OR_OBJECT
    schema: Schema = {"type": "object", "properties": properties}
    if needed:
        return {**schema, "required": ["name", "upstream"]}
    return _or_null(schema)


def _populate_input() -> Schema:
    row = _proxy_input(needed=True)
    other = ["object", "string", "number", "boolean", "null"]
    row["properties"]["toxics"] = {
        "description": "toxics to start with; what is no list is ignored",
        "anyOf": [_list("ToxicInput"), {"type": other}],
    }
    return {"type": ["array", "null"], "items": row}


def _error() -> dict[str, Schema]:
    return {"error": {"type": "string"}, "status": {"type": "integer"}}


def _toxic_types() -> tuple[str, ...]:
    return (*TOXICS, *served_faults())


def _one_of(before: str, after: str) -> Schema:
    names = {word: f"{before}_{word}{after}" for word in _toxic_types()}
    places = {word: ref(name)["$ref"] for word, name in names.items()}
    return {
        "oneOf": [ref(name) for name in names.values()],
        "discriminator": {"propertyName": "type", "mapping": places},
    }


def _toxics() -> dict[str, Schema]:
    found = {}
    for word in _toxic_types():
        found[f"Toxic_{word}"] = _toxic(word)
        found[f"Toxic_{word}Input"] = _toxic_input(word)
    return found


def _toxic(word: str) -> Schema:
    if word in TOXICS:
        numbers = {name: {"type": "integer"} for name in TOXICS[word].model_fields}
        attributes = _closed(numbers)
    else:
        attributes = _untitled(FAULTS[word].model_json_schema(by_alias=True, mode="serialization"))
        attributes["required"] = [
            key for key in attributes.get("required", []) if not _takes_null(attributes, key)
        ]
    common = _fields(TOXIC_FIELDS) | {"type": {"const": word}, "stream": _stream(word)}
    return _closed({"attributes": attributes, **common}, description=_what(word))


def _takes_null(schema: Schema, key: str) -> bool:
    options = schema["properties"][key].get("anyOf", ())
    return any(option.get("type") == "null" for option in options)


def _toxic_input(word: str) -> Schema:
    common = {name: _or_null(schema) for name, schema in _fields(TOXIC_FIELDS).items()}
    attributes = _toxic_attributes(word) if word in TOXICS else _fault_attributes(word)
    common |= {"type": {"const": word}, "stream": _or_null(_stream(word))}
    needed = ["type", *(["attributes"] if attributes.get("required") else [])]
    return {
        "description": _what(word),
        "type": "object",
        "properties": {**common, "attributes": attributes},
        "required": needed,
    }


def _what(word: str) -> str:
    return what_of(TOXICS[word] if word in TOXICS else FAULTS[word])


def _stream(word: str) -> Schema:
    anycase = ("".join(f"[{c}{c.upper()}]" for c in stream) for stream in streams_of(word))
    return _said("stream", {"type": "string", "pattern": f"^({'|'.join(anycase)})$"})


def _toxic_attributes(word: str) -> Schema:
    survived = TOXICS[word].survived()
    properties = {
        name: {
            "type": ["integer", "null"],
            "minimum": survived[name].lowest,
            "maximum": survived[name].highest,
            "default": 0,
            "description": field.description or "",
        }
        for name, field in TOXICS[word].model_fields.items()
    }
    return {**_NONE_OR_OBJECT, "properties": properties}


def _fault_attributes(word: str) -> Schema:
    schema = _untitled(deepcopy(schema_of(FAULTS[word])))
    schema["properties"] = {
        key: _timed(value) for key, value in schema.get("properties", {}).items()
    }
    return schema if schema.get("required") else _or_null(schema)


def _timed(schema: Schema) -> Schema:
    """Let a duration be a number of milliseconds too."""
    options = schema.get("anyOf", [schema])
    if not any(option.get("pattern") == DURATION_PATTERN for option in options):
        return schema
    notes: Schema = {key: schema[key] for key in ("description", "default") if key in schema}
    plain = [{key: item for key, item in option.items() if key not in notes} for option in options]
    number: Schema = {"type": "number", "minimum": 0, "maximum": MS_MAX, "description": "ms"}
    return {**notes, "anyOf": [*plain, number]}


def _untitled(schema: Schema) -> Schema:
    """Return a model's schema without what says nothing: titles, and its own description."""
    properties = schema.get("properties", {})
    for value in properties.values():
        value.pop("title", None)
    kept = {key: schema[key] for key in ("required",) if key in schema}
    return {"type": "object", "properties": properties, "additionalProperties": False, **kept}


def _toxic_update() -> Schema:
    return {
        **_NONE_OR_OBJECT,
        "description": "what is not given stays; `attributes` are those of the toxic's type",
        "properties": {
            "attributes": _NONE_OR_OBJECT,
            "toxicity": _or_null(_fields(TOXIC_FIELDS)["toxicity"]),
        },
    }


def _connection() -> Schema:
    counted = _closed({name: {"type": "integer"} for name in ("received", "sent")})
    return _closed(
        {
            "id": {"type": "integer"},
            "proxy": {"type": "string"},
            "client": {"type": "string", "description": "its address"},
            "upstream": {
                "type": "string",
                "description": "the server's address, empty before there is one",
            },
            "age_s": {"type": "number"},
            "bytes": _closed({"upstream": counted, "downstream": counted}),
            "toxics": {"type": "array", "items": {"type": "string"}},
        }
    )


def _timeline_input() -> Schema:
    name: Schema = {"type": "string", "minLength": 1, "description": "the proxy's name"}
    text: Schema = {"type": "string", "description": "a scenario file, YAML"}
    cell: Schema = {"type": ["string", "null"], "description": "of the scenario's matrix"}
    loop: Schema = {
        "type": ["boolean", "null"],
        "description": "play it again from the start at its end",
    }
    entries = _list("TimelineEntry")
    duration: Schema = {"type": "string", "pattern": DURATION_PATTERN}
    whole = {"proxy": name, "loop": loop, "scenario": text, "cell": cell}
    rows = {"proxy": name, "loop": loop, "timeline": entries, "duration": duration}
    return {
        "oneOf": [
            {**_closed(whole), "required": ["proxy", "scenario"]},
            {**_closed(rows), "required": ["proxy", "timeline", "duration"]},
        ]
    }


def _playable_words() -> list[tuple[Kind, str]]:
    kinds: tuple[Kind, ...] = ("toxic", "fault")
    playable = {*_toxic_types(), "down"}
    return [(kind, word) for kind in kinds for word in WORDS[kind] if word in playable]


def _entries() -> dict[str, Schema]:
    return {f"Entry_{kind}_{word}": _entry(kind, word) for kind, word in _playable_words()}


def _entry(kind: Kind, word: str) -> Schema:
    model = WORDS[kind][word]
    own = keys_of(model)
    properties: dict[str, Schema] = {kind: {"const": word}}
    for key in entry_keys(kind, word):
        if key == "attributes":
            inner = {name: _plain(schema) for name, schema in own.items()}
            properties[key] = {**_closed(inner), **_NONE_OR_OBJECT, "required": required_of(model)}
        elif kind == "fault" and key in own:
            properties[key] = _plain(own[key])
        elif key == "on":
            number = _plain(keys_of(Trigger)["number"])
            properties[key] = _closed({"event": {"const": SEEN_EVENT}, "number": number})
            properties[key]["required"] = ["event"]
        elif key not in REFUSED_KEYS:
            properties[key] = _plain(keys_of(Entry)[key])
    needed = [kind, *(required_of(model) if kind == "fault" else [])]
    when = [{"required": ["at"]}, {"required": ["on"]}]
    return {
        **_closed(properties),
        "required": needed,
        "oneOf": when,
        "description": what_of(model),
    }


def _plain(schema: Mapping[str, Any]) -> Schema:
    return {
        key: deepcopy(value) for key, value in schema.items() if key not in ("title", "default")
    }


def _timeline_status() -> Schema:
    step = _closed(
        {
            "at_s": {"type": "number"},
            "entry": {"type": "integer", "description": "its number in the timeline, from 1"},
            "name": {"type": "string"},
            "change": {"enum": ["on", "off", "instant"]},
        }
    )
    playing: dict[str, Schema] = {
        "playing": {"const": True},
        "proxy": {"type": "string"},
        "scenario": {"type": "string"},
        "elapsed_s": {"type": "number"},
        "of": {"type": "number", "description": "its length in seconds"},
        "in_force": {"type": "array", "items": {"type": "string"}},
        "waiting": {
            "type": "array",
            "items": {"type": "string"},
            "description": "entries that wait for a client to connect",
        },
        "loop": {"type": "boolean", "description": "whether it plays again at its end"},
        "round": {"type": "integer", "description": "how often it has started"},
        "next": _or_null(step),
    }
    return {"oneOf": [_closed({"playing": {"const": False}}), _closed(playing)]}
