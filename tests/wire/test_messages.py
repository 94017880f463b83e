"""The number of a message is the one that its sender gave it, or none: never that of something inside it."""

from __future__ import annotations

import json
from typing import Any

import pytest

from chaos.wire.messages import (
    MESSAGE_BYTES_MAX,
    START_BYTES,
    BadReader,
    Pattern,
    parse_reader,
    read_message,
)


def read(text: str | bytes, *declared: str | None, is_text: bool = True) -> dict[str, Any]:
    payload = text.encode() if isinstance(text, str) else text
    readers = tuple(None if row is None else parse_reader(row) for row in declared)
    kept = payload[:MESSAGE_BYTES_MAX]
    if not any(row is None or not isinstance(row, Pattern) for row in readers) and readers:
        kept = payload[:START_BYTES]
    return read_message(kept, len(payload), readers, is_text=is_text)


@pytest.mark.parametrize(
    ("text", "fields"),
    [
        ('{"id": 3, "sender": "client-1"}', {"id": 3, "sender": "client-1"}),
        ('{"data":{"id":7},"id":3}', {"id": 3}),
        ('{"rows":[{"id":7},{"id":8}],"sender":"server","id":3}', {"id": 3, "sender": "server"}),
        (' \r\n\t{"id":3}', {"id": 3}),
        ('{"data":{"id":7}}', {}),
        ('[{"id":7}]', {}),
        ('{"id":true}', {}),
        ('{"id":1.5}', {}),
        ('{"id":null,"sender":3}', {}),
        ('{"id":' + "9" * 18 + "}", {"id": int("9" * 18)}),
        ('{"id":' + "9" * 30 + "}", {}),
        ('{"id":' + "9" * 5000 + "}", {}),
        ('{"id":3,"sender":"\\ud800"}', {"id": 3}),
        ('{"id":3,"sender":"' + "x" * 65 + '"}', {"id": 3}),
        ('{"id":3', {}),
        ("", {}),
        ("42", {}),
    ],
)
def test_the_number_stands_at_the_top_of_the_json(text: str, fields: dict[str, Any]) -> None:
    assert read(text) == fields


@pytest.mark.parametrize("size", [START_BYTES, MESSAGE_BYTES_MAX - 100, MESSAGE_BYTES_MAX + 1])
@pytest.mark.parametrize(
    ("row", "fields"),
    [
        ({"data": {"id": 7}, "id": 3, "sender": "server"}, {"id": 3, "sender": "server"}),
        ({"text": '"id": 7, \\ {', "id": 3, "sender": "server"}, {"id": 3, "sender": "server"}),
        ({"rows": [{"id": 7}] * 20}, {}),
    ],
)
def test_of_a_long_message_the_start_is_enough_or_nothing_is_said(
    size: int, row: dict[str, Any], fields: dict[str, Any]
) -> None:
    assert read(json.dumps({**row, "pad": "x" * size})) == fields


def test_a_number_behind_a_large_part_is_found_up_to_the_largest_message() -> None:
    assert read(json.dumps({"rows": [{"id": 7, "name": "x" * 8000}], "id": 3})) == {"id": 3}
    assert read(json.dumps({"pad": "x" * MESSAGE_BYTES_MAX, "id": 3})) == {}


@pytest.mark.parametrize(
    "cut", ['{"id": 7', '{"a": "\\"id\\": 7, \\"b', '{"a": {"id": 7, "b": [1,']
)
def test_a_number_that_is_cut_off_is_none(cut: str) -> None:
    start = cut + " " * 0
    assert read(start + "9" * (MESSAGE_BYTES_MAX + 1)) == {}


@pytest.mark.parametrize(
    ("declared", "text", "number"),
    [
        ("/data/id", '{"data":{"id":7},"id":3}', 7),
        ("/1/id", '["m",{"id":3}]', 3),
        ("/a~1b/m~0n", '{"a/b":{"m~n":5}}', 5),
        ("/id", '{"id":"17"}', 17),
        ("", "17", 17),
        ("/", '{"":4}', 4),
        ("/id/x", '{"id":3}', None),
        ("/rows/-", '{"rows":[1]}', None),
        ("/rows/01", '{"rows":[1,2]}', None),
        ("/id", "no json", None),
        ("/id", "[" * 4000, None),
        (r'"id":(\d+)', '42["m",{"id":3}]', 3),
        (r"^(\d+)\|", "12|x", 12),
        (r"(?:a|(b))", "a", None),
        (r"id (\w+)", "id x1", None),
        (r"(\d+)", "9" * 19, None),
    ],
)
def test_a_scenario_says_where_the_number_is(declared: str, text: str, number: int | None) -> None:
    assert read(text, declared) == ({} if number is None else {"id": number})


@pytest.mark.parametrize(
    ("declared", "payload", "number"),
    [
        ("^.{4}(?P<big>.{8})", b"\xa1\xb2\xc3\xd4" + (300).to_bytes(8, "big") + bytes(50), 300),
        ("^(?P<little>.{4})", (70_000).to_bytes(4, "little") + b"\xff", 70_000),
        # MessagePack: {"id": 7}, {"id": 300}
        (r"\xa2id[\xcc-\xcf]?(?P<big>.{1,8}?)(?=\xa1z)", b"\x82\xa2id\x07\xa1z\x01", 7),
        (r"\xa2id[\xcc-\xcf]?(?P<big>.{1,8}?)(?=\xa1z)", b"\x82\xa2id\xcd\x01\x2c\xa1z\x01", 300),
        ("(?P<big>.{8})", b"\xff" * 8, None),
        (r'"id":(\d+)', b'\xff"id":12', 12),
        ("/id", b'{"id":12}', 12),
    ],
)
def test_numbers_in_binary_messages(declared: str, payload: bytes, number: int | None) -> None:
    assert read(payload, declared, is_text=False) == ({} if number is None else {"id": number})


def test_each_line_of_a_workload_may_have_its_own() -> None:
    both = ("/data/id", None)
    assert read('{"data":{"id":7}}', *both) == {"id": 7}
    assert read('{"id":3,"sender":"server"}', *both) == {"id": 3, "sender": "server"}


def test_a_regular_expression_is_given_the_start_of_a_message_only() -> None:
    assert read("x" * START_BYTES + "7", r"(\d)") == {}
    assert read("x" * (START_BYTES - 1) + "7" + "8", r"(\d+)") == {"id": 7}


def test_a_text_that_is_not_utf_8_raises() -> None:
    with pytest.raises(UnicodeDecodeError):
        read(b'{"id":3}\xff')
    assert read(b'{"id":3}\xff', is_text=False) == {}


@pytest.mark.parametrize(
    "declared", ["/a~2", "/~", "(", "a", "(a)(b)", "(?P<x>a)", "a{99999999999999}", "*"]
)
def test_what_is_no_reader_is_refused(declared: str) -> None:
    with pytest.raises(BadReader) as caught:
        parse_reader(declared)
    assert caught.value.expected
