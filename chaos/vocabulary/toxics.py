"""Toxiproxy's toxics, with Toxiproxy's names, attributes and units (toxiproxy 2.12.0, `toxics/*.go`).

Ranges are this project's: the original stores any integer, and some of them crash it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from pydantic import Field

from chaos.vocabulary.base import Parameters

# One day in milliseconds: beyond it a toxic is a mistake in units. Go overflows at far larger values.
MS_MAX = 86_400_000
BYTES_MAX = 1 << 40


class Toxic(Parameters):
    """A fault of Toxiproxy's. Attributes are integers in Toxiproxy's own units and default to 0."""


class Latency(Toxic):
    """Delay each chunk by `latency` ± `jitter`, in order. FIN follows the last byte at once."""

    word: ClassVar[str] = "latency"
    latency: int = Field(0, ge=0, le=MS_MAX, strict=True, description="delay in ms, one way")
    jitter: int = Field(0, ge=0, le=MS_MAX, strict=True, description="uniform spread in ms")


class Bandwidth(Toxic):
    """Limit each connection's stream to `rate`; 0 holds everything, and nothing is lost."""

    word: ClassVar[str] = "bandwidth"
    rate: int = Field(
        0, ge=0, le=100_000_000, strict=True, description="KB/s, 1 KB is 1000 bytes; 0 stalls"
    )


class SlowClose(Toxic):
    """Hold the end of the stream back for `delay`; bytes pass untouched."""

    word: ClassVar[str] = "slow_close"
    delay: int = Field(0, ge=0, le=MS_MAX, strict=True, description="delay of the FIN in ms")


class Timeout(Toxic):
    """Discard every byte; close after `timeout` without data; 0 never closes. Removal closes."""

    word: ClassVar[str] = "timeout"
    timeout: int = Field(
        0, ge=0, le=MS_MAX, strict=True, description="idle time in ms; 0 is for ever"
    )


class ResetPeer(Toxic):
    """At the first byte or FIN of its stream: wait `timeout`, then RST both peers."""

    word: ClassVar[str] = "reset_peer"
    timeout: int = Field(0, ge=0, le=MS_MAX, strict=True, description="wait in ms before the RST")


class Slicer(Toxic):
    """Cut chunks into small pieces, each written by itself, with `delay` after each."""

    word: ClassVar[str] = "slicer"
    average_size: int = Field(
        0, ge=0, le=BYTES_MAX, strict=True, description="bytes; 0 does not cut"
    )
    size_variation: int = Field(
        0, ge=0, le=BYTES_MAX, strict=True, description="bytes, below average_size"
    )
    delay: int = Field(0, ge=0, le=MS_MAX * 1000, strict=True, description="µs after each piece")


class LimitData(Toxic):
    """Close the connection once `bytes` have passed."""

    word: ClassVar[str] = "limit_data"
    bytes: int = Field(0, ge=0, le=BYTES_MAX, strict=True, description="bytes let through")


class Noop(Toxic):
    """Pass everything on."""

    word: ClassVar[str] = "noop"


TOXICS: Mapping[str, type[Toxic]] = {
    kind.word: kind
    for kind in (Latency, Bandwidth, SlowClose, Timeout, ResetPeer, Slicer, LimitData, Noop)
}
