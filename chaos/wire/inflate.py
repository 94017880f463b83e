"""Takes the compression off the messages of one direction (permessage-deflate, RFC 7692)."""

from __future__ import annotations

import zlib
from collections.abc import Iterator

# The largest window reads what was written with any (RFC 7692 §7.1.2). With a smaller one, whether zlib refuses
# bytes that refer too far back depends on the sizes of the pieces that it is given.
_WINDOW_BITS = 15
_WINDOW_BYTES = 1 << _WINDOW_BITS
# what every message ends with, and does not carry (RFC 7692 §7.2.1)
_TAIL = b"\x00\x00\xff\xff"
# given out at once, so that a message may be far larger than what is kept of it
_PIECE_BYTES = 65_536


class Inflater:
    """Inflates message after message. Raises zlib.error for what is not compressed so."""

    __slots__ = ("_keeps_context", "_window", "_zlib")

    def __init__(self, *, keeps_context: bool) -> None:
        """Begin with the first message; `keeps_context` says that later ones may refer to those before them."""
        self._keeps_context = keeps_context
        self._window = b""  # the last bytes that were given out
        self._zlib = zlib.decompressobj(-_WINDOW_BITS)

    def feed(self, packed: bytes) -> Iterator[bytes]:
        """Take bytes of a message, and give what they become, in pieces."""
        piece = b""
        # a full piece may not be all that these bytes become
        while packed or (len(piece) == _PIECE_BYTES and not self._zlib.eof):
            if self._zlib.eof:
                self._zlib = zlib.decompressobj(-_WINDOW_BITS, zdict=self._window)
            piece = self._zlib.decompress(packed, _PIECE_BYTES)
            # a block that says that it is the last may be followed by others (RFC 7692 §7.2.3.4)
            packed = self._zlib.unused_data if self._zlib.eof else self._zlib.unconsumed_tail
            if piece:
                self._window = (self._window + piece)[-_WINDOW_BYTES:]
                yield piece

    def end(self) -> Iterator[bytes]:
        """Give what is left of a message, which ends here."""
        if not self._zlib.eof:
            yield from self.feed(_TAIL)
        if not self._keeps_context:
            self._window = b""
            self._zlib = zlib.decompressobj(-_WINDOW_BITS)
