"""Turns nodes into settings.

pydantic judges the values; this file finds where each mistake stands, what was expected there, and what was probably
meant.
"""

from __future__ import annotations

import re
from collections.abc import Mapping as Map
from typing import Any, TypeVar, get_args

from pydantic import ValidationError

from chaos.scenario.describe import describe_key, keys_of, required_of
from chaos.scenario.model import DURATION_S_MAX
from chaos.scenario.nodes import (
    Mapping,
    Mark,
    Mistakes,
    Node,
    Scalar,
    Sequence,
    descend,
    nearest_word,
    to_plain,
)
from chaos.vocabulary.base import (
    BANDWIDTH_EXAMPLES,
    BANDWIDTH_PATTERN,
    DURATION_EXAMPLES,
    SIZE_EXAMPLES,
    SIZE_PATTERN,
    Settings,
)
from chaos.vocabulary.toxics import Toxic

Model = TypeVar("Model", bound=Settings)

_UNITS = {
    "ms": "ms", "msec": "ms", "millis": "ms", "milliseconds": "ms", "millisecond": "ms",
    "": "s", "s": "s", "sec": "s", "secs": "s", "second": "s", "seconds": "s",
    "m": "m", "min": "m", "mins": "m", "minute": "m", "minutes": "m",
    "h": "h", "hr": "h", "hrs": "h", "hour": "h", "hours": "h",
}  # fmt: skip


_AMOUNTS = (
    ("bandwidth", BANDWIDTH_PATTERN, BANDWIDTH_EXAMPLES),
    ("size", SIZE_PATTERN, SIZE_EXAMPLES),
)
_NEEDS_UNIT = "`{}` needs a number with its unit"
_ITEMS = {"a list of texts": "text", "a list of whole numbers": "a whole number"}


def parse_settings(
    node: Node,
    model: type[Model],
    mistakes: Mistakes,
    *,
    what: str,
    hints: Map[str, str] | None = None,
    given: Map[str, Any] | None = None,
    placeholders: Map[str, Any] | None = None,
    also: tuple[str, ...] = (),
) -> Model | None:
    """Return the settings that a mapping holds, or None; every mistake in it is noted.

    `what` says whose keys they are. `hints` are sentences for keys that are wrong in a known way. `given` are
    values that come from elsewhere than the mapping. `also` are further keys, for messages only.
    `placeholders` stand in for required keys that are wrong or missing, so that the rest can still be judged.
    """
    if not isinstance(node, Mapping):
        mistakes.add(
            node.mark, f"{what} must be a mapping", value=node, expected="`key: value` pairs"
        )
        return None
    before = len(mistakes)
    values = {**_values(node, model, mistakes, what, hints=hints or {}, also=also), **(given or {})}
    try:
        return model.model_validate(values, strict=True)
    except ValidationError as error:
        # a mistake between keys is not told beside that of a key: it may follow from it
        wrong = _note(error, node, model, mistakes, what, whole=len(mistakes) == before)
    kept = {key: value for key, value in values.items() if key not in wrong}
    try:
        return model.model_validate({**(placeholders or {}), **kept}, strict=True)
    except ValidationError:
        return None


def _values(
    node: Mapping,
    model: type[Settings],
    mistakes: Mistakes,
    what: str,
    *,
    hints: Map[str, str],
    also: tuple[str, ...],
) -> dict[str, Any]:
    """Return the known keys with plain values; nested settings are parsed, unknown keys noted."""
    known = keys_of(model)
    fields = {field.alias or name: field for name, field in model.model_fields.items()}
    values: dict[str, Any] = {}
    for key, mark, value in node.modelled():
        if key not in known:
            unknown_key(mistakes, mark, key, what, [*known, *also], hint=hints.get(key))
            continue
        annotation = fields[key].annotation
        nested = nested_model(annotation)
        if nested is not None and isinstance(value, Mapping):
            inner = parse_settings(value, nested, mistakes, what=f"`{key}`", hints=hints)
            if inner is not None or key in required_of(model):
                # its own mistakes are noted; an empty one keeps it from being called missing
                values[key] = inner or {}
        elif isinstance(value, Sequence) and "tuple" in str(annotation):
            values[key] = tuple(to_plain(value))
        else:
            values[key] = to_plain(value)
    return values


def nested_model(annotation: Any) -> type[Settings] | None:
    """Return the settings class in an annotation such as `Heartbeat | None`."""
    for option in (annotation, *get_args(annotation)):
        if isinstance(option, type) and issubclass(option, Settings):
            return option
    return None


def unknown_key(
    mistakes: Mistakes,
    mark: Mark,
    key: str,
    what: str,
    known: list[str],
    *,
    hint: str | None = None,
) -> None:
    """Note a key that is not known here, with the nearest one that is."""
    nearest = nearest_word(key, known) if hint is None else None
    expected = hint or (f"one of {', '.join(known)}" if known else "no keys at all")
    mistakes.add(
        mark,
        f"unknown key `{key[:60]}` in {what}",
        expected=expected if nearest is None else None,
        nearest=f"`{nearest}`" if nearest else None,
    )


