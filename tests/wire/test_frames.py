"""Frames are found in any stream however it is cut, and faults on frames lose nothing else."""

from __future__ import annotations

from random import Random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from wsproto.frame_protocol import FrameProtocol, Opcode

from chaos.faults.machine import Flows
from chaos.faults.pipe import Pipe, Stage
from chaos.faults.units import Data, Fin
from chaos.vocabulary.faults import DelayFrames, DropFrames, Fault
from chaos.wire.frames import FrameCutter

HEAD = b"GET / HTTP/1.1\r\nUpgrade: websocket\r\n\r\n"
SWITCH = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\r\n"
WIRE = {"text": Opcode.TEXT, "binary": Opcode.BINARY, "ping": Opcode.PING, "pong": Opcode.PONG}


def frame(opcode: str, payload: bytes, *, client: bool = True) -> bytes:
    return FrameProtocol(client, [])._serialize_frame(WIRE[opcode], payload)


frames = st.lists(
    st.tuples(st.sampled_from(["text", "ping", "pong", "binary"]), st.binary(max_size=125)),
    max_size=6,
)


def cut(payload: bytes, places: list[int]) -> list[bytes]:
    edges = sorted({0, len(payload), *(place % (len(payload) + 1) for place in places)})
    return [payload[a:b] for a, b in zip(edges, edges[1:], strict=False) if b > a]


@given(frames, st.lists(st.integers(0, 5000), max_size=30), st.booleans())
def test_every_byte_is_given_back_and_every_frame_is_found(
    rows: list[tuple[str, bytes]], places: list[int], client: bool
) -> None:
    stream = (HEAD if client else SWITCH) + b"".join(frame(*row, client=client) for row in rows)
    cutter = FrameCutter()
    spans = [span for chunk in cut(stream, places) for span in cutter.feed(chunk)]
    assert b"".join(span.payload for span in spans) == stream
    assert [span.opcode for span in spans if span.ends] == [opcode for opcode, _ in rows]
    assert [span.opcode for span in spans if span.begins] == [opcode for opcode, _ in rows]


def test_a_chunk_that_looks_like_a_frame_but_lies_in_one_is_skipped_as_a_part() -> None:
    cutter = FrameCutter()
    whole = frame("binary", b"ab\x89\x00cd", client=False)
    for chunk in (SWITCH, whole[:-4], whole[-4:-2]):
        cutter.skip(chunk)
    assert [(span.begins, span.ends) for span in cutter.feed(whole[-2:])] == [(False, True)]


@given(frames, st.lists(st.integers(0, 5000), max_size=30), st.booleans(), st.booleans())
def test_what_is_skipped_leaves_a_cutter_where_it_would_be_otherwise(
    rows: list[tuple[str, bytes]], places: list[int], head: bool, whole: bool
) -> None:
    pieces = [frame(*row) for row in rows]
    stream = (HEAD if head else b"no http") + b"".join(pieces)
    chunks = [HEAD, *pieces] if whole else cut(stream, places)
    fed, skipped = FrameCutter(), FrameCutter()
    for chunk in chunks:
        assert skipped.copy().feed(chunk) == fed.feed(chunk)
        skipped.skip(chunk)


@pytest.mark.parametrize("size", [0, 125, 126, 65535, 65536, 70000])
def test_every_length_encoding_is_followed(size: int) -> None:
    cutter = FrameCutter()
    stream = HEAD + frame("binary", b"x" * size) + frame("ping", b"p")
    ends = [
        s.opcode
        for n in range(0, len(stream), 1000)
        for s in cutter.feed(stream[n : n + 1000])
        if s.ends
    ]
    assert ends == ["binary", "ping"]


def test_interim_responses_are_not_the_answer() -> None:
    cutter = FrameCutter()
    stream = b"HTTP/1.1 103 Early Hints\r\n\r\n" + SWITCH + frame("ping", b"", client=False)
    assert [span.opcode for span in cutter.feed(stream) if span.ends] == ["ping"]


def test_a_refused_handshake_has_no_frames() -> None:
    cutter = FrameCutter()
    assert {span.opcode for span in cutter.feed(b"HTTP/1.1 403 Forbidden\r\n\r\n\x8a\x00")} == {
        None
    }
    assert cutter.opaque


def pipe_with(fault: Fault | None) -> Pipe:
    pipe = Pipe(stream="upstream", flows=Flows(opened_s=0.0), rng_for=lambda key: Random(key))
    set_fault(pipe, 0.0, fault)
    return pipe


def set_fault(pipe: Pipe, now: float, fault: Fault | None) -> None:
    pipe.replace(now, [Stage(key="0", settings=fault)] if fault else [])


def out_of(pipe: Pipe, now: float) -> bytes:
    return b"".join(t.unit.payload for t in pipe.advance(now) if isinstance(t.unit, Data))


@given(frames, st.lists(st.integers(0, 5000), max_size=30))
def test_dropping_pongs_drops_just_the_pongs(
    rows: list[tuple[str, bytes]], places: list[int]
) -> None:
    wire = [(opcode, frame(opcode, payload)) for opcode, payload in rows]
    pipe = pipe_with(DropFrames(opcodes=("pong",)))
    for chunk in cut(HEAD + b"".join(raw for _, raw in wire), places):
        pipe.feed(0.0, Data(chunk))
    assert out_of(pipe, 1.0) == HEAD + b"".join(raw for opcode, raw in wire if opcode != "pong")
    assert bool(pipe.felt()) == any(opcode == "pong" for opcode, _ in rows)


