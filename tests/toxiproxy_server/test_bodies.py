"""Bodies of requests as Go reads them, and the answers byte for byte, on both servers."""

from __future__ import annotations

from typing import Any

import pytest

pytestmark = pytest.mark.slow

TEXT = "text/plain; charset=utf-8"
PROXY = "json: cannot unmarshal"
SCANNER = {
    "": "EOF",
    " ": "EOF",
    "{": "unexpected EOF",
    "[": "unexpected EOF",
    '{"a"': "unexpected EOF",
    '{"a":': "unexpected EOF",
    '{"a":1': "unexpected EOF",
    '"abc': "unexpected EOF",
    "-": "unexpected EOF",
    "1e": "unexpected EOF",
    "tru": "unexpected EOF",
    "{a": "invalid character 'a' looking for beginning of object key string",
    "{,}": "invalid character ',' looking for beginning of object key string",
    '{"a":1,}': "invalid character '}' looking for beginning of object key string",
    '{"a" 1': "invalid character '1' after object key",
    '{"a":1 2': "invalid character '2' after object key:value pair",
    "[1 2": "invalid character '2' after array element",
    "[,]": "invalid character ',' looking for beginning of value",
    "x": "invalid character 'x' looking for beginning of value",
    "'": "invalid character '\\'' looking for beginning of value",
    "é": "invalid character 'Ã' looking for beginning of value",
    "trx": "invalid character 'x' in literal true (expecting 'u')",
    "nulx": "invalid character 'x' in literal null (expecting 'l')",
    '"a\\x': "invalid character 'x' in string escape code",
    '"a\\u12g': "invalid character 'g' in \\u hexadecimal character escape",
    '"a\tb"': "invalid character '\\t' in string literal",
    "-x": "invalid character 'x' in numeric literal",
    "1.x": "invalid character 'x' after decimal point in numeric literal",
    "1ex": "invalid character 'x' in exponent of numeric literal",
    "[]": "json: cannot unmarshal array into Go value of type toxiproxy.Proxy",
    "01": "json: cannot unmarshal number into Go value of type toxiproxy.Proxy",
    '"s"': "json: cannot unmarshal string into Go value of type toxiproxy.Proxy",
    "true": "json: cannot unmarshal bool into Go value of type toxiproxy.Proxy",
    '{"name":5}': "json: cannot unmarshal number into Go struct field Proxy.name of type string",
    '{"name":{}}': "json: cannot unmarshal object into Go struct field Proxy.name of type string",
    '{"LISTEN":true}': "json: cannot unmarshal bool into Go struct field Proxy.listen of type string",
    '{"enabled":1}': "json: cannot unmarshal number into Go struct field Proxy.enabled of type bool",
    '{"Logger":5}': "json: cannot unmarshal number into Go struct field Proxy.Logger of type zerolog.Logger",
}


@pytest.mark.parametrize("body", SCANNER)
def test_a_body_that_is_no_proxy_is_told_in_gos_words(toxi: Any, body: str) -> None:
    answer = toxi.ask("POST", "/proxies", body)
    assert answer.status == 400
    assert answer.error == f"bad request body: {SCANNER[body]}"
    assert answer.type == TEXT
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.body.endswith(b',"status":400}\n')


@pytest.mark.parametrize(
    ("opening", "inmost", "closing", "kind"),
    [("[", "", "]", "array"), ('{"a":', "1", "}", "object")],
    ids=["arrays", "objects"],
)
@pytest.mark.parametrize("depth", [600, 1200, 10_000])
def test_a_body_may_nest_ten_thousand_deep(
    toxi: Any, depth: int, opening: str, inmost: str, closing: str, kind: str
) -> None:
    def nested(levels: int) -> str:
        return opening * levels + inmost + closing * levels

    body = f'{{"more":{nested(depth - 1)},"name":{nested(depth - 1)}}}'
    answer = toxi.ask("POST", "/proxies", body)
    told = f"bad request body: {PROXY} {kind} into Go struct field Proxy.name of type string"
    assert (answer.status, answer.error) == (400, told)
    answer = toxi.ask("POST", "/proxies", nested(10_001))
    told = f"bad request body: invalid character '{opening[0]}' exceeded max depth"
    assert (answer.status, answer.error) == (400, told)


@pytest.mark.parametrize(
    ("body", "missing"),
    [("null", "name"), ("{}", "name"), ('{"name":null}', "name"), ('{"NAME":"q"}', "upstream")],
)
def test_what_a_proxy_needs_is_asked_for(toxi: Any, body: str, missing: str) -> None:
    answer = toxi.ask("POST", "/proxies", body)
    expected = f'{{"error":"missing required field: {missing}","status":400}}\n'
    assert (answer.status, answer.body.decode()) == (400, expected)


