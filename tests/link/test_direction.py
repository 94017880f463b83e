"""What is left to deliver, when a socket takes only a part of it."""

from __future__ import annotations

from chaos.faults.units import Data, Fin, Timed
from chaos.link.direction import Outbox


def test_what_is_taken_is_not_delivered_again() -> None:
    outbox = Outbox()
    outbox.add([Timed(0.0, Data(b"abcdef")), Timed(0.0, Data(b"gh")), Timed(0.0, Fin())])
    assert outbox.held_bytes == 8
    outbox.shorten(2)
    outbox.shorten(1)
    assert (bytes(outbox.first.payload), outbox.held_bytes) == (b"def", 5)
    assert bytes(outbox.take().payload) == b"def"
    assert (bytes(outbox.take().payload), outbox.held_bytes) == (b"gh", 0)
    assert outbox.take().unit == Fin()
    assert not outbox
