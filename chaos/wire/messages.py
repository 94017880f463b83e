"""Finds the number of a workload message in its text: at the top of its JSON, or where a scenario says.

A reader is what one line of a scenario's workload declares, made by `parse_reader`. Pure functions of the text.
"""

from __future__ import annotations

import json
import re
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

# A message that is longer is not read whole: the largest that a workload can have.
MESSAGE_BYTES_MAX = 1_048_576
# What is looked at first, and all that a regular expression is given: those may take a time that grows far faster
# than the text.
START_BYTES = 4_096
# white space, and what a JSON object begins with
JSON_STARTS = frozenset(b" \t\r\n{")
_NUMBER_MAX = 1 << 63
# what is asked of a message: its number and its sender
_ASKED = {b'"id"': "id", b'"sender"': "sender"}
_DIGITS = re.compile("-?[0-9]{1,18}")
_SENDER_CHARS_MAX = 64
_DEPTHS = {b"{": 1, b"[": 1, b"}": -1, b"]": -1}
_ENDS_VALUE = frozenset((b",", b"}"))
_TOKEN = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"|[{}\[\],:]|[^\s"{}\[\],:]++|"', re.DOTALL)
_POINTER_STEP = re.compile("(?:[^~]|~[01])*")
_INDEX = re.compile("0|[1-9][0-9]{0,8}")
_ENDIANS: Final[dict[str, Literal["big", "little"]]] = {"big": "big", "little": "little"}


@dataclass(frozen=True, slots=True)
class Pointer:
    """Where in a message's JSON its number is: a JSON pointer (RFC 6901), as the names on the way."""

    steps: tuple[str, ...]

    def read(self, text: str) -> int | None:
        """Return the number that is there: a whole number, or text of digits."""
        try:
            found: Any = json.loads(text)
            for step in self.steps:
                if isinstance(found, list):
                    found = found[int(step)] if _INDEX.fullmatch(step) else None
                else:
                    found = found[step]
        except (ValueError, LookupError, TypeError, RecursionError):
            return None
        if isinstance(found, str) and _DIGITS.fullmatch(found):
            return int(found)
        return _as_number(found)


@dataclass(frozen=True, slots=True)
class Pattern:
    """A regular expression whose one group is the number: digits, or, if it is called so, a big or little integer."""

    expression: re.Pattern[str]

    def read(self, text: str) -> int | None:
        """Return the number in the first match; in `text` each character of a binary message is a byte."""
        match = self.expression.search(text)
        if match is None or match[1] is None:
            return None
        for name in self.expression.groupindex:
            try:
                number = int.from_bytes(match[1].encode("latin-1"), _ENDIANS[name])
            except UnicodeEncodeError:
                return None
            return number if number < _NUMBER_MAX and match[1] else None
        return int(match[1]) if _DIGITS.fullmatch(match[1]) else None


Reader = Pointer | Pattern
# one for each line of the workload of one sender; None reads JSON at the top
Readers = Sequence[Reader | None]


class BadReader(ValueError):
    """What a scenario says of where its numbers are is wrong; `expected` says what would be right."""

    def __init__(self, message: str, expected: str) -> None:
        super().__init__(message)
        self.expected = expected


def parse_reader(declared: str) -> Reader:
    """Return what a scenario's `id` declares. Raises BadReader."""
    if declared == "" or declared.startswith("/"):
        steps = declared.split("/")[1:]
        if not all(_POINTER_STEP.fullmatch(step) for step in steps):
            raise BadReader(
                "a JSON pointer with a `~` that stands for nothing",
                "`~0` for `~`, `~1` for `/` (RFC 6901)",
            )
        return Pointer(tuple(step.replace("~1", "/").replace("~0", "~") for step in steps))
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            expression = re.compile(declared, re.DOTALL)
    except (re.error, OverflowError, RecursionError) as error:
        raise BadReader(
            f"neither a JSON pointer nor a regular expression: {error}",
            "a JSON pointer such as /data/id, or a regular expression with one group",
        ) from None
    if expression.groups != 1:
        raise BadReader(
            f"a regular expression with {expression.groups} groups: it must be clear which is the number",
            "one group; write the others as (?:…)",
        )
    if not set(expression.groupindex) <= set(_ENDIANS):
        raise BadReader(
            f"a regular expression with a group called `{next(iter(expression.groupindex))}`",
            "no name for digits, (?P<big>…) or (?P<little>…) for the bytes of an integer",
        )
    return Pattern(expression)


