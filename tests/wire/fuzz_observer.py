"""Compares the observer with the parser of `websockets` on generated streams, valid ones and damaged ones.

    python tests/wire/fuzz_observer.py --frames 1000000 --seed 1

`tests/wire/test_fuzz_observer.py` runs a short version.
"""

from __future__ import annotations

import argparse
import json
import logging
import sys
import time
import zlib
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from random import Random
from typing import Any

from websockets.exceptions import ProtocolError
from websockets.extensions.permessage_deflate import PerMessageDeflate
from websockets.frames import Frame, Opcode
from websockets.protocol import CLIENT, OPEN, SERVER, Protocol
from websockets.utils import apply_mask

from chaos.trace import Stream
from chaos.wire.decoder import Observation
from chaos.wire.handshake import Extension
from chaos.wire.observer import Observer

REQUEST = b"GET / HTTP/1.1\r\nHost: h\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n"
SIZES = (0, 1, 7, 30, 30, 64, 64, 125, 126, 127, 200, 1000, 4096, 4097)
LARGE = (5000, 20000, 65535, 65536, 70000)
TEXT, BINARY = 1, 2
QUIET = logging.getLogger("fuzz_observer")
QUIET.addHandler(logging.NullHandler())
QUIET.propagate = False


@dataclass(frozen=True)
class Deflate:
    """How a stream is compressed: the window of its sender, and whether messages share it."""

    bits: int
    takeover: bool

    def header(self, stream: Stream) -> str:
        side = "client" if stream == "upstream" else "server"
        shared = "" if self.takeover else f"; {side}_no_context_takeover"
        return f"permessage-deflate; {side}_max_window_bits={self.bits}{shared}"


@dataclass
class Sample:
    """A stream of frames behind a handshake."""

    stream: Stream
    deflate: Deflate | None
    frames: bytes = b""
    counts: Counter[str] = field(default_factory=Counter)


def make_sample(rng: Random, *, frames: int = 40) -> Sample:
    """Return a valid stream of about so many frames; a third of the streams is compressed."""
    deflate = None
    if rng.random() < 0.5:
        deflate = Deflate(bits=rng.randint(9, 15), takeover=rng.random() < 0.5)
    sample = Sample(rng.choice(("upstream", "downstream")), deflate)
    compressor = None
    out: list[bytes] = []
    while sample.counts["frames"] < frames:
        if rng.random() < 0.2:
            out.append(_control(rng, sample))
            continue
        if deflate is not None and (compressor is None or not deflate.takeover):
            compressor = zlib.compressobj(rng.randint(1, 9), zlib.DEFLATED, -deflate.bits)
        out += _message(rng, sample, compressor)
    if rng.random() < 0.5:
        out.append(_frame(rng, sample, 0x88, _close_payload(rng)))
    sample.frames = b"".join(out)
    return sample


def _close_payload(rng: Random) -> bytes:
    if rng.random() < 0.2:
        return b""
    code = rng.choice((1000, 1001, 1002, 1008, 1011, 1012, 1013, 3000, 4000, 4999))
    return code.to_bytes(2, "big") + rng.choice((b"", b"away", "früh".encode()))


def _message(rng: Random, sample: Sample, compressor: Any) -> Iterator[bytes]:
    is_text = rng.random() < 0.7
    content = _content(rng, is_text=is_text)
    first = TEXT if is_text else BINARY
    if compressor is not None and rng.random() < 0.8:
        packed = compressor.compress(content) + compressor.flush(zlib.Z_SYNC_FLUSH)
        content, first = packed[:-4], first | 0x40
        sample.counts["compressed"] += 1
    sample.counts["messages"] += 1
    if rng.random() < 0.5:
        yield _frame(rng, sample, 0x80 | first, content)
        return
    sample.counts["fragmented"] += 1
    places = sorted(rng.randint(0, len(content)) for _ in range(rng.randint(1, 4)))
    parts = [content[a:b] for a, b in zip([0, *places], [*places, len(content)], strict=True)]
    for number, part in enumerate(parts):
        opcode = first if number == 0 else 0
        yield _frame(rng, sample, opcode | 0x80 * (number == len(parts) - 1), part)
        if number < len(parts) - 1 and rng.random() < 0.4:
            yield _control(rng, sample)


