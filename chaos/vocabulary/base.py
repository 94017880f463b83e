"""Settings: frozen, strict, documented parameters; and the duration type with its units."""

from __future__ import annotations

import re
from decimal import Decimal
from typing import Annotated, Any, ClassVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, PlainSerializer, WithJsonSchema

DURATION_PATTERN = r"^\d+(\.\d+)?(ms|s|m|h)$"
DURATION_EXAMPLES = "250ms, 20s, 15m or 2h"
_UNIT_S = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}


class Settings(BaseModel):
    """Parameters of one word: frozen, unknown keys refused, keys as written in YAML are the aliases."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", populate_by_name=True, allow_inf_nan=False
    )


class Parameters(Settings):
    """Parameters of one word of the vocabulary; `word` is how scenarios write it."""

    word: ClassVar[str] = ""


def parse_duration(value: Any) -> float:
    """Return seconds for text such as `250ms`. Raises ValueError with what was expected.

    A number of seconds is accepted from code (an int or float subclass instance made by us), never from YAML,
    where a bare number has no unit.
    """
    if isinstance(value, Seconds):
        return float(value)
    match = re.fullmatch(r"(\d+(?:\.\d+)?)(ms|s|m|h)", value) if isinstance(value, str) else None
    if match is None:
        raise ValueError(f"a duration needs a number and a unit, expected {DURATION_EXAMPLES}")
    # one division keeps 100ms at exactly 0.1 where 100 * 0.001 would not
    amount = float(match[1])
    return amount / 1000 if match[2] == "ms" else amount * _UNIT_S[match[2]]


class Seconds(float):
    """A number that is known to be seconds: what code passes where YAML writes a duration."""


def format_duration(seconds: float) -> str:
    """Return the shortest exact text of a duration: `250ms`, `20s`, `15m`, `2h`."""
    text = _short_text(seconds)
    try:
        exact = parse_duration(text) == seconds
    except ValueError:
        exact = False  # an exponent such as 1e-05ms, which the language does not have
    return text if exact else f"{Decimal(repr(seconds)):f}s"


def _short_text(seconds: float) -> str:
    for unit, size in (("h", 3600), ("m", 60)):
        if seconds >= size and seconds % size == 0:
            return f"{seconds / size:g}{unit}"
    if seconds == 0 or seconds >= 1:
        return f"{seconds:.12g}s"
    return f"{seconds * 1000:.12g}ms"


Duration = Annotated[
    float,
    BeforeValidator(parse_duration),
    PlainSerializer(format_duration, return_type=str),
    WithJsonSchema({"type": "string", "pattern": DURATION_PATTERN, "examples": ["250ms", "20s"]}),
]
