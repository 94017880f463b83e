"""What TCP keeps of a segment until the peer has acknowledged it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(slots=True, eq=False)
class Segment:
    """A segment that the peer has not acknowledged; `payload` None is the FIN."""

    payload: bytes | None
    sent_s: float
    delivered: bool = False
    again: bool = False
