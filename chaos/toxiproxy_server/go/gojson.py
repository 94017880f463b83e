"""JSON as Go's encoding/json reads and writes it, as far as a client of Toxiproxy can see (encoding/json, Go 1.23).

Reading gives the error texts of Go's scanner and keeps what Go's decoder looks at: the order of keys, repeated
keys, and how numbers were written. Writing escapes what Go escapes and prints float32 as Go does.
"""

from __future__ import annotations

import codecs
import json
import math
import re
import struct
from collections.abc import Mapping, Sequence
from typing import Any, NoReturn

MAX_DEPTH = 10_000  # encoding/json, maxNestingDepth
# how deep json.loads goes depends on the Python and its stack; no body that means anything nests half as deep
SHOWN_DEPTH = 64
_BYTE_BY_BYTE = "trio-chaos-byte-by-byte"
# Go puts U+FFFD in the place of each byte that is no UTF-8, Python in that of the start of a character
codecs.register_error(_BYTE_BY_BYTE, lambda error: ("\ufffd", error.start + 1))  # type: ignore[attr-defined]
_SPACE = b" \t\r\n"
_NUMBER = re.compile(rb"-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?")
_PLAIN = re.compile(rb'[^"\\\x00-\x1f]*')
_LITERALS = {ord("t"): b"true", ord("f"): b"false", ord("n"): b"null"}
_ESCAPES = b'bfnrt\\/"'
_HEX = b"0123456789abcdefABCDEF"


class SyntaxMistake(ValueError):
    """The text is no JSON; the message is Go's."""


class Number(str):
    """A number as it was written."""

    __slots__ = ()


class Object(list[tuple[str, Any]]):
    """An object as its pairs, in order, repeated keys included."""


class Float32(float):
    """A number that Go keeps as float32."""


def read(text: bytes) -> Any:
    """Return the first JSON value of a text; what follows it is ignored.

    Objects come as Object, numbers as Number, everything else as json.loads gives it. Objects and arrays at
    SHOWN_DEPTH come empty: what they hold is only checked. Raises SyntaxMistake.
    """
    source = _Scanner(text).scan().decode("utf-8", _BYTE_BY_BYTE).strip(_SPACE.decode())
    return json.loads(
        source, object_pairs_hook=Object, parse_int=Number, parse_float=Number, strict=True
    )


class _Scanner:
    """Finds the first value, or Go's words for why there is none."""

    def __init__(self, text: bytes) -> None:
        self._text = text
        self._at = 0
        self._shown: list[bytes] = []
        self._shown_to = 0  # up to here the text is in _shown or left out
        self._hidden_from = 0

    def scan(self) -> bytes:
        """Return the text of the first value down to SHOWN_DEPTH."""
        self._skip()
        if self._at >= len(self._text):
            raise SyntaxMistake("EOF")
        open_with: list[int] = []
        while True:
            self._value(open_with)
            while open_with and self._ends(open_with):
                pass
            if not open_with:
                return b"".join(self._shown) + self._text[self._shown_to : self._at]

    def _value(self, open_with: list[int]) -> None:
        """Read a value, or open an object or array up to its first value."""
        while True:
            byte = self._next("looking for beginning of value")
            if byte not in b"{[":
                self._scalar(byte)
                return
            if len(open_with) >= MAX_DEPTH:
                self._refuse("exceeded max depth")
            open_with.append(byte)
            self._at += 1
            if len(open_with) == SHOWN_DEPTH:
                self._hidden_from = self._at
            self._skip()
            if self._text[self._at : self._at + 1] == (b"}" if byte == ord("{") else b"]"):
                return
            if byte == ord("{"):
                self._key()

    def _ends(self, open_with: list[int]) -> bool:
        """Go on behind a value: True if its container ended with it."""
        in_object = open_with[-1] == ord("{")
        byte = self._next("after object key:value pair" if in_object else "after array element")
        if byte == ord("}" if in_object else "]"):
            if len(open_with) == SHOWN_DEPTH:
                self._shown.append(self._text[self._shown_to : self._hidden_from])
                self._shown_to = self._at
            open_with.pop()
            self._at += 1
            return True
        if byte != ord(","):
            self._refuse("after object key:value pair" if in_object else "after array element")
        self._at += 1
        if in_object:
            self._key()
        self._value(open_with)
        return True

    def _key(self) -> None:
        if self._next("looking for beginning of object key string") != ord('"'):
            self._refuse("looking for beginning of object key string")
        self._string()
        if self._next("after object key") != ord(":"):
            self._refuse("after object key")
        self._at += 1

    def _scalar(self, byte: int) -> None:
        if byte == ord('"'):
            self._string()
        elif byte in _LITERALS:
            self._literal(_LITERALS[byte])
        elif byte in b"-0123456789":
            self._number()
        else:
            self._refuse("looking for beginning of value")

    def _string(self) -> None:
        self._at += 1
        while True:
            match = _PLAIN.match(self._text, self._at)
            assert match is not None
            self._at = match.end()
            byte = self._byte()
            if byte == ord('"'):
                self._at += 1
                return
            if byte != ord("\\"):
                self._refuse("in string literal")
            self._at += 1
            self._escape()

    def _escape(self) -> None:
        byte = self._byte()
        if byte == ord("u"):
            for _ in range(4):
                self._at += 1
                if self._byte() not in _HEX:
                    self._refuse("in \\u hexadecimal character escape")
        elif byte not in _ESCAPES:
            self._refuse("in string escape code")
        self._at += 1

    def _literal(self, word: bytes) -> None:
        for letter in word:
            if self._byte() != letter:
                self._refuse(f"in literal {word.decode()} (expecting {_quote(letter)})")
            self._at += 1

    def _number(self) -> None:
        match = _NUMBER.match(self._text, self._at)
        if match is None:
            self._at += 1
            self._byte()
            self._refuse("in numeric literal")
        written = match.group()
        self._at = match.end()
        rest = self._text[self._at : self._at + 2]
        if rest[:1] == b"." and not set(b".eE") & set(written):
            self._at += 1
            self._byte()
            self._refuse("after decimal point in numeric literal")
        if rest[:1] in (b"e", b"E") and not set(b"eE") & set(written):
            self._at += 2 if rest[1:] in (b"+", b"-") else 1
            self._byte()
            self._refuse("in exponent of numeric literal")

    def _skip(self) -> None:
        while self._at < len(self._text) and self._text[self._at] in _SPACE:
            self._at += 1

    def _next(self, context: str) -> int:
        self._skip()
        return self._byte()

    def _byte(self) -> int:
        if self._at >= len(self._text):
            raise SyntaxMistake("unexpected EOF")
        return self._text[self._at]

    def _refuse(self, context: str) -> NoReturn:
        raise SyntaxMistake(f"invalid character {_quote(self._text[self._at])} {context}")


