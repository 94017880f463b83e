"""How long one simulated run may take in real time: virtual time stands still while a subject computes for ever."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType

# a day of a scenario takes some ten seconds; hundreds of clients take some seconds
REAL_TIME_S = 120.0
CLIENTS_IN_THAT = 50


class TookTooLong(BaseException):
    """Is raised in whatever runs when the time is over."""


@dataclass(slots=True)
class Patience:
    """Whether the time was over; what came out of the run then is not its own."""

    over: bool = False


def allowed_s(clients: int) -> float:
    """Return the real seconds that a run of so many clients may take."""
    return REAL_TIME_S * max(1.0, clients / CLIENTS_IN_THAT)


@contextmanager
def limited(seconds: float) -> Iterator[Patience]:
    """Raise TookTooLong inside once this much real time has passed.

    Only the main thread can be interrupted; in any other this does nothing.
    """
    patience = Patience()
    if threading.current_thread() is not threading.main_thread():
        yield patience
        return

    def stop(_number: int, _frame: FrameType | None) -> None:
        patience.over = True
        raise TookTooLong(f"took longer than {seconds:g} s of real time")

    previous = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield patience
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, previous)