def test_a_proxy_is_shown_byte_for_byte_and_the_rest_of_the_body_is_ignored(toxi: Any) -> None:
    body = '{"NAME":"a<&>\\ud800é","Upstream":"x:1","enabled":false,"more":[1]} trailing'
    answer = toxi.ask("POST", "/proxies", body)
    assert (answer.status, answer.type) == (201, "application/json")
    assert answer.body.decode() == (
        '{"name":"a\\u003c\\u0026\\u003e\ufffdé","listen":"","upstream":"x:1","enabled":false,'
        '"Logger":{},"toxics":[]}'
    )


_POPULATE = 'struct { toxiproxy.Proxy; Enabled *bool "json:\\"enabled\\"" }'


@pytest.mark.parametrize(
    ("body", "error"),
    [
        ("", "bad request body: EOF"),
        ("{}", f"bad request body: {PROXY} object into Go value of type []{_POPULATE}"),
        ("[5]", f"bad request body: {PROXY} number into Go value of type {_POPULATE}"),
        (
            '[{"name":5}]',
            f"bad request body: {PROXY} number into Go struct field .Proxy.name of type string",
        ),
        (
            '[{"enabled":5}]',
            f"bad request body: {PROXY} number into Go struct field .enabled of type bool",
        ),
        ("[null]", "missing required field: name at proxy 1"),
        (
            '[{"name":"n","upstream":"u:1"},{"name":"x"}]',
            "missing required field: upstream at proxy 2",
        ),
    ],
)
def test_a_populate_that_is_wrong_creates_nothing(toxi: Any, body: str, error: str) -> None:
    answer = toxi.ask("POST", "/populate", body)
    assert (answer.status, answer.type) == (400, "application/json")
    assert answer.json == {"error": error, "status": 400, "proxies": None}
    assert not answer.body.endswith(b"\n")
    assert toxi.get("/proxies") == {}


@pytest.mark.parametrize("body", ["[]", "null"])
def test_an_empty_populate_answers_null(toxi: Any, body: str) -> None:
    answer = toxi.ask("POST", "/populate", body)
    assert (answer.status, answer.body) == (201, b'{"proxies":null}')


_TOXIC = {
    "": "bad request body: EOF",
    "5": f"bad request body: {PROXY} number into Go value of type toxics.ToxicWrapper",
    '{"type":"nope"}': "invalid toxic type",
    '{"type":"down"}': "invalid toxic type",
    '{"attributes":{}}': "invalid toxic type",
    '{"type":"latency","stream":""}': "stream was invalid, can be either upstream or downstream",
    '{"type":"latency","stream":"both"}': "stream was invalid, can be either upstream or downstream",
    '{"type":"nope","stream":"x"}': "stream was invalid, can be either upstream or downstream",
    '{"type":"latency","attributes":5}': f"bad request body: {PROXY} number into Go struct field "
    "ToxicWrapper.attributes of type toxics.NoopToxic",
    '{"type":"latency","toxicity":"x"}': f"bad request body: {PROXY} string into Go struct field "
    "ToxicWrapper.toxicity of type float32",
    '{"type":"latency","toxicity":1e39}': f"bad request body: {PROXY} number 1e39 into Go struct field "
    "ToxicWrapper.toxicity of type float32",
}
_TYPES = {
    "latency": ("LatencyToxic", "jitter", "int64"),
    "bandwidth": ("BandwidthToxic", "rate", "int64"),
    "slow_close": ("SlowCloseToxic", "delay", "int64"),
    "timeout": ("TimeoutToxic", "timeout", "int64"),
    "reset_peer": ("ResetToxic", "timeout", "int64"),
    "slicer": ("SlicerToxic", "delay", "int"),
    "limit_data": ("LimitDataToxic", "bytes", "int64"),
}


@pytest.mark.parametrize("body", _TOXIC)
def test_a_body_that_is_no_toxic_is_told_in_the_originals_words(toxi: Any, body: str) -> None:
    toxi.create()
    answer = toxi.ask("POST", "/proxies/p/toxics", body)
    assert (answer.status, answer.error) == (400, _TOXIC[body])
    assert toxi.get("/proxies/p/toxics") == []


@pytest.mark.parametrize(
    ("value", "told"),
    [
        ('"100"', "string"),
        ("1.5", "number 1.5"),
        ("100.0", "number 100.0"),
        ("1e2", "number 1e2"),
        ("true", "bool"),
        ("99999999999999999999", "number 99999999999999999999"),
        ("[]", "array"),
    ],
)
@pytest.mark.parametrize("type_", _TYPES)
def test_attributes_must_be_integers(toxi: Any, type_: str, value: str, told: str) -> None:
    toxi.create()
    struct, field, go_type = _TYPES[type_]
    body = f'{{"type":"{type_}","attributes":{{"{field}":{value}}}}}'
    answer = toxi.ask("POST", "/proxies/p/toxics", body)
    assert answer.status == 400
    assert answer.error == (
        f"bad request body: {PROXY} {told} into Go struct field {struct}.attributes.{field} of type {go_type}"
    )