def _quote(byte: int) -> str:
    """Return a byte as Go's quoteChar prints it."""
    if byte == ord("'"):
        return r"'\''"
    if byte == ord('"'):
        return "'\"'"
    named = {7: r"\a", 8: r"\b", 9: r"\t", 10: r"\n", 11: r"\v", 12: r"\f", 13: r"\r", 92: r"\\"}
    if byte in named:
        return f"'{named[byte]}'"
    letter = chr(byte)
    if letter.isprintable():
        return f"'{letter}'"
    return f"'\\x{byte:02x}'" if byte < 0x80 else f"'\\u{byte:04x}'"


def kind(value: Any) -> str:
    """Return what Go calls a value in its type errors."""
    if isinstance(value, Object):
        return "object"
    if isinstance(value, list):
        return "array"
    if isinstance(value, Number):
        return "number"
    return "bool" if isinstance(value, bool) else "string"


def clean(text: str) -> str:
    """Return a string as Go decodes it: half of a surrogate pair becomes U+FFFD."""
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def write(value: Any) -> str:
    """Return JSON as json.Marshal writes it: no spaces, HTML's characters escaped, mappings in the given order."""
    if isinstance(value, Mapping):
        return "{" + ",".join(f"{write(key)}:{write(item)}" for key, item in value.items()) + "}"
    if isinstance(value, str):
        return _string(value)
    if isinstance(value, Sequence):
        return "[" + ",".join(write(item) for item in value) + "]"
    if isinstance(value, Float32):
        return float32_text(value)
    return json.dumps(value)


def _string(text: str) -> str:
    quoted = json.dumps(text, ensure_ascii=False)
    for letter in "<>&\u2028\u2029":
        if letter in quoted:
            quoted = quoted.replace(letter, f"\\u{ord(letter):04x}")
    return quoted


def to_float32(value: float) -> Float32:
    """Round to float32. Raises OverflowError beyond its range."""
    if math.isinf(value):
        raise OverflowError
    return Float32(struct.unpack("<f", struct.pack("<f", value))[0])


def float32_text(value: float) -> str:
    """Return the shortest text that gives this float32, with an exponent below 1e-6 and from 1e21 on."""
    texts = (f"{value:.{digits}e}" for digits in range(9))
    # nine digits always tell a float32 from its neighbours
    text = next((text for text in texts if _rounds_to(float(text), value)), f"{value:.8e}")
    mantissa, _, power = text.partition("e")
    exponent = int(power)
    if value != 0 and not -6 <= exponent < 21:
        return f"{mantissa}e{exponent:+03d}".replace("e-0", "e-")
    places = max(0, len(mantissa.lstrip("-").replace(".", "")) - 1 - exponent)
    return f"{float(text):.{places}f}"


def _rounds_to(number: float, value: float) -> bool:
    try:
        return to_float32(number) == value
    except OverflowError:
        return False
