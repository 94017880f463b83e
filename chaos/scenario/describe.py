"""Says in words what a key may hold: `expected …` in messages and the reference tables take their texts from here."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Any

from pydantic import BaseModel

from chaos.vocabulary.base import (
    BANDWIDTH_EXAMPLES,
    BANDWIDTH_PATTERN,
    DURATION_EXAMPLES,
    DURATION_PATTERN,
    SIZE_EXAMPLES,
    SIZE_PATTERN,
)

Schema = Mapping[str, Any]
# what a text with a unit is, by its pattern
_WITH_UNIT = {
    DURATION_PATTERN: f"a duration such as {DURATION_EXAMPLES}",
    BANDWIDTH_PATTERN: f"a bandwidth such as {BANDWIDTH_EXAMPLES}",
    SIZE_PATTERN: f"a size such as {SIZE_EXAMPLES}",
}


@cache
def schema_of(model: type[BaseModel]) -> dict[str, Any]:
    """Return the JSON Schema of a model, keys as scenarios write them. Do not change what is returned."""
    return model.model_json_schema(by_alias=True, mode="validation")


def keys_of(model: type[BaseModel]) -> dict[str, dict[str, Any]]:
    """Return the keys that scenarios write for this model, each with its JSON Schema, in order."""
    properties: dict[str, dict[str, Any]] = schema_of(model).get("properties", {})
    return properties


def required_of(model: type[BaseModel]) -> list[str]:
    """Return the keys that must be given."""
    required: list[str] = schema_of(model).get("required", [])
    return required


def describe_key(model: type[BaseModel], key: str) -> str:
    """Return what a key may hold: `a whole number from 1 to 100`."""
    return describe(keys_of(model)[key])


def describe(schema: Schema) -> str:
    """Return in words what a JSON Schema lets through; as far as this project's models go."""
    if "anyOf" in schema:
        options = [describe(option) for option in schema["anyOf"] if option.get("type") != "null"]
        return join_or(options)
    if "const" in schema or "enum" in schema:
        return join_or([str(word) for word in schema.get("enum", [schema.get("const")])])
    kind = schema.get("type")
    if kind in ("integer", "number"):
        return ("a whole number" if kind == "integer" else "a number") + _describe_range(schema)
    if kind == "string":
        return _describe_text(schema)
    if kind == "array":
        return _describe_list(schema)
    return "true or false" if kind == "boolean" else "a mapping"


def join_or(options: list[str]) -> str:
    """Return `a, b or c`."""
    return options[0] if len(options) == 1 else f"{', '.join(options[:-1])} or {options[-1]}"


def _describe_range(schema: Schema) -> str:
    low, high = schema.get("minimum"), schema.get("maximum")
    if "exclusiveMinimum" in schema:
        return f" above {schema['exclusiveMinimum']:g}"
    if low is not None and high is not None:
        return f" from {_format_number(low)} to {_format_number(high)}"
    return f" of at least {_format_number(low)}" if low is not None else ""


def _format_number(value: float) -> str:
    if value != int(value):
        return f"{value:g}"
    # close codes and the like read best as they are written
    return f"{value:,}".replace(",", " ") if abs(value) >= 10_000 else f"{value:.0f}"


def _describe_text(schema: Schema) -> str:
    pattern = schema.get("pattern")
    if schema.get("format") == "path":
        return "the name of a file"
    if pattern is not None:
        name = "lower case letters, digits, `.`, `_` and `-`, at most 80 in all, first a letter or digit"
        return _WITH_UNIT.get(pattern, name)
    longest = schema.get("maxLength")
    return f"text of at most {longest} characters" if longest else "text"


def _describe_list(schema: Schema) -> str:
    items = schema.get("items", {})
    if "enum" in items:
        return f"a list of {join_or([str(word) for word in items['enum']])}"
    if "prefixItems" in items:
        return "a list of [time, delay] pairs"
    names = {"integer": "whole numbers", "string": "texts"}
    return f"a list of {names.get(items.get('type', ''), 'mappings')}"
