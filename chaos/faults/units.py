"""What moves through a pipe: bytes, the end of a stream, an RST, or the cut of the whole connection."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias


@dataclass(frozen=True, slots=True)
class Data:
    """Bytes, as one read returned them. Never empty."""

    payload: bytes


@dataclass(frozen=True, slots=True)
class Fin:
    """The source will send no more (a half-close: the other direction goes on)."""


@dataclass(frozen=True, slots=True)
class Rst:
    """The source reset the connection."""


@dataclass(frozen=True, slots=True)
class Cut:
    """A fault ends the connection: with FIN or with RST, towards both peers or the source only."""

    rst: bool = False
    whom: Literal["both", "source"] = "both"


Unit: TypeAlias = Data | Fin | Rst | Cut


@dataclass(frozen=True, slots=True)
class Timed:
    """A unit and the time at which it leaves, in seconds on the caller's clock."""

    at_s: float
    unit: Unit


def size(unit: Unit) -> int:
    """Return the number of bytes in a unit."""
    return len(unit.payload) if isinstance(unit, Data) else 0
