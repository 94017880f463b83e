"""Toxiproxy's toxics, with Toxiproxy's names, attributes and units (toxiproxy 2.12.0, `toxics/*.go`).

Ranges are this project's: the original stores any integer, and some of them crash it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, NamedTuple

from pydantic import Field

from chaos.vocabulary.word import EACH_WAY, EVERYWHERE, Draw, Streams, Word, except_on

# One day in milliseconds: beyond it a toxic is a mistake in units. Go overflows at far larger values.
MS_MAX = 86_400_000
BYTES_MAX = 1 << 40


class Survived(NamedTuple):
    """The lowest and the highest value of an attribute that the original survives.

    The original checks nothing. Negative times are harmless there (they mean none), so clients may send them; a
    negative rate or size and times beyond Go's 64-bit nanoseconds crash it. The drop-in server takes what survives.
    """

    lowest: int
    highest: int


_INT64_MAX = (1 << 63) - 1
_MS = Survived(-(_INT64_MAX // 1_000_000), _INT64_MAX // 1_000_000)
_US = Survived(-(_INT64_MAX // 1_000), _INT64_MAX // 1_000)
_SIZE = Survived(0, _INT64_MAX)
# toxics/bandwidth.go computes rate * 100 in 64 bits
_RATE = Survived(0, _INT64_MAX // 100)
_COUNT = Survived(-_INT64_MAX - 1, _INT64_MAX)


class Toxic(Word):
    """A fault of Toxiproxy's. Attributes are integers in Toxiproxy's own units and default to 0.

    `go_name` is what the original calls it in its error texts (unset: its class's name and `Toxic`), and `go_type`
    the type of its attributes there.
    """

    kind = "toxic"
    directed = served = True
    go_name: ClassVar[str]
    go_type: ClassVar[str] = "int64"

    def __init_subclass__(cls, **settings: Any) -> None:
        super().__init_subclass__(**settings)
        cls.go_name = cls.__dict__.get("go_name", f"{cls.__name__}Toxic")

    @classmethod
    def survived(cls) -> Mapping[str, Survived]:
        """Return for each attribute what the original survives."""
        return {
            name: next(mark for mark in field.metadata if isinstance(mark, Survived))
            for name, field in cls.model_fields.items()
        }


class Latency(Toxic):
    """Delay each chunk by `latency` ± `jitter`, in order. FIN follows the last byte at once."""

    shrinkable = True
    support = except_on(
        EVERYWHERE,
        toxiproxy=(
            "approximate",
            "chained latencies do not add up under load; jitter cannot be seeded",
        ),
    )
    draws = (
        Draw(
            rank=70,
            streams=EACH_WAY,
            strengths=(
                {"latency": 100},
                {"latency": 400, "jitter": 100},
                {"latency": 1000},
                {"latency": 3000, "jitter": 1000},
                {"latency": 10000},
            ),
            shared=True,
        ),
    )
    latency: Annotated[int, _MS] = Field(
        0, ge=0, le=MS_MAX, strict=True, description="delay in ms, one way"
    )
    jitter: Annotated[int, _MS] = Field(
        0, ge=0, le=MS_MAX, strict=True, description="uniform spread in ms"
    )

    def round_trip_s(self, stream: Streams) -> float:
        ways = 2 if stream == "both" else 1
        return float(ways * (self.latency + self.jitter) / 1000)

    def added_s(self, window_s: float) -> float:
        return 2 * (float(self.latency) + float(self.jitter)) / 1000


class Bandwidth(Toxic):
    """Limit each connection's stream to `rate`; 0 holds everything, and nothing is lost."""

    shrinkable = True
    support = except_on(
        EVERYWHERE, toxiproxy=("approximate", "9 % slow at 100 MB/s, exact below 10 MB/s")
    )
    draws = (
        Draw(
            rank=110,
            streams=EACH_WAY,
            strengths=({"rate": 64}, {"rate": 16}, {"rate": 4}, {"rate": 1}, {"rate": 0}),
            chokes=True,
            shared=True,
        ),
    )
    rate: Annotated[int, _RATE] = Field(
        0, ge=0, le=100_000_000, strict=True, description="KB/s, 1 KB is 1000 bytes; 0 stalls"
    )

    def silences(self) -> bool:
        return self.rate == 0


class SlowClose(Toxic):
    """Hold the end of the stream back for `delay`; bytes pass untouched."""

    deadly = True
    draws = (
        Draw(
            rank=130,
            streams=EACH_WAY,
            strengths=({"delay": 500}, {"delay": 2000}, {"delay": 10000}),
            shared=True,
        ),
    )
    delay: Annotated[int, _MS] = Field(
        0, ge=0, le=MS_MAX, strict=True, description="delay of the FIN in ms"
    )

    def added_s(self, window_s: float) -> float:
        return self.delay / 1000


class Timeout(Toxic):
    """Discard every byte; close after `timeout` without data; 0 never closes. Removal closes."""

    silent = lasting = True
    draws = (
        Draw(
            rank=140, streams=EACH_WAY, strengths=({"timeout": 1000}, {"timeout": 0}), shared=True
        ),
    )
    timeout: Annotated[int, _MS] = Field(
        0, ge=0, le=MS_MAX, strict=True, description="idle time in ms; 0 is for ever"
    )

    def added_s(self, window_s: float) -> float:
        return self.timeout / 1000


class ResetPeer(Toxic):
    """At the first byte or FIN of its stream: wait `timeout`, then RST both peers."""

    go_name = "ResetToxic"
    deadly = True
    support = except_on(
        EVERYWHERE,
        toxiproxy=("approximate", "a connection older than the toxic gets FIN instead of RST"),
    )
    draws = (
        Draw(
            rank=150, streams=EACH_WAY, strengths=({"timeout": 0}, {"timeout": 1000}), shared=True
        ),
    )
    timeout: Annotated[int, _MS] = Field(
        0, ge=0, le=MS_MAX, strict=True, description="wait in ms before the RST"
    )

    def added_s(self, window_s: float) -> float:
        return self.timeout / 1000


class Slicer(Toxic):
    """Cut chunks into small pieces, each written by itself, with `delay` after each."""

    go_type = "int"
    shrinkable = True
    support = except_on(
        EVERYWHERE, toxiproxy=("approximate", "pieces depend on how reads coalesce")
    )
    draws = (
        Draw(
            rank=120,
            streams=EACH_WAY,
            strengths=(
                {"average_size": 64, "size_variation": 32},
                {"average_size": 16, "size_variation": 8, "delay": 100},
                {"average_size": 1},
            ),
            chokes=True,
            shared=True,
        ),
    )
    average_size: Annotated[int, _SIZE] = Field(
        0, ge=0, le=BYTES_MAX, strict=True, description="bytes; 0 does not cut"
    )
    size_variation: Annotated[int, _SIZE] = Field(
        0, ge=0, le=BYTES_MAX, strict=True, description="bytes, below average_size"
    )
    delay: Annotated[int, _US] = Field(
        0, ge=0, le=MS_MAX * 1000, strict=True, description="µs after each piece"
    )


class LimitData(Toxic):
    """Close the connection once `bytes` have passed."""

    deadly = lasting = True
    draws = (
        Draw(
            rank=160,
            streams=EACH_WAY,
            strengths=({"bytes": 10000}, {"bytes": 1000}, {"bytes": 100}, {"bytes": 10}),
            shared=True,
        ),
    )
    bytes: Annotated[int, _COUNT] = Field(
        0, ge=0, le=BYTES_MAX, strict=True, description="bytes let through"
    )


class Noop(Toxic):
    """Pass everything on."""

    shrinkable = True


TOXICS: dict[str, type[Toxic]] = {
    kind.word: kind
    for kind in (Latency, Bandwidth, SlowClose, Timeout, ResetPeer, Slicer, LimitData, Noop)
}