def bytes_to_keep(first: int, readers: Readers, *, is_text: bool) -> int:
    """Return how many bytes `read_message` wants of a message that begins with this byte."""
    if readers:
        by_start = all(isinstance(reader, Pattern) for reader in readers)
        return START_BYTES if by_start else MESSAGE_BYTES_MAX
    if first in JSON_STARTS:
        return MESSAGE_BYTES_MAX
    return START_BYTES if is_text else 0


def is_enough(start: bytes | bytearray, readers: Readers) -> bool:
    """Whether the first START_BYTES of a longer message say all of it that is asked."""
    return not readers and len(_scan(start)) == len(_ASKED)


def read_message(
    kept: bytes | bytearray, size: int, readers: Readers, *, is_text: bool
) -> dict[str, Any]:
    """Return the number and the sender of a message of `size` bytes, as far as it names them.

    `kept` are as many of its bytes as `bytes_to_keep` says, or START_BYTES where those are enough. Raises
    UnicodeDecodeError for a text of up to START_BYTES that is not UTF-8.
    """
    if is_text and size <= START_BYTES:
        text = kept.decode()
        if not readers:
            return _read_json(text, kept, size)
    elif not readers:
        return _read_json(kept, kept, size)
    for reader in readers:
        if reader is None:
            found = _read_json(kept, kept, size)
        else:
            found = _read_declared(reader, kept, size, is_text=is_text)
        if found:
            return found
    return {}


def _read_declared(
    reader: Reader, kept: bytes | bytearray, size: int, *, is_text: bool
) -> dict[str, Any]:
    if isinstance(reader, Pattern):
        kept = kept[:START_BYTES]
    elif size > MESSAGE_BYTES_MAX:
        return {}
    text = kept.decode("utf-8", "replace") if is_text else kept.decode("latin-1")
    number = reader.read(text)
    return {} if number is None else {"id": number}


def _read_json(text: str | bytes | bytearray, kept: bytes | bytearray, size: int) -> dict[str, Any]:
    if not kept or kept[0] not in JSON_STARTS:
        return {}
    if size > START_BYTES:
        found = _scan(kept[:START_BYTES])
        missing = [key for key, name in _ASKED.items() if name not in found]
        # to look for a name costs a hundredth of reading the JSON
        if size > MESSAGE_BYTES_MAX or not any(key in kept for key in missing):
            return found
    return read_object(text)


def read_object(text: str | bytes | bytearray) -> dict[str, Any]:
    """Return the number and the sender at the top of a text that is there whole, if it is a JSON object."""
    try:
        row = json.loads(text)
    except RecursionError:  # how deep Python reads differs between its releases
        start = text[:START_BYTES]
        return _scan(start.encode() if isinstance(start, str) else start)
    except ValueError:
        return {}
    return _fields(row.get("id"), row.get("sender")) if isinstance(row, dict) else {}


def _scan(start: bytes | bytearray) -> dict[str, Any]:
    """Return the number and the sender that an object names at its top, of which only the start is there."""
    depth, key, value = 0, b"", b""
    found: dict[str, Any] = {}
    for match in _TOKEN.finditer(start):
        token = match[0]
        if token in _ENDS_VALUE and depth == 1 and value and key in _ASKED:
            found.setdefault(_ASKED[key], _parse(value))
        depth += _DEPTHS.get(token, 0)
        # no object, a text that goes on behind the start, or nothing more to find
        if depth == 0 or token == b'"' or len(found) == len(_ASKED):
            break
        if depth > 1 or token in _DEPTHS or token == b",":
            key = b"" if token == b"," and depth == 1 else key
            value = b""
        elif token == b":":
            key, value = value, b""
        else:
            value = token
    return _fields(found.get("id"), found.get("sender"))


def _parse(token: bytes) -> Any:
    try:
        return json.loads(token)
    except ValueError:
        return None


def _fields(number: Any, sender: Any) -> dict[str, Any]:
    fields: dict[str, Any] = {}
    if type(number) is int and -_NUMBER_MAX < number < _NUMBER_MAX:  # `true` is none
        fields["id"] = number
    # what a trace can hold and a terminal can show
    if (
        isinstance(sender, str)
        and sender.isascii()
        and sender.isprintable()
        and len(sender) <= _SENDER_CHARS_MAX
    ):
        fields["sender"] = sender
    return fields


def _as_number(value: Any) -> int | None:
    """Return a value that is a whole number and fits 64 bits; None for others."""
    number: int | None = _fields(value, None).get("id")
    return number
