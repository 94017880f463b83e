"""How the operations of the API are described, and its OpenAPI description (https://spec.openapis.org/oas/v3.1.0).

The schemas of bodies are JSON Schemas (draft 2020-12), made from the tables by which bodies are read and written.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Mapping
from copy import deepcopy
from dataclasses import dataclass, field
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

JSON = "application/json"
TEXT = "text/plain"
Schema = dict[str, Any]
_FLOAT32_END = float(2**128 - 2**103)  # from here on numbers round to infinity
_STRING: Schema = {"type": "string"}
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
_REQUEST_ID = {
    "X-Toxiproxy-Request-Id": {"required": True, "schema": {"type": "string", "pattern": "^[0-9a-v]{20}$"}}
}  # fmt: skip
_ABOUT = """\
Toxiproxy's API and this project's additions to it. Bodies are read as Go reads JSON:

* of Toxiproxy's own keys upper and lower case are the same; keys that it does not know are ignored;
* `null` leaves a value as it is or at its default, and a body of `null` is `{}`;
* only the first JSON value of a body counts; Content-Type is not looked at;
* `1.0` is no integer: attributes of toxics are written without a fraction and exponent.

Errors are JSON (`Error`) that is called `text/plain`, but for those of `/populate`. An address that cannot be had
is a 500, not a 400, as in the original: of all 5xx only these and the 503 of `/events` are sent. A path that is not
clean (`//`, `.`, `..`) is redirected with 301, one that does not exist is 404 with a line of text, a method that a
path does not have is 405 without a body and without Allow; HEAD and OPTIONS are such. A name with `/` in it can be
given, and cannot be addressed.
"""
_ERROR: dict[str, Schema] = {"error": _STRING, "status": {"type": "integer"}}
_ERRORS = {
    400: "the body, or a value in it, cannot be taken",
    403: "a browser, or a Host or Origin that is not served",
    404: "there is no such thing",
    409: "there is one already",
    413: "the body is too large",
    500: "the address to listen on cannot be had",
    503: "too many who listen already",
}
_PARAMETERS: dict[str, Schema] = {
    "proxy": {"type": "string", "pattern": "^[^/]+$"},
    "toxic": {"type": "string", "pattern": "^[^/]+$"},
    "id": {"type": "string", "pattern": "^[0-9]+$"},
}
_FIELD = re.compile(r"\{(\w+)\}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation:
    """One method of one route.

    `takes` and `gives` name schemas of `components`; without them there is no body. `refuses` has the
    statuses of its errors beside those that every operation has.
    """

    handler: Callable[..., Awaitable[Any]]
    does: str
    status: int = 200
    gives: str | None = None
    media: str = JSON
    takes: str | None = None
    refuses: tuple[int, ...] = ()
    refused_as_json: bool = False
    deprecated: bool = False
    query: Mapping[str, tuple[str, ...]] = field(default_factory=dict)  # parameters and their words


Table = Mapping[str, Mapping[str, Operation]]  # path → method → operation


def document(table: Table, version: str) -> dict[str, Any]:
    """Return the description of the operations in a table."""
    return {
        "openapi": "3.1.0",
        "info": {"title": "toxiproxy-server", "version": version, "description": _ABOUT},
        "paths": {path: _path(path, table) for path in table},
        "components": {"schemas": components()},
    }


def _path(path: str, table: Table) -> dict[str, Any]:
    parameters = [
        {"name": name, "in": "path", "required": True, "schema": _PARAMETERS[name]}
        for name in _FIELD.findall(path)
    ]
    methods = {method.lower(): _operation(path, method, table) for method in table[path]}
    return {**({"parameters": parameters} if parameters else {}), **methods}


def operation_id(path: str, method: str) -> str:
    """Return the name of an operation: `get_proxies_proxy`."""
    words = re.sub(r"[^\w]+", "_", path).strip("_")
    return f"{method.lower()}_{words or 'page'}"


def _operation(path: str, method: str, table: Table) -> dict[str, Any]:
    operation = table[path][method]
    return _without_none(
        {
            "operationId": operation_id(path, method),
            "summary": operation.does,
            "deprecated": operation.deprecated or None,
            "parameters": [
                {"name": name, "in": "query", "schema": {"enum": [*words], "default": words[0]}}
                for name, words in operation.query.items()
            ]
            or None,
            "requestBody": {"required": True, "content": {JSON: {"schema": ref(operation.takes)}}}
            if operation.takes
            else None,
            "responses": _responses(path, method, table),
        }
    )


def _responses(path: str, method: str, table: Table) -> dict[str, Any]:
    operation = table[path][method]
    schema = ref(operation.gives) if operation.gives else _STRING
    makes = method == "POST" and operation.gives in ("Proxy", "Toxic")
    success = {
        "description": "done",
        "headers": _REQUEST_ID,
        "content": None if operation.status == 204 else {operation.media: {"schema": schema}},
        "links": _links(path, table) if makes else None,
    }
    statuses = {403, *operation.refuses, *((400, 413) if operation.takes else ())}
    refusals = {str(status): _refusal(status, operation) for status in sorted(statuses)}
    return {str(operation.status): _without_none(success), **refusals}


def _without_none(told: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in told.items() if value is not None}


def _refusal(status: int, operation: Operation) -> dict[str, Any]:
    if operation.refused_as_json and status != 403:
        content = {JSON: {"schema": ref("PopulateError")}}
    else:
        schema = {"type": "string", "contentMediaType": JSON, "contentSchema": ref("Error")}
        content = {TEXT: {"schema": _STRING if status == 403 else schema}}
    return {"description": _ERRORS[status], "content": content}


def _links(path: str, table: Table) -> dict[str, dict[str, Any]]:
    """Return what can be asked of a thing that an operation has made."""
    known = {name: f"$request.path.{name}" for name in _FIELD.findall(path)}
    links = {}
    for other, methods in table.items():
        match = _FIELD.match(other.removeprefix(path).lstrip("/"))
        if match is None or len(_FIELD.findall(other)) > len(known) + 1:
            continue
        parameters = {**known, match[1]: "$response.body#/name"}
        for target in (operation_id(other, method) for method in methods):
            links[target] = {"operationId": target, "parameters": parameters}
    return links


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
        "PopulateError": _closed({**_ERROR, "proxies": _or_null(_list("Proxy"))}),
        "Toxic": _any_toxic(),
        "Toxics": _list("Toxic"),
        "ToxicInput": _any_toxic("Input"),
        "ToxicUpdate": _toxic_update(),
        **_toxics(),
        "Version": _closed({"version": {"type": "string"}}),
        "Error": _closed(_ERROR),
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
    logger = {"Logger": {"type": "object", "maxProperties": 0, "description": "always empty"}}
    return _closed(_fields(PROXY_FIELDS) | logger | {"toxics": ref("Toxics")})


def _proxy_input(*, needed: bool) -> Schema:
    properties = {name: _or_null(schema) for name, schema in _fields(PROXY_FIELDS).items()}
    if needed:
        properties |= {name: {**_GO["string"], "minLength": 1} for name in ("name", "upstream")}
    properties["Logger"] = _NONE_OR_OBJECT
    schema: Schema = {"type": "object", "properties": properties}
    return {**schema, "required": ["name", "upstream"]} if needed else _or_null(schema)


def _populate_input() -> Schema:
    row = _proxy_input(needed=True)
    row["properties"]["toxics"] = {
        "description": "toxics to start with; what is no list is ignored",
        "anyOf": [
            _list("ToxicInput"),
            {"type": ["object", "string", "number", "boolean", "null"]},
        ],
    }
    return {"type": ["array", "null"], "items": row}


def _toxic_types() -> tuple[str, ...]:
    return (*TOXICS, *served_faults())


def _any_toxic(suffix: str = "") -> Schema:
    refs = {word: ref(f"Toxic_{word}{suffix}") for word in _toxic_types()}
    places = {word: row["$ref"] for word, row in refs.items()}
    return {
        "oneOf": list(refs.values()),
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
        attributes = _closed({name: {"type": "integer"} for name in TOXICS[word].model_fields})
    else:
        attributes = _untitled(FAULTS[word].model_json_schema(by_alias=True, mode="serialization"))
        attributes["required"] = [
            key
            for key in attributes.get("required", [])
            if {"type": "null"} not in attributes["properties"][key].get("anyOf", ())
        ]
    common = _fields(TOXIC_FIELDS) | {"type": {"const": word}, "stream": _stream(word)}
    return _closed({"attributes": attributes, **common}, description=_what(word))


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
    server = {**_STRING, "description": "the server's address, empty before there is one"}
    return _closed(
        {
            "id": {"type": "integer"},
            "proxy": _STRING,
            "client": {**_STRING, "description": "its address"},
            "upstream": server,
            "age_s": {"type": "number"},
            "bytes": _closed({"upstream": counted, "downstream": counted}),
            "toxics": {"type": "array", "items": _STRING},
        }
    )


def _timeline_input() -> Schema:
    loop = {"type": ["boolean", "null"], "description": "play it again from the start at its end"}
    common: dict[str, Schema] = {
        "proxy": {**_STRING, "minLength": 1, "description": "the proxy's name"},
        "loop": loop,
    }
    whole = common | {
        "scenario": {**_STRING, "description": "a scenario file, YAML"},
        "cell": {"type": ["string", "null"], "description": "of the scenario's matrix"},
    }
    rows = common | {
        "timeline": _list("TimelineEntry"),
        "duration": {**_STRING, "pattern": DURATION_PATTERN},
    }
    return {
        "oneOf": [
            {**_closed(whole), "required": ["proxy", "scenario"]},
            {**_closed(rows), "required": ["proxy", "timeline", "duration"]},
        ]
    }


def _entries() -> dict[str, Schema]:
    kinds: tuple[Kind, ...] = ("toxic", "fault")
    playable = {*_toxic_types(), "down"}
    return {
        f"Entry_{kind}_{word}": _entry(kind, word)
        for kind in kinds
        for word in WORDS[kind]
        if word in playable
    }


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
    return {
        **_closed(properties),
        "required": [kind, *(required_of(model) if kind == "fault" else [])],
        "oneOf": [{"required": ["at"]}, {"required": ["on"]}],
        "description": what_of(model),
    }


def _plain(schema: Mapping[str, Any]) -> Schema:
    return {
        key: deepcopy(value) for key, value in schema.items() if key not in ("title", "default")
    }


def _timeline_status() -> Schema:
    step = {
        "at_s": {"type": "number"},
        "entry": {"type": "integer", "description": "its number in the timeline, from 1"},
        "name": _STRING,
        "change": {"enum": ["on", "off", "instant"]},
    }
    names: Schema = {"type": "array", "items": _STRING}
    playing: dict[str, Schema] = {
        "playing": {"const": True},
        "proxy": _STRING,
        "scenario": _STRING,
        "elapsed_s": {"type": "number"},
        "of": {"type": "number", "description": "its length in seconds"},
        "in_force": names,
        "waiting": {**names, "description": "entries that wait for a client to connect"},
        "loop": {"type": "boolean", "description": "whether it plays again at its end"},
        "round": {"type": "integer", "description": "how often it has started"},
        "next": _or_null(_closed(step)),
    }
    return {"oneOf": [_closed({"playing": {"const": False}}), _closed(playing)]}