def test_a_fault_added_in_the_middle_of_a_frame_lets_that_frame_pass() -> None:
    pong, ping = frame("pong", b"first"), frame("ping", b"second")
    pipe = pipe_with(None)
    pipe.feed(0.0, Data(HEAD + pong[:4]))
    set_fault(pipe, 1.0, DropFrames(opcodes=("pong",)))
    pipe.feed(1.0, Data(pong[4:] + ping + frame("pong", b"third")))
    assert out_of(pipe, 2.0) == HEAD + pong + ping


def test_a_fault_removed_in_the_middle_of_a_frame_gives_its_first_half_back() -> None:
    pong = frame("pong", b"first")
    pipe = pipe_with(DropFrames(opcodes=("pong",)))
    pipe.feed(0.0, Data(HEAD + pong[:4]))
    set_fault(pipe, 1.0, None)
    pipe.feed(1.0, Data(pong[4:]))
    assert out_of(pipe, 2.0) == HEAD + pong


def test_delayed_frames_hold_back_what_is_behind_them() -> None:
    pipe = pipe_with(DelayFrames(opcodes=("pong",), delay="2s"))
    pipe.feed(0.0, Data(HEAD + frame("ping", b"a")))
    pipe.feed(1.0, Data(frame("pong", b"late")))
    pipe.feed(1.5, Data(frame("ping", b"behind")))
    pipe.feed(1.6, Fin())
    out = pipe.advance(9.0)
    assert [round(timed.at_s, 6) for timed in out] == [0.0, 0.0, 3.0, 3.0, 3.0]
    assert out[-1].unit == Fin()


def piece(first: int, payload: bytes) -> bytes:
    """Return a frame with this first byte, masked by zeros."""
    return bytes((first, 0x80 | len(payload))) + bytes(4) + payload


PING = piece(0x89, b"p")
MESSAGE = [piece(0x01, b"te"), PING, piece(0x00, b"x"), piece(0x80, b"t")]
OTHER = [piece(0x02, b"bi"), piece(0x80, b"n")]


@pytest.mark.parametrize(
    ("opcodes", "left"),
    [
        (("text",), [PING, *OTHER, PING]),
        (("binary",), [*MESSAGE, PING]),
        (("continuation",), [PING, PING]),
        (("ping",), [MESSAGE[0], *MESSAGE[2:], *OTHER]),
        (("text", "ping"), OTHER),
    ],
)
@given(st.lists(st.integers(0, 5000), max_size=30))
def test_a_message_is_dropped_whole_or_not_at_all(
    opcodes: Any, left: list[bytes], places: list[int]
) -> None:
    pipe = pipe_with(DropFrames(opcodes=opcodes))
    for chunk in cut(HEAD + b"".join([*MESSAGE, *OTHER, PING]), places):
        pipe.feed(0.0, Data(chunk))
    assert out_of(pipe, 1.0) == HEAD + b"".join(left)


@given(st.integers(0, 40), st.integers(0, 40))
def test_a_message_that_began_before_the_fault_or_outlives_it_passes_whole(
    added: int, removed: int
) -> None:
    stream = b"".join(MESSAGE)
    start, end = sorted((added % (len(stream) + 1), removed % (len(stream) + 1)))
    pipe = pipe_with(None)
    for now, (place, until, fault) in enumerate(
        ((0, start, None), (start, end, DropFrames(opcodes=("text",))), (end, len(stream), None))
    ):
        set_fault(pipe, now, fault)
        pipe.feed(now, Data((HEAD if now == 0 else b"") + stream[place:until]))
    out = out_of(pipe, 9.0)
    if (start, end) == (0, len(stream)):
        assert out == HEAD + PING
    else:
        # the ping may have overtaken the fragments that were held
        assert sorted(out) == sorted(HEAD + stream)
        assert [s.opcode for s in FrameCutter().feed(out) if s.ends and s.opcode != "ping"] == [
            "text",
            "continuation",
            "continuation",
        ]


def test_a_message_too_large_to_be_held_passes() -> None:
    pipe = pipe_with(DropFrames(opcodes=("binary",)))
    large = b"\x82\xff" + (6_000_000).to_bytes(8, "big") + bytes(4 + 6_000_000)
    out = b""
    for n in range(0, len(HEAD + large), 65536):
        assert not pipe.full
        pipe.feed(0.0, Data((HEAD + large)[n : n + 65536]))
        out += out_of(pipe, 0.0)
    assert out == HEAD + large
    pipe.feed(0.0, Data(OTHER[0] + OTHER[1]))
    assert out_of(pipe, 0.0) == b""


def test_all_fragments_of_a_message_are_delayed() -> None:
    pipe = pipe_with(DelayFrames(opcodes=("text",), delay="2s"))
    pipe.feed(0.0, Data(HEAD))
    for now, part in enumerate(MESSAGE):
        pipe.feed(float(now), Data(part))
    times = [round(timed.at_s, 6) for timed in pipe.advance(9.0)]
    assert times == [0.0, 2.0, 2.0, 4.0, 5.0]


@pytest.mark.parametrize(
    ("begins", "opaque"),
    [
        (b"G", False),
        (b"GET / HT", False),
        (b"HTTP/1.1 1", False),
        (b"GETS", True),
        (b"POST / HTTP/1.1", True),
        (b"x", True),
    ],
)
def test_what_no_handshake_begins_with_has_no_frames(begins: bytes, opaque: bool) -> None:
    cutter = FrameCutter()
    for byte in begins:
        cutter.feed(bytes([byte]))
    assert cutter.opaque is opaque
