"""The examples of RFC 7692 §7.2.3, and what is far larger than it looks."""

from __future__ import annotations

import zlib

import pytest

from chaos.wire.inflate import Inflater


def inflate(inflater: Inflater, packed: bytes, step: int = 1000) -> bytes:
    pieces = [packed[n : n + step] for n in range(0, len(packed), step)]
    content = b"".join(part for piece in pieces for part in inflater.feed(piece))
    return content + b"".join(inflater.end())


@pytest.mark.parametrize("step", [1, 1000])
@pytest.mark.parametrize(
    "packed",
    [
        "f248cdc9c90700",  # one block
        "000500faff48656c6c6f00",  # without compression
        "f348cdc9c9070000",  # a last block, and an empty one
        "f248050000" + "00ffff" + "cac9c90700",  # two blocks
    ],
)
def test_hello_is_hello_again_and_again(packed: str, step: int) -> None:
    for keeps_context in (True, False):
        inflater = Inflater(keeps_context=keeps_context)
        for _ in range(3):
            assert inflate(inflater, bytes.fromhex(packed), step) == b"Hello"


def test_a_message_may_refer_to_those_before_it() -> None:
    first, second = bytes.fromhex("f248cdc9c90700"), bytes.fromhex("f200110000")
    shared = Inflater(keeps_context=True)
    assert [inflate(shared, first), inflate(shared, second)] == [b"Hello", b"Hello"]
    alone = Inflater(keeps_context=False)
    inflate(alone, first)
    with pytest.raises(zlib.error):
        inflate(alone, second)


def test_a_message_may_refer_across_a_last_block() -> None:
    inflater = Inflater(keeps_context=True)
    assert inflate(inflater, bytes.fromhex("f348cdc9c9070000")) == b"Hello"
    assert inflate(inflater, bytes.fromhex("f200110000")) == b"Hello"


def test_a_large_message_comes_in_pieces() -> None:
    compressor = zlib.compressobj(9, zlib.DEFLATED, -15)
    packed = compressor.compress(bytes(50_000_000)) + compressor.flush(zlib.Z_SYNC_FLUSH)
    inflater = Inflater(keeps_context=True)
    sizes = [len(piece) for piece in inflater.feed(packed[:-4])]
    sizes += [len(piece) for piece in inflater.end()]
    assert sum(sizes) == 50_000_000
    assert max(sizes) <= 65_536
