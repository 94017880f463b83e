"""What the drop-in Toxiproxy server takes for each attribute: all that the original survives, and no more.

The original checks nothing. Negative times are harmless there (they mean none), so clients may send them; a negative
rate or size and times beyond Go's 64-bit nanoseconds crash it, and get a 400 here.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple


class Range(NamedTuple):
    """The lowest and the highest value that is taken."""

    lowest: int
    highest: int


_INT64_MAX = (1 << 63) - 1
_MS = Range(-(_INT64_MAX // 1_000_000), _INT64_MAX // 1_000_000)
_US = Range(-(_INT64_MAX // 1_000), _INT64_MAX // 1_000)
_SIZE = Range(0, _INT64_MAX)
# toxics/bandwidth.go computes rate * 100 in 64 bits
_RATE = Range(0, _INT64_MAX // 100)

RANGES: Mapping[str, Mapping[str, Range]] = {
    "latency": {"latency": _MS, "jitter": _MS},
    "bandwidth": {"rate": _RATE},
    "slow_close": {"delay": _MS},
    "timeout": {"timeout": _MS},
    "reset_peer": {"timeout": _MS},
    "slicer": {"average_size": _SIZE, "size_variation": _SIZE, "delay": _US},
    "limit_data": {"bytes": Range(-_INT64_MAX - 1, _INT64_MAX)},
    "noop": {},
}
