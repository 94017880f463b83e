"""Nothing from a wire raises, what is said of a stream does not depend on its pieces, and `websockets` agrees."""

from __future__ import annotations

from collections import Counter
from random import Random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from wire.fuzz_observer import (
    REFUSED,
    TAKEN,
    compare_damaged,
    compare_valid,
    cut,
    make_sample,
    observe,
)

from chaos.faults.units import Data
from chaos.link.endings import SIDES
from chaos.link.transcript import Journal, Transcript
from chaos.recorder import Recorder
from chaos.trace import Side, Stream
from chaos.wire.handshake import Extension
from chaos.wire.observer import Observer

SWITCH = b"HTTP/1.1 101 x\r\nSec-WebSocket-Extensions: permessage-deflate\r\n\r\n"
HEADS = (b"", b"GET / HTTP/1.1\r\n\r\n", SWITCH, b"HTTP/1.1 503 x\r\nRetry-After: ")
FRAMES_MIN = 6_000


def test_websockets_says_the_same_of_valid_streams() -> None:
    rng, counts = Random(7), Counter[str]()
    while counts["frames"] < FRAMES_MIN:
        counts += compare_valid(rng)
    assert counts["fragmented"] >= counts["messages"] / 3
    assert counts["compressed"] >= counts["messages"] / 3
    assert counts["control"] > counts["frames"] / 10


def test_what_websockets_refuses_is_undecoded_but_for_a_table_of_differences() -> None:
    rng = Random(7)
    kinds = Counter(compare_damaged(rng) for _ in range(800))
    assert kinds["both refuse"] > 80
    assert set(kinds) <= {"both refuse", "both accept", *TAKEN, *REFUSED}


@given(st.integers(0, 1 << 32), st.integers(0, 1 << 32))
def test_what_is_said_of_a_valid_stream_does_not_depend_on_its_pieces(
    stream: int, pieces: int
) -> None:
    sample = make_sample(Random(stream), frames=8)
    assert observe(sample, cut(Random(pieces), sample.frames)) == observe(sample, [sample.frames])


@given(st.sampled_from(HEADS), st.binary(max_size=300), st.integers(1, 40), st.booleans())
def test_any_bytes_in_any_pieces_never_raise(
    head: bytes, junk: bytes, step: int, deflate: bool
) -> None:
    payload = head + junk
    streams: tuple[Stream, Stream] = ("upstream", "downstream")
    for stream in streams:
        said: list[list[Any]] = []
        for size in (step, len(payload) + 1):
            observer = Observer(stream)
            pieces = [payload[n : n + size] for n in range(0, len(payload), size)]
            seen = [row for piece in pieces for row in observer.feed(piece)]
            seen += observer.upgrade(Extension("permessage-deflate") if deflate else None)
            said.append(seen)
        assert said[0] == said[1]
        assert sum(kind == "undecoded" for kind, _, _ in said[0]) <= 1


SENT = st.lists(
    st.tuples(
        st.sampled_from(["upstream", "downstream"]),
        st.booleans(),
        st.one_of(st.sampled_from(HEADS), st.binary(max_size=40)),
    ),
    max_size=12,
)


@given(SENT)
def test_no_conversation_ends_a_run(sent: list[tuple[Stream, bool, bytes]]) -> None:
    recorder = Recorder(lambda: 0.0)
    sides: frozenset[Side] = frozenset(("client", "server"))
    transcript = Transcript(Journal(recorder=recorder, client=1, sides=sides), 1)
    for stream, both, payload in sent:
        if not payload:
            continue
        if both:
            transcript.observe_both(stream, Data(payload))
        else:
            transcript.observe(stream, SIDES[stream][0], Data(payload))
    places = [(e.stream, e["side"]) for e in recorder.events if e.kind == "undecoded"]
    assert len(places) == len(set(places))


@pytest.mark.parametrize("byte", range(256))
def test_any_byte_may_stand_in_any_header(byte: int) -> None:
    for name in (b"Retry-After", b"Date", b"Sec-WebSocket-Extensions", b"Upgrade", b"X"):
        for line in (b"%s: %c", b"%s%c: 1", b"%s: 1\r\n %c"):
            value = line % (name, byte)
            for status in (b"101", b"503"):
                list(Observer("downstream").feed(b"HTTP/1.1 %s x\r\n%s\r\n\r\n" % (status, value)))
            list(Observer("upstream").feed(b"GET / HTTP/1.1\r\n" + value + b"\r\n\r\n"))
