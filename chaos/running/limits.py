"""How long one simulated run may take in real time: virtual time stands still while a subject computes for ever."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable
from types import FrameType
from typing import TypeVar

from chaos.errors import ChaosError

T = TypeVar("T")

# a day of a scenario takes some ten seconds; hundreds of clients take some seconds
REAL_TIME_S = 120.0
CLIENTS_IN_THAT = 50


class TookTooLong(ChaosError):
    """A run had not ended when its real time was over."""


class _TimeIsOver(BaseException):
    """Interrupts whatever runs. No `Exception`, so that subjects rarely catch it."""


def allowed_s(clients: int) -> float:
    """Return the real seconds that a run of so many clients may take."""
    return REAL_TIME_S * max(1.0, clients / CLIENTS_IN_THAT)


def call_within(limit_s: float, function: Callable[[], T]) -> T:
    """Call a function and return what it returns; interrupt it once this much real time has passed.

    Only the main thread can be interrupted; in any other the function is just called.

    Raises:
        TookTooLong: the time was over. Whatever the function raised or returned after that is not its own.
    """
    if threading.current_thread() is not threading.main_thread():
        return function()
    is_over = False

    def interrupt(_number: int, _frame: FrameType | None) -> None:
        nonlocal is_over
        is_over = True
        raise _TimeIsOver

    late = TookTooLong(f"took longer than {limit_s:g} s of real time")
    previous = signal.signal(signal.SIGALRM, interrupt)
    signal.setitimer(signal.ITIMER_REAL, limit_s)
    try:
        returned = function()
    except BaseException:
        if is_over:
            raise late from None
        raise
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, previous)
    if is_over:  # a subject has caught the interruption
        raise late
    return returned