def _content(rng: Random, *, is_text: bool) -> bytes:
    size = rng.choice(LARGE) if rng.random() < 0.02 else rng.choice(SIZES)
    kind = rng.random()
    if kind < 0.5:
        row: dict[str, Any] = {"id": rng.randint(0, 10**9), "sender": "client-1"}
        if rng.random() < 0.3:
            row = {"data": {"id": 7, "rows": [{"id": 8}]}, **row}
        row["pad"] = "".join(rng.choices('abc "\\{}[],:é', k=min(size, 300))) * (size // 300 + 1)
        return json.dumps(row, ensure_ascii=rng.random() < 0.5).encode()
    if is_text:
        return "".join(rng.choices("abcdefgh é€😀", k=min(size, 500))).encode() * (size // 500 + 1)
    return rng.randbytes(size)


def _control(rng: Random, sample: Sample) -> bytes:
    sample.counts["control"] += 1
    return _frame(rng, sample, rng.choice((0x89, 0x8A)), rng.randbytes(rng.randint(0, 125)))


def _frame(rng: Random, sample: Sample, first: int, content: bytes) -> bytes:
    sample.counts["frames"] += 1
    masked = 0x80 if sample.stream == "upstream" else 0
    size = len(content)
    if size < 126:
        head = bytes((first, masked | size))
    elif size < 65536:
        head = bytes((first, masked | 126)) + size.to_bytes(2, "big")
    else:
        head = bytes((first, masked | 127)) + size.to_bytes(8, "big")
    if not masked:
        return head + content
    key = rng.choice((bytes(4), rng.randbytes(4)))
    return head + key + apply_mask(content, key)


def damage(rng: Random, sample: Sample) -> Sample:
    """Return the stream with a few bytes changed."""
    wrong = bytearray(sample.frames)
    for _ in range(rng.randint(1, 3)):
        place = rng.randrange(len(wrong))
        wrong[place] ^= rng.choice((1 << rng.randrange(8), rng.randint(1, 255)))
    return Sample(sample.stream, sample.deflate, bytes(wrong), sample.counts)


def cut(rng: Random, stream: bytes) -> list[bytes]:
    """Return the stream in random pieces: whole, large ones, small ones, or single bytes."""
    largest = rng.choice((len(stream), 20_000, 1500, 100, 7))
    pieces, place = [], 0
    if largest == 7:  # not all of a large stream
        largest = 7 if len(stream) < 20_000 else 200
    while place < len(stream):
        size = rng.randint(1, max(1, largest))
        pieces.append(stream[place : place + size])
        place += size
    return pieces


Row = tuple[str, int, bool, int | None, int | None]


def observe(sample: Sample, pieces: list[bytes]) -> tuple[list[Row], dict[str, Any] | None]:
    """Return what the observer says: (opcode, bytes, final, code, id) of each frame, and what was undecoded."""
    extension = "" if sample.deflate is None else sample.deflate.header(sample.stream)
    observer = Observer(sample.stream)
    seen: list[Observation] = []
    if sample.stream == "upstream":
        seen += observer.feed(REQUEST)
        seen += observer.upgrade(_extension(extension))
    else:
        lines = f"Sec-WebSocket-Extensions: {extension}\r\n" if extension else ""
        seen += observer.feed(f"HTTP/1.1 101 x\r\n{lines}\r\n".encode())
    for piece in pieces:
        seen += observer.feed(piece)
    rows = [
        (f["opcode"], f["bytes"], f.get("fin", True), f.get("code"), f.get("id"))
        for kind, f, _ in seen
        if kind == "frame"
    ]
    wrong = next((fields for kind, fields, _ in seen if kind == "undecoded"), None)
    return rows, wrong


def _extension(header: str) -> Extension | None:
    name, *rest = header.split("; ")
    parts = [part.partition("=") for part in rest]
    return Extension(name, tuple((n, v if e else None) for n, e, v in parts)) if name else None


def parse(sample: Sample) -> tuple[list[Row], BaseException | None]:
    """Return what `websockets` says, as `observe` does, and what it raised."""
    side = SERVER if sample.stream == "upstream" else CLIENT
    protocol = Protocol(side, state=OPEN, max_size=None, logger=QUIET)
    if sample.deflate is not None:
        protocol.extensions = [
            PerMessageDeflate(not sample.deflate.takeover, False, sample.deflate.bits, 15)
        ]
    protocol.receive_data(sample.frames)
    rows: list[Row] = []
    message = bytearray()
    for frame in protocol.events_received():
        assert isinstance(frame, Frame)
        code = number = None
        if frame.opcode is Opcode.CLOSE:
            code = int.from_bytes(frame.data[:2], "big") if frame.data else 1005
        elif frame.opcode in (Opcode.TEXT, Opcode.BINARY, Opcode.CONT):
            if frame.opcode is not Opcode.CONT:
                message.clear()
            message += frame.data
            number = _id_of(bytes(message)) if frame.fin else None
        rows.append((_NAMES[frame.opcode], len(frame.data), frame.fin, code, number))
    return rows, protocol.parser_exc


_NAMES = {
    Opcode.CONT: "continuation",
    Opcode.TEXT: "text",
    Opcode.BINARY: "binary",
    Opcode.CLOSE: "close",
    Opcode.PING: "ping",
    Opcode.PONG: "pong",
}


def _id_of(message: bytes) -> int | None:
    try:
        row = json.loads(message.decode()) if message.lstrip()[:1] == b"{" else None
    except (ValueError, RecursionError):
        return None
    number = row.get("id") if isinstance(row, dict) else None
    return number if type(number) is int and abs(number) < 1 << 63 else None


# What `websockets` refuses and the observer decodes, each with why that is right.
TAKEN: dict[str, str] = {
    "AssertionError": "a message may end with bytes that only its last block gives: `websockets` asserts not",
    "incomplete fragmented message": "a Close may come inside a message (RFC 6455 §5.4)",
    "invalid status code": "the code is what a check judges, so it is told",
    "reason is not UTF-8": "the reason is not read",
    "decompression failed": "with a window smaller than the largest zlib's answer depends on its buffers",
}
# What the observer refuses and `websockets` does not, each with why that is right.
REFUSED: dict[str, str] = {
    "RFC 6455 §8.1": "`websockets` looks at the text in a layer above",
    "RFC 6455 §5.2": "a length in a longer form than need be, or with its highest bit set",
    "RFC 7692 §7.2.2": "`websockets` reads nothing behind a last block (RFC 7692 §7.2.3.4)",
    "after a Close": "`websockets` discards what follows a Close",
    "a frame that is not all there": "`websockets` reads a frame whole before it looks at its header",
}


def compare_valid(rng: Random) -> Counter[str]:
    """Compare one valid stream, whole and in pieces. Raises AssertionError."""
    sample = make_sample(rng)
    theirs, error = parse(sample)
    assert error is None, error
    for pieces in ([sample.frames], cut(rng, sample.frames)):
        ours, wrong = observe(sample, pieces)
        assert wrong is None, wrong
        assert ours == theirs, next(
            (n, a, b) for n, (a, b) in enumerate(zip(ours, theirs, strict=False)) if a != b
        )
    return sample.counts


def compare_damaged(rng: Random) -> str:
    """Compare one damaged stream; return which row of the tables of differences it needs. Raises AssertionError."""
    sample = damage(rng, make_sample(rng, frames=10))
    theirs, error = parse(sample)
    ours, wrong = observe(sample, [sample.frames])
    assert observe(sample, cut(rng, sample.frames)) == (ours, wrong), "depends on the pieces"
    for mine, other in zip(ours, theirs, strict=False):
        # of a long message only the start is read where that names a number
        known = 5 if mine[1] <= 4096 and mine[0] != "continuation" else 4
        if sample.deflate is not None and mine[:2] != other[:2]:
            assert mine[0] == other[0]
            assert mine[1] > other[1]
            return "RFC 7692 §7.2.2"
        assert mine[:known] == other[:known]
    if error is not None and wrong is None:
        name = "reason is not UTF-8" if isinstance(error, UnicodeDecodeError) else str(error)
        name = name or type(error).__name__
        assert name in TAKEN, (repr(error), ours[-2:], theirs[-2:])
        assert name != "decompression failed" or (sample.deflate and sample.deflate.bits < 15)
        return name
    if error is None and wrong is not None:
        if any(row[0] == "close" for row in ours):
            return "after a Close"
        rule = wrong["why"].rpartition("(")[2].rstrip(")")
        if rule in REFUSED:
            return rule
        assert len(theirs) <= len(ours), wrong
        return "a frame that is not all there"
    if error is not None:
        assert isinstance(error, (ProtocolError, UnicodeDecodeError, AssertionError)), error
        return "both refuse"
    return "both accept"


def main() -> None:
    """Run as many frames as asked for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--frames", type=int, default=100_000, help="valid frames to compare")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    counts, differences, number = Counter[str](), Counter[str](), 0
    began_s = told_s = time.monotonic()
    while counts["frames"] < options.frames:
        number += 1
        try:
            counts += compare_valid(Random(f"{options.seed}/{number}"))
            differences[compare_damaged(Random(f"{options.seed}/{number}"))] += 1
        except BaseException:
            print(f"\nstream {number} of seed {options.seed}", file=sys.stderr)
            raise
        if time.monotonic() - told_s > 1:
            told_s = time.monotonic()
            print(f"\r{counts['frames']:,} frames", end="", file=sys.stderr, flush=True)
    print(f"\r{time.monotonic() - began_s:.0f} s; no difference; seed {options.seed}")
    print(", ".join(f"{count:,} {name}" for name, count in counts.items()))
    print("damaged: " + ", ".join(f"{count:,} {name}" for name, count in differences.items()))


if __name__ == "__main__":
    main()
