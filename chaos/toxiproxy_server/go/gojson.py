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
_LITERALS: Mapping[int, tuple[bytes, bool | None]] = {
    ord("t"): (b"true", True),
    ord("f"): (b"false", False),
    ord("n"): (b"null", None),
}
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

    It is slower than json.loads, and lets other threads run meanwhile, which that does not.
    """
    return _Scanner(text).scan()


class _Open:
    """An object or array whose end has not been read."""

    __slots__ = ("closes_with", "container", "is_object", "key")

    def __init__(self, container: list[Any]) -> None:
        self.container = container
        self.is_object = isinstance(container, Object)
        self.closes_with = b"}" if self.is_object else b"]"
        self.key = ""

    def add(self, value: Any) -> None:
        self.container.append((self.key, value) if self.is_object else value)


class _Scanner:
    """Finds the first value, or Go's words for why there is none."""

    def __init__(self, text: bytes) -> None:
        self._text = text
        self._at = 0

    def scan(self) -> Any:
        """Return the first value down to SHOWN_DEPTH."""
        self._skip()
        if self._at >= len(self._text):
            raise SyntaxMistake("EOF")
        open_: list[_Open] = []
        while True:
            value = self._value(open_)
            while open_:
                if len(open_) <= SHOWN_DEPTH - 1:
                    open_[-1].add(value)
                if not self._ends(open_[-1]):
                    break
                value = open_.pop().container
            if not open_:
                return value

    def _value(self, open_: list[_Open]) -> Any:
        """Read a value, or open objects and arrays up to the first value that is none or is empty."""
        while True:
            byte = self._next("looking for beginning of value")
            if byte not in b"{[":
                return self._scalar(byte)
            if len(open_) >= MAX_DEPTH:
                self._refuse("exceeded max depth")
            opened = _Open(Object() if byte == ord("{") else [])
            self._at += 1
            self._skip()
            if self._text[self._at : self._at + 1] == opened.closes_with:
                self._at += 1
                return opened.container
            open_.append(opened)
            if opened.is_object:
                opened.key = self._key()

    def _ends(self, opened: _Open) -> bool:
        """Go on behind a value: True if its container ended with it."""
        context = "after object key:value pair" if opened.is_object else "after array element"
        byte = self._next(context)
        if byte == opened.closes_with[0]:
            self._at += 1
            return True
        if byte != ord(","):
            self._refuse(context)
        self._at += 1
        if opened.is_object:
            opened.key = self._key()
        return False

    def _key(self) -> str:
        if self._next("looking for beginning of object key string") != ord('"'):
            self._refuse("looking for beginning of object key string")
        key = self._string()
        if self._next("after object key") != ord(":"):
            self._refuse("after object key")
        self._at += 1
        return key

    def _scalar(self, byte: int) -> Any:
        if byte == ord('"'):
            return self._string()
        if byte in _LITERALS:
            word, value = _LITERALS[byte]
            self._literal(word)
            return value
        if byte in b"-0123456789":
            return self._number()
        return self._refuse("looking for beginning of value")

    def _string(self) -> str:
        begins = self._at
        self._skip_string()
        written = self._text[begins : self._at].decode("utf-8", _BYTE_BY_BYTE)
        return str(json.loads(written)) if "\\" in written else written[1:-1]

    def _skip_string(self) -> None:
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

    def _number(self) -> Number:
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
        return Number(written.decode())

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
