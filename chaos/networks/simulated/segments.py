"""What TCP keeps of a segment until the peer has acknowledged it."""

from __future__ import annotations


class Segment:
    """A segment that the peer has not acknowledged; `payload` None is the FIN."""

    __slots__ = ("again", "delivered", "payload", "sent_s", "size")

    def __init__(self, payload: bytes | None, sent_s: float) -> None:
        """Make a segment that is sent now, for the first time."""
        self.payload = payload
        self.sent_s = sent_s
        self.size = len(payload) if payload is not None else 0
        self.delivered = False
        self.again = False