@pytest.mark.parametrize(
    ("given", "shown"),
    [
        ("0.3", "0.3"),
        ("0.1234567890123", "0.12345679"),
        ("1.0", "1"),
        ("7.50", "7.5"),
        ("-1", "-1"),
        ("0", "0"),
        ("1e-9", "1e-9"),
        ("0.00001", "0.00001"),
        ("1e22", "1e+22"),
        ("123456789", "123456790"),
        ("null", "1"),
    ],
)
def test_toxicity_is_a_float32_that_nobody_checks(toxi: Any, given: str, shown: str) -> None:
    toxi.create()
    body = f'{{"type":"noop","toxicity":{given},"attributes":{{"unknown":1}}}}'
    answer = toxi.ask("POST", "/proxies/p/toxics", body)
    assert answer.body.decode() == (
        '{"attributes":{},"name":"noop_downstream","type":"noop","stream":"downstream",'
        f'"toxicity":{shown}}}'
    )


def test_a_toxic_is_shown_byte_for_byte(toxi: Any) -> None:
    toxi.create()
    body = '{"type":"latency","stream":"UPSTREAM","attributes":{"LATENCY":-5,"jitter":null},"latency":9}'
    answer = toxi.ask("POST", "/proxies/p/toxics", body)
    assert (answer.status, answer.type) == (200, "application/json")
    assert answer.body.decode() == (
        '{"attributes":{"latency":-5,"jitter":0},"name":"latency_UPSTREAM","type":"latency",'
        '"stream":"UPSTREAM","toxicity":1}'
    )


_UPDATE = 'struct { Attributes interface {} "json:\\"attributes\\""; Toxicity float32 "json:\\"toxicity\\"" }'


@pytest.mark.parametrize(
    ("body", "error"),
    [
        ("", "EOF"),
        ("5", f"{PROXY} number into Go value of type {_UPDATE}"),
        ('{"attributes":5}', f"{PROXY} number into Go struct field .attributes of type toxics.LatencyToxic"),
        ('{"toxicity":"x"}', f"{PROXY} string into Go struct field .toxicity of type float32"),
        (
            '{"attributes":{"jitter":"x"}}',
            f"{PROXY} string into Go struct field LatencyToxic.attributes.jitter of type int64",
        ),
    ],
)  # fmt: skip
def test_an_update_that_is_wrong_is_told_in_gos_words(toxi: Any, body: str, error: str) -> None:
    toxi.create()
    toxi.toxic("latency", latency=10)
    answer = toxi.ask("PATCH", "/proxies/p/toxics/latency_downstream", body)
    assert (answer.status, answer.error) == (400, f"bad request body: {error}")


def test_toxics_are_listed_upstream_first(toxi: Any) -> None:
    toxi.create()
    for name, stream in (
        ("a", "downstream"),
        ("b", "upstream"),
        ("c", "downstream"),
        ("d", "Upstream"),
    ):
        toxi.toxic("noop", name=name, stream=stream)
    assert [row["name"] for row in toxi.get("/proxies/p/toxics")] == ["b", "d", "a", "c"]
    assert [row["name"] for row in toxi.get("/proxies/p")["toxics"]] == ["b", "d", "a", "c"]


def test_a_toxics_name_is_unique_in_its_proxy(toxi: Any) -> None:
    toxi.create()
    toxi.toxic("noop", name="x")
    body = {"type": "latency", "name": "x", "stream": "upstream", "attributes": {"latency": "bad"}}
    answer = toxi.ask("POST", "/proxies/p/toxics", body)
    assert (answer.status, answer.error) == (409, "toxic already exists")


@pytest.mark.parametrize("method", ["POST", "PATCH"])
def test_updating_a_toxic_merges_and_ignores_what_it_is(toxi: Any, method: str) -> None:
    toxi.create()
    toxi.toxic("latency", latency=10, jitter=3)
    body = {"attributes": {"jitter": 7}, "name": "y", "type": "slicer", "stream": "upstream"}
    row = toxi.do(method, "/proxies/p/toxics/latency_downstream", body)
    assert row == {
        "attributes": {"latency": 10, "jitter": 7},
        "name": "latency_downstream",
        "type": "latency",
        "stream": "downstream",
        "toxicity": 1,
    }
    for same in ("{}", "null", '{"attributes":null,"toxicity":null}'):
        assert toxi.do(method, "/proxies/p/toxics/latency_downstream", same) == row
    assert (
        toxi.do(method, "/proxies/p/toxics/latency_downstream", {"toxicity": 0.5})["toxicity"]
        == 0.5
    )
