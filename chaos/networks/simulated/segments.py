"""What TCP keeps of a segment until the peer has acknowledged it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from chaos.networks.simulated.sending import Sending


class Segment:
    """A segment that its sender's peer has not acknowledged; `payload` None is the FIN.

    `sure` says that nothing can keep it or its acknowledgement from arriving before a retransmission is due.
    """

    __slots__ = (
        "acknowledged",
        "again",
        "delivered",
        "following",
        "payload",
        "sender",
        "sent_s",
        "size",
        "sure",
    )

    def __init__(self, sender: Sending, payload: bytes | None, sent_s: float) -> None:
        """Make a segment that is sent now, for the first time."""
        self.sender = sender
        self.payload = payload
        self.sent_s = sent_s
        self.size = len(payload) if payload is not None else 0
        self.delivered = False
        self.acknowledged = False
        self.again = False
        self.sure = False
        self.following: Segment | None = None

    def arrive(self) -> None:
        """Be at the peer."""
        peer = self.sender.peer
        assert peer is not None
        peer.arrive(self)

    def doubt(self) -> None:
        """Be sure no more: its sender needs its timer."""
        if self.sure:
            self.sure = False
            self.sender.doubt(self)

    def be_acknowledged(self) -> None:
        """Be known to have arrived, and all before it."""
        self.sender.be_acknowledged(self)


def from_here(segment: Segment | None) -> Iterator[Segment]:
    """Give a segment and those that were sent after it."""
    while segment is not None:
        yield segment
        segment = segment.following
