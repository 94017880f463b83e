"""JSON as Go reads and writes it."""

from __future__ import annotations

import json
import re
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chaos.toxiproxy_server.go.gojson import (
    MAX_DEPTH,
    SHOWN_DEPTH,
    Float32,
    Number,
    Object,
    SyntaxMistake,
    clean,
    float32_text,
    kind,
    read,
    to_float32,
    write,
)

VALUES = st.recursive(
    st.none() | st.booleans() | st.text(st.characters(exclude_categories=("Cs",))),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=10,
)


def plain(value: object) -> object:
    if isinstance(value, Object):
        return {key: plain(item) for key, item in value}
    return [plain(item) for item in value] if isinstance(value, list) else value


@given(VALUES, st.sampled_from(["", " ", "\n{", "x", "]", '"']))
def test_what_json_writes_is_read_and_the_rest_is_ignored(value: object, rest: str) -> None:
    assert plain(read((json.dumps(value, indent=1) + rest).encode())) == value


@given(VALUES)
def test_what_is_written_is_read_back(value: object) -> None:
    assert plain(read(write(value).encode())) == value
    assert json.loads(write(value)) == value


@given(VALUES.filter(lambda value: isinstance(value, (str, list, dict))), st.data())
def test_a_text_that_is_cut_short_ends_unexpectedly(value: object, data: st.DataObject) -> None:
    text = json.dumps(value).encode()
    size = data.draw(st.integers(1, len(text) - 1))
    with pytest.raises(SyntaxMistake, match=r"^unexpected EOF$"):
        read(text[:size])


@given(st.binary(max_size=12))
def test_any_bytes_give_a_value_or_a_mistake(text: bytes) -> None:
    try:
        read(text)
    except SyntaxMistake as mistake:
        assert str(mistake).isprintable()


def test_order_and_repetition_of_keys_and_numbers_as_written_are_kept() -> None:
    assert read(b'{"b":1.50,"a":2,"b":3}') == Object([("b", "1.50"), ("a", "2"), ("b", "3")])
    assert isinstance(read(b"1e5,"), Number)


@pytest.mark.parametrize("depth", [1, 61, 62, 63, 64, 500, 1500, MAX_DEPTH - 2])
@pytest.mark.parametrize(
    ("before", "behind", "empty"),
    [("[true,", ",[]]", "[]"), ('{"x":{},"y":', ',"y":null}', "{}")],
    ids=["arrays", "objects"],
)
def test_what_go_reads_is_read_on_every_python_and_comes_empty_beyond_a_depth(
    depth: int, before: str, behind: str, empty: str
) -> None:
    def text(levels: int, inmost: str) -> str:
        inner = before * levels + inmost + behind * levels
        return f'[{inner},"between",{inner}]'

    inside = SHOWN_DEPTH - 2  # the outer array is a level too, and so is the one that comes empty
    shown = text(depth, "false") if depth <= inside else text(inside, empty)
    assert read(text(depth, "false").encode()) == json.loads(shown, object_pairs_hook=Object)


@pytest.mark.parametrize("opening", ["[", '{"a":'])
def test_nesting_deeper_than_go_reads_is_a_mistake_in_gos_words(opening: str) -> None:
    with pytest.raises(SyntaxMistake, match="unexpected EOF"):
        read(opening.encode() * MAX_DEPTH)
    told = re.escape(f"invalid character '{opening[0]}' exceeded max depth")
    with pytest.raises(SyntaxMistake, match=told):
        read(opening.encode() * (MAX_DEPTH + 1))


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (b"\x00", r"invalid character '\x00' looking for beginning of value"),
        (b"\x80", r"invalid character '\u0080' looking for beginning of value"),
        (b'["\n"]', r"invalid character '\n' in string literal"),
        (b"falsy", "invalid character 'y' in literal false (expecting 'e')"),
        (b"\\", r"invalid character '\\' looking for beginning of value"),
        (b'{"a"="b"}', "invalid character '=' after object key"),
    ],
)
def test_mistakes_name_the_byte_as_go_does(text: bytes, told: str) -> None:
    with pytest.raises(SyntaxMistake) as caught:
        read(text)
    assert str(caught.value) == told


def test_kinds_are_named_as_go_names_them() -> None:
    texts = {b"{}": "object", b"[]": "array", b"1": "number", b"true": "bool", b'""': "string"}
    assert [kind(read(text)) for text in texts] == list(texts.values())


def test_html_is_escaped_and_halves_of_pairs_are_replaced() -> None:
    assert write({"<&>": "\u2028é"}) == '{"\\u003c\\u0026\\u003e":"\\u2028é"}'
    assert clean("a\ud800b") == "a\ufffdb"
    assert clean(json.loads('"\\ud83d\\ude00"')) == "😀"


@given(st.floats(width=32, allow_nan=False, allow_infinity=False))
def test_a_float32_is_written_so_that_it_is_read_back(value: float) -> None:
    text = float32_text(value)
    assert struct.pack("f", float(text)) == struct.pack("f", value)
    assert len(text.replace("-", "").replace(".", "").partition("e")[0].strip("0")) <= 9


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.3, "0.3"),
        (1, "1"),
        (-7.5, "-7.5"),
        (0.1234567890123, "0.12345679"),
        (1e-6, "0.000001"),
        (1e-7, "1e-7"),
        (1e20, "100000000000000000000"),
        (1e21, "1e+21"),
        (3.4028235e38, "3.4028235e+38"),
        (0, "0"),
    ],
)
def test_a_float32_is_written_as_go_writes_it(value: float, text: str) -> None:
    assert write(to_float32(value)) == text


def test_what_no_float32_holds_overflows() -> None:
    for value in (1e39, float("inf"), -1e300):
        with pytest.raises(OverflowError):
            to_float32(value)
    assert isinstance(to_float32(1.5), Float32)
