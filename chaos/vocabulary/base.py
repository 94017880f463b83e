"""Defines what all models share: frozen, strict settings, and durations, bandwidths and sizes with their units.

A text with a unit becomes a number of seconds, bytes per second or bytes; `format_…` gives the text back exactly.
"""

from __future__ import annotations

import re
from decimal import Decimal
from functools import lru_cache
from typing import Annotated, Any, ClassVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, PlainSerializer, WithJsonSchema

DURATION_PATTERN = r"^\d+(\.\d+)?(ms|s|m|h)$"
DURATION_EXAMPLES = "250ms, 20s, 15m or 2h"
BANDWIDTH_PATTERN = r"^\d+(\.\d+)?([kMG]?bit|[kMG]?B)/s$"
BANDWIDTH_EXAMPLES = "500kbit/s, 2Mbit/s or 250kB/s"
SIZE_PATTERN = r"^\d+(\.\d+)?[kM]?B$"
SIZE_EXAMPLES = "1500B, 64kB or 1MB"
# 1 kB is 1000 bytes, as in Toxiproxy
_UNIT_BYTES = {"": 1, "k": 1_000, "M": 1_000_000, "G": 1_000_000_000}
_UNIT_S = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}


class Settings(BaseModel):
    """Parameters of one word: frozen, unknown keys refused, keys as written in YAML are the aliases."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", populate_by_name=True, allow_inf_nan=False
    )


class Parameters(Settings):
    """Parameters of one word of the vocabulary. `word` is how scenarios write it: the class's name in snake case."""

    word: ClassVar[str]

    def __init_subclass__(cls, **settings: Any) -> None:
        super().__init_subclass__(**settings)
        if "word" not in vars(cls):
            cls.word = re.sub(r"(?<!^)(?=[A-Z])", "_", cls.__name__).lower()


def parse_duration(value: Any) -> float:
    """Return seconds for text such as `250ms`. Raises ValueError with what was expected.

    A number of seconds is accepted from code (an int or float subclass instance made by us), never from YAML,
    where a bare number has no unit.
    """
    if isinstance(value, Seconds):
        return float(value)
    seconds = _seconds_of(value) if isinstance(value, str) else None
    if seconds is None:
        raise ValueError(f"a duration needs a number and a unit, expected {DURATION_EXAMPLES}")
    return seconds


@lru_cache(4096)  # every run of a sweep reads the same few texts
def _seconds_of(text: str) -> float | None:
    match = re.fullmatch(r"(\d+(?:\.\d+)?)(ms|s|m|h)", text)
    if match is None:
        return None
    # one division keeps 100ms at exactly 0.1 where 100 * 0.001 would not
    amount = float(match[1])
    return amount / 1000 if match[2] == "ms" else amount * _UNIT_S[match[2]]


class Seconds(float):
    """A number that is known to be seconds: what code passes where YAML writes a duration."""


@lru_cache(4096)
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


def parse_bandwidth(value: Any) -> float:
    """Return bytes per second for text such as `2Mbit/s` or `250kB/s`. Raises ValueError with what was expected."""
    if isinstance(value, BytesPerSecond):
        return float(value)
    pattern = r"(\d+(?:\.\d+)?)([kMG]?)(bit|B)/s"
    match = re.fullmatch(pattern, value) if isinstance(value, str) else None
    if match is None:
        raise ValueError(f"a bandwidth needs a number and a unit, expected {BANDWIDTH_EXAMPLES}")
    amount = float(match[1]) * _UNIT_BYTES[match[2]] / (8 if match[3] == "bit" else 1)
    if not 0 < amount < float("inf"):
        raise ValueError("expected a bandwidth above zero")
    return amount


class BytesPerSecond(float):
    """A number that is known to be bytes per second: what code passes where YAML writes a bandwidth."""


def format_bandwidth(bytes_per_s: float) -> str:
    """Return an exact text of a bandwidth: `2Mbit/s`, `1500bit/s`."""
    bits = bytes_per_s * 8
    for unit, size in (("G", 1_000_000_000), ("M", 1_000_000), ("k", 1_000), ("", 1)):
        if bits >= size and bits % size == 0:
            return f"{bits / size:.0f}{unit}bit/s"
    return f"{Decimal(repr(bytes_per_s)):f}B/s"


def parse_size(value: Any) -> int:
    """Return bytes for text such as `64kB`. Raises ValueError with what was expected."""
    if isinstance(value, Bytes):
        return int(value)
    match = re.fullmatch(r"(\d+(?:\.\d+)?)([kM]?)B", value) if isinstance(value, str) else None
    if match is None:
        raise ValueError(f"a size needs a number and a unit, expected {SIZE_EXAMPLES}")
    amount = float(match[1]) * _UNIT_BYTES[match[2]]
    if amount == float("inf"):
        raise ValueError("expected a size that fits a computer")
    return round(amount)


class Bytes(int):
    """A number that is known to be bytes: what code passes where YAML writes a size."""


def format_size(size: int) -> str:
    """Return an exact text of a size in bytes: `64kB`, `1500B`."""
    for unit in ("M", "k"):
        if size and size % _UNIT_BYTES[unit] == 0:
            return f"{size // _UNIT_BYTES[unit]}{unit}B"
    return f"{size}B"


Bandwidth = Annotated[
    float,
    BeforeValidator(parse_bandwidth),
    PlainSerializer(format_bandwidth, return_type=str),
    WithJsonSchema({"type": "string", "pattern": BANDWIDTH_PATTERN, "examples": ["2Mbit/s"]}),
]

Size = Annotated[
    int,
    BeforeValidator(parse_size),
    PlainSerializer(format_size, return_type=str),
    WithJsonSchema({"type": "string", "pattern": SIZE_PATTERN, "examples": ["64kB"]}),
]