def _note(
    error: ValidationError,
    node: Mapping,
    model: type[Settings],
    mistakes: Mistakes,
    what: str,
    *,
    whole: bool,
) -> set[str]:
    """Note what pydantic found, once per place; return the keys concerned."""
    wrong: set[str] = set()
    seen: set[Mark] = set()
    for row in error.errors(include_url=False, include_input=False, include_context=False):
        key = str(row["loc"][0]) if row["loc"] else ""
        if row["type"] == "missing" and len(row["loc"]) == 1:
            wrong.add(key)
            mistakes.add(node.mark, f"{what} needs `{key}`", expected=describe_key(model, key))
            continue
        if not key:
            if whole:
                _note_whole(mistakes, node, what, row["msg"].removeprefix("Value error, "))
            continue
        wrong.add(key)
        value, _ = descend(node, row["loc"])  # union branches name no node and end it
        if value.mark not in seen:
            seen.add(value.mark)
            expected = describe_key(model, key)
            if len(row["loc"]) > 1 and isinstance(row["loc"][1], int):
                expected = _ITEMS.get(expected, expected).removeprefix("a list of ")
            if issubclass(model, Toxic):
                expected += f": {model.model_fields[key].description}"  # it says the unit
            note_value(mistakes, key, value, expected)
    return wrong


def _note_whole(mistakes: Mistakes, node: Mapping, what: str, message: str) -> None:
    """Note what a validator over several keys says; at the value, where it says which one is unknown."""
    match = re.fullmatch(r"(unknown (\w+)) '.*', expected (one of (.*))", message, re.DOTALL)
    value = node.values.get(match[2]) if match else None
    if match is None or not isinstance(value, Scalar):
        mistakes.add(node.mark, f"{what}: {message}")
        return
    mistakes.add(
        value.mark,
        match[1],
        value=value,
        expected=match[3],
        nearest=nearest_word(value.text, match[4].split(", ")),
    )


def note_value(mistakes: Mistakes, key: str, value: Node, expected: str) -> None:
    """Note a value that a key may not have."""
    message = f"`{key}` cannot be this"
    text = value.text if isinstance(value, Scalar) else ""
    nearest = None
    if "duration" in expected:
        guess = guess_duration(value)
        if guess == text:
            # a duration by itself: only the scenario's own has a range
            expected = f"more than 0s, at most {DURATION_S_MAX / 3600:g}h"
        else:
            message, expected, nearest = _NEEDS_UNIT.format(key), DURATION_EXAMPLES, guess
    elif amount := next((row for row in _AMOUNTS if f"a {row[0]} such" in expected), None):
        _, pattern, examples = amount
        if re.fullmatch(pattern, text):
            expected = "more than zero"
        else:
            message, expected = _NEEDS_UNIT.format(key), examples
            nearest = _guess_amount(value, pattern)
    else:
        nearest = _nearest_value(value, expected)
    mistakes.add(value.mark, message, value=value, expected=expected, nearest=nearest)


def _guess_amount(node: Node, pattern: str) -> str | None:
    """Return what was probably meant by `2 Mbps`, `250KB/s` or `64k`."""
    if not isinstance(node, Scalar):
        return None
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([kmgKMG]?)i?(\w*)(/s)?\s*", node.text)
    if match is None or not (match[2] or match[3]):
        return None
    prefix = {"k": "k", "m": "M", "g": "G"}.get(match[2].lower(), "")
    bits = match[3].lower() in ("bit", "bits", "bps", "bitps") or match[3] == "b"
    per_s = "/s" if "/" in pattern else ""
    guess = f"{match[1]}{prefix}{'bit' if bits and per_s else 'B'}{per_s}"
    return guess if re.fullmatch(pattern, guess) else None


def _nearest_value(value: Node, expected: str) -> str | None:
    """Return what was probably meant: a word, `[a]` for a lone `a`, 400 for `400ms`."""
    if not isinstance(value, Scalar) or not isinstance(value.value, str):
        return None
    text = value.value
    if " or " in expected and "`" not in expected:
        near = nearest_word(text, re.findall(r"[a-z_][a-z_0-9]+", expected))
        if near is not None and "a list" not in expected:
            return near
    if expected.startswith("a list") and 0 < len(text) <= 40 and not set(text) & set("[]{},"):
        return f"[{', '.join(text.split())}]"
    number = re.match(r"\d+", text)
    return number[0] if number and expected.startswith("a whole number") else None


def guess_duration(node: Node) -> str | None:
    """Return the duration that was probably meant by `20`, `20 s`, `5sec` or `1 minute`."""
    if not isinstance(node, Scalar):
        return None
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([a-zA-Z]*)\.?\s*", node.text)
    unit = _UNITS.get(match[2].lower()) if match else None
    return f"{match[1]}{unit}" if match and unit else None
