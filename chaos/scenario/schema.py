"""Generates the JSON Schema of scenario files, for editors, from the models and the vocabulary.

The schema knows keys, words and values, not what holds between values: `trio-chaos validate` has the last word.
`trio-chaos schema` prints it.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from copy import deepcopy
from typing import Any

from pydantic import BaseModel

from chaos.scenario.describe import keys_of, required_of, schema_of
from chaos.scenario.entries import entry_keys
from chaos.scenario.load import top_keys
from chaos.scenario.model import Client, Entry, Expectation, Scenario, Server, Workload
from chaos.scenario.paths import Paths
from chaos.vocabulary.base import DURATION_PATTERN, format_duration
from chaos.vocabulary.checks import CHECKS
from chaos.vocabulary.word import Kind
from chaos.vocabulary.words import KINDS, WORDS

SCHEMA_ID = "urn:trio-chaos:scenario:1"

_VARIABLE = {"$ref": "#/$defs/variable"}
_OWN_KEYS = {"^x-": {"description": "your own; ignored"}}
_SCALAR = {"type": ["string", "number", "boolean"]}


def json_schema() -> dict[str, Any]:
    """Return the JSON Schema (draft 2020-12) of a scenario file."""
    keys = top_keys()
    properties = {
        key: _value_schema(schema) for key, schema in keys_of(Scenario).items() if key in keys
    }
    for section, (items, description) in _SECTIONS.items():
        properties[section] = {
            "description": description,
            "type": ["array", "null"],
            "items": {"$ref": f"#/$defs/{items}"},
        }
    for section in ("server", "client"):
        properties[section] = {"$ref": f"#/$defs/{section}"}
    properties["variables"] = _variables_schema()
    properties["matrix"] = _matrix_schema()
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": SCHEMA_ID,
        "title": "trio-chaos scenario",
        "description": "Who talks to whom, which faults hit when, and what must hold.",
        **_mapping_schema({key: properties[key] for key in keys}, required_of(Scenario)),
        "$defs": _definitions(),
    }


# each section that is a list: what its items are called here, and what it is
_SECTIONS = {
    "workload": ("workload", "messages that are sent all the time"),
    "timeline": ("entry", "which faults hit when"),
    "expect": ("expectation", "what must hold"),
}


def _definitions() -> dict[str, Any]:
    definitions: dict[str, Any] = {
        "variable": {
            "description": "a reference to a variable",
            "type": "string",
            "pattern": r"\$\{",
        },
        "server": _model_schema(Server),
        "client": _model_schema(Client),
        "workload": _model_schema(Workload),
        "Paths": _model_schema(Paths),
    }
    for model in (Server, Client, Entry, Paths):
        for name, schema in schema_of(model).get("$defs", {}).items():
            definitions[name] = _definition(schema)
    for key, schema in keys_of(Entry).items():
        if key not in ("kind", "word", "parameters"):
            definitions[f"entry-{key}"] = _value_schema(schema)
    entries = {
        f"{kind}-{word}": _entry_schema(kind, word) for kind in KINDS for word in WORDS[kind]
    }
    checks = {f"check-{word}": _check_schema(word) for word in CHECKS}
    one_of_checks = [_bare_checks_schema(), *_references(checks), _own_check_schema()]
    return {
        **definitions,
        **entries,
        "entry": {"description": "one timeline entry", "anyOf": _references(entries)},
        **checks,
        "expectation": {"anyOf": one_of_checks},
    }


def _references(names: Iterable[str]) -> list[dict[str, Any]]:
    return [{"$ref": f"#/$defs/{name}"} for name in names]


def _mapping_schema(properties: dict[str, Any], required: list[str]) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": properties,
        "patternProperties": _OWN_KEYS,
        "additionalProperties": False,
        **({"required": required} if required else {}),
    }


def _model_schema(model: type[BaseModel]) -> dict[str, Any]:
    return _definition(schema_of(model))


def _definition(schema: dict[str, Any]) -> dict[str, Any]:
    properties = {key: _value_schema(value) for key, value in schema["properties"].items()}
    description = {"description": schema["description"]} if "description" in schema else {}
    return {**description, **_mapping_schema(properties, schema.get("required", []))}


def _value_schema(schema: dict[str, Any]) -> dict[str, Any]:
    """Return the schema of a value, to which a variable may refer wherever it is a single one."""
    schema = deepcopy(schema)
    schema.pop("title", None)
    if schema.get("default") is not None and DURATION_PATTERN in json.dumps(schema).replace(
        "\\\\", "\\"
    ):
        schema["default"] = format_duration(schema["default"])
    if "anyOf" in schema:
        schema["anyOf"] = [*map(_part_schema, schema["anyOf"]), _VARIABLE]
        return schema
    if "$ref" in schema or schema.get("type") in ("array", "object"):
        return _part_schema(schema)
    notes: dict[str, Any] = {
        key: schema.pop(key) for key in ("description", "default") if key in schema
    }
    return {**notes, "anyOf": [schema, _VARIABLE]}


def _part_schema(schema: dict[str, Any]) -> dict[str, Any]:
    if schema.get("type") == "array" and "items" in schema:
        return {**schema, "items": _value_schema(schema["items"])}
    if "prefixItems" in schema:
        return {**schema, "prefixItems": [_value_schema(item) for item in schema["prefixItems"]]}
    if isinstance(schema.get("additionalProperties"), dict):
        return {**schema, "additionalProperties": _value_schema(schema["additionalProperties"])}
    return schema


def _entry_schema(kind: Kind, word: str) -> dict[str, Any]:
    model = WORDS[kind][word]
    parameters = keys_of(model)
    properties: dict[str, Any] = {kind: {"const": word, "description": what_of(model)}}
    for key in entry_keys(kind, word):
        if key == "attributes":
            attributes = {name: _value_schema(schema) for name, schema in parameters.items()}
            properties[key] = {
                **_mapping_schema(attributes, required_of(model)),
                "type": ["object", "null"],
            }
        elif kind != "toxic" and key in parameters:
            properties[key] = _value_schema(parameters[key])
        else:
            properties[key] = {"$ref": f"#/$defs/entry-{key}"}
    required = [kind, *([] if kind == "toxic" else required_of(model))]
    when = [{"required": ["at"]}, {"required": ["on"]}]
    return {"description": what_of(model), **_mapping_schema(properties, required), "oneOf": when}


def what_of(model: type[BaseModel]) -> str:
    """Return what a word means: the docstring of its model, on one line."""
    return " ".join((model.__doc__ or "").split())


def _check_schema(word: str) -> dict[str, Any]:
    model = CHECKS[word]
    properties = {key: _value_schema(schema) for key, schema in keys_of(model).items()}
    properties["tolerance"] = _value_schema(keys_of(Expectation)["tolerance"])
    inner = _mapping_schema(properties, required_of(model))
    if not required_of(model):
        inner["type"] = ["object", "null"]
    inner["description"] = what_of(model)
    return _mapping_schema({word: inner}, [word])


def _bare_checks_schema() -> dict[str, Any]:
    words = [word for word, model in CHECKS.items() if not required_of(model)]
    return {"description": "a check without parameters", "enum": words}


def _own_check_schema() -> dict[str, Any]:
    use = {"type": "string", "pattern": ":", "description": "`my.module:check`"}
    return {
        "description": "a check of your own, with its parameters",
        "type": "object",
        "properties": {"use": use, "tolerance": _value_schema(keys_of(Expectation)["tolerance"])},
        "required": ["use"],
    }


def _variables_schema() -> dict[str, Any]:
    return {
        "description": "values by name, filled in where `${name}` stands",
        "type": ["object", "null"],
        "patternProperties": _OWN_KEYS,
        "additionalProperties": _SCALAR,
    }


def _matrix_schema() -> dict[str, Any]:
    rows = {"type": "array", "items": {"type": "object", "additionalProperties": _SCALAR}}
    return {
        "description": "the scenario once for each combination of these values of variables",
        "type": "object",
        "properties": {
            "include": {**rows, "description": "further cells"},
            "exclude": {**rows, "description": "combinations to leave out"},
        },
        "patternProperties": _OWN_KEYS,
        "additionalProperties": {"type": "array", "minItems": 1, "items": _SCALAR},
    }


def schema_text() -> str:
    """Return the JSON Schema as it stands in the file."""
    return json.dumps(json_schema(), indent=2, ensure_ascii=False) + "\n"
