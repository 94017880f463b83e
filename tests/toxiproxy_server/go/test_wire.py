"""Toxiproxy's JSON: what a request means, without a server."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chaos.toxiproxy_server.go.gojson import write
from chaos.toxiproxy_server.go.wire import (
    ApiError,
    read_body,
    read_populate,
    read_proxy,
    read_toxic,
    served_faults,
    update_toxic,
)
from chaos.vocabulary.toxics import TOXICS, Latency, SlowClose


def toxic(text: str, taken: tuple[str, ...] = ()) -> Any:
    return read_toxic(read_body(text.encode()), taken)


def test_what_is_missing_or_null_is_left_open() -> None:
    for text in (b"null", b"{}", b'{"enabled":null,"listen":null,"name":null}'):
        row = read_proxy(read_body(text))
        assert (row.name, row.listen, row.upstream, row.enabled) == ("", None, None, None)


def test_the_last_of_repeated_keys_counts_whatever_their_case() -> None:
    assert read_proxy(read_body(b'{"name":"a","NAME":"b"}')).name == "b"


def test_each_toxic_has_a_range_for_each_attribute() -> None:
    assert {word: set(kind.model_fields) for word, kind in TOXICS.items()} == {
        word: set(kind.survived()) for word, kind in TOXICS.items()
    }


@pytest.mark.parametrize("word", TOXICS)
def test_every_attribute_defaults_to_0_and_takes_both_ends_of_its_range(word: str) -> None:
    assert set(toxic(f'{{"type":"{word}"}}').attributes.values()) <= {0}
    for name, allowed in TOXICS[word].survived().items():
        for value in allowed:
            made = toxic(f'{{"type":"{word}","attributes":{{"{name}":{value}}}}}')
            assert made.attributes[name] == value
        for value in (allowed.lowest - 1, allowed.highest + 1):
            with pytest.raises(ApiError) as caught:
                toxic(f'{{"type":"{word}","attributes":{{"{name}":{value}}}}}')
            assert caught.value.status == 400


def test_negative_times_are_shown_as_given_and_mean_none() -> None:
    made = toxic('{"type":"slow_close","attributes":{"delay":-7}}')
    assert made.attributes == {"delay": -7}
    assert made.settings == SlowClose(delay=0)
    late = toxic('{"type":"latency","attributes":{"latency":-7,"jitter":9}}').settings
    assert isinstance(late, Latency)
    assert (late.latency, late.jitter) == (-7, 9)


def test_streams_are_told_by_their_word_in_any_case() -> None:
    assert toxic('{"type":"noop","stream":"UpStream"}').streams == ("upstream",)
    assert toxic('{"type":"noop"}').streams == ("downstream",)
    assert toxic('{"type":"stall"}').streams == ("upstream", "downstream")
    assert toxic('{"type":"stall","stream":"downstream"}').streams == ("downstream",)


def test_faults_of_streams_are_toxic_types_and_no_others() -> None:
    assert set(served_faults()) == {
        "stall", "blackhole", "reset", "refuse", "slow_accept", "reject_upgrade", "strip_upgrade",
        "idle_timeout", "max_lifetime", "drop_frames", "delay_frames",
    }  # fmt: skip
    assert not set(served_faults()) & set(TOXICS)


@pytest.mark.parametrize("word", ["reject_upgrade", "latency", "slow_accept"])
def test_a_number_of_thousands_of_digits_is_an_answer_and_no_crash(word: str) -> None:
    digits = "9" * 10_000
    row = f'{{"status":{digits},"latency":{digits},"delay":{digits}}}'
    with pytest.raises(ApiError):
        toxic(f'{{"type":"{word}","attributes":{row}}}')


@pytest.mark.parametrize("value", ['"1.5s"', "1500", "1500.0", "1.5e3"])
def test_durations_of_faults_are_milliseconds_or_have_a_unit(value: str) -> None:
    made = toxic(f'{{"type":"slow_accept","attributes":{{"delay":{value}}}}}')
    assert made.attributes == {"delay": "1.5s"}


@pytest.mark.parametrize("value", ["-1", "9007199254740993", "1e300", "1e999", '"-1s"'])
def test_durations_of_faults_have_a_range(value: str) -> None:
    with pytest.raises(ApiError):
        toxic(f'{{"type":"slow_accept","attributes":{{"delay":{value}}}}}')


def test_an_update_keeps_what_it_does_not_name_and_leaves_the_old_one_alone() -> None:
    before = toxic('{"type":"latency","attributes":{"latency":5,"jitter":1},"toxicity":0.5}')
    after = update_toxic(before, read_body(b'{"attributes":{"JITTER":2}}'))
    assert after.attributes == {"latency": 5, "jitter": 2}
    assert (after.toxicity, before.attributes["jitter"]) == (0.5, 1)
    assert update_toxic(before, None) == before


def test_populate_reads_toxics_and_names_the_proxy_that_is_wrong() -> None:
    good = b'{"name":"a","upstream":"u","toxics":[{"type":"noop"}]}'
    [row] = read_populate(read_body(b"[" + good + b"]"))
    assert [each.name for each in row.toxics] == ["noop_downstream"]
    bad = b'{"name":"b","upstream":"u","toxics":[{"type":"x"}]}'
    with pytest.raises(ApiError, match="invalid toxic type at proxy 2"):
        read_populate(read_body(b"[" + good + b"," + bad + b"]"))


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=3),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                ["name", "type", "stream", "toxicity", "attributes", "delay", "toxics"]
            ),
            inner,
            max_size=4,
        )
    ),
    max_leaves=8,
)


@given(JSON, st.sampled_from([*TOXICS, *served_faults()]))
def test_no_body_makes_anything_but_an_answer(value: Any, word: str) -> None:
    if isinstance(value, dict) and "type" not in value:
        value["type"] = word
    body = read_body(write(value).encode())
    for reader in (read_proxy, read_populate, lambda row: read_toxic(row, ())):
        try:
            reader(body)
        except ApiError as error:
            assert error.status in (400, 409)


@pytest.mark.parametrize("depth", [100, 600, 5_000])
def test_an_attribute_that_nests_deep_is_refused_like_any_other(depth: int) -> None:
    nested = "[" * depth + "]" * depth
    with pytest.raises(ApiError, match=r"attributes\.body") as caught:
        toxic(f'{{"type":"reject_upgrade","attributes":{{"body":{nested}}}}}')
    assert caught.value.status == 400
