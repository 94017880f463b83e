"""An alarm clock that can be waited for like a socket: timerfd_create(2), Linux.

epoll_wait(2) counts milliseconds, so whoever waits by its timeout wakes up to one too late. A timerfd does not.
"""

from __future__ import annotations

import ctypes
import os
import sys
from contextlib import suppress

AVAILABLE = sys.platform == "linux"
_CLOCK_MONOTONIC = 1
# TFD_NONBLOCK and TFD_CLOEXEC are O_NONBLOCK and O_CLOEXEC (timerfd_create(2))
_FLAGS = getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0)
# what fits into the kernel's time everywhere; who wants to be woken later than in 30 years is woken early
_FAR_S = 1e9


class _Timespec(ctypes.Structure):
    _fields_ = (("seconds", ctypes.c_long), ("nanoseconds", ctypes.c_long))


class _Itimerspec(ctypes.Structure):
    _fields_ = (("interval", _Timespec), ("value", _Timespec))


class TimerFd:
    """Made without an alarm. Close it with `close`. Raises OSError if the kernel has none to give."""

    def __init__(self) -> None:
        # Python has this as os.timerfd_create from 3.13 on; ctypes serves all versions alike
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._spec = _Itimerspec()
        self.fileno: int = self._libc.timerfd_create(_CLOCK_MONOTONIC, _FLAGS)
        if self.fileno < 0:
            raise OSError(ctypes.get_errno(), "timerfd_create failed")

    @property
    def closed(self) -> bool:
        """Whether it has been closed."""
        return self.fileno < 0

    def arm(self, delay_s: float) -> None:
        """Have it readable in `delay_s` seconds, at once if that is not positive; replaces what was set before."""
        nanoseconds = max(1, int(min(delay_s, _FAR_S) * 1e9))
        self._spec.value.seconds, self._spec.value.nanoseconds = divmod(nanoseconds, 1_000_000_000)
        if self._libc.timerfd_settime(self.fileno, 0, ctypes.byref(self._spec), None) < 0:
            raise OSError(ctypes.get_errno(), "timerfd_settime failed")

    def clear(self) -> None:
        """Make it silent again once it has rung."""
        with suppress(BlockingIOError):
            os.read(self.fileno, 8)

    def close(self) -> None:
        """Close it; idempotent."""
        if not self.closed:
            os.close(self.fileno)
            self.fileno = -1
