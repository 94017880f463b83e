"""What ends a command: SIGINT, SIGTERM and SIGHUP mean the same everywhere.

The first one asks the command to end and to keep what there is; a second one does not wait for that. The exit code is
128 and the signal's number, which is 130 for Ctrl-C.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

_last = signal.SIGINT
_has_come = False


def signals() -> list[signal.Signals]:
    """Return the signals that end a command: not SIGHUP where whoever started this process ignores it (nohup)."""
    ignored = signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    return [signal.SIGINT, signal.SIGTERM, *([] if ignored else [signal.SIGHUP])]


def note(number: int) -> None:
    """Remember which signal has come."""
    global _last, _has_come
    _last, _has_come = signal.Signals(number), True


def has_come() -> bool:
    """Tell whether a signal has come: an error after that may be the interruption, wrapped by whoever met it."""
    return _has_come


def exit_code() -> int:
    """Return the exit code of a command that a signal has ended."""
    return 128 + _last


@contextmanager
def signals_given_to(handler: Callable[[], None]) -> Iterator[None]:
    """Call the handler for each signal that comes while inside. Threads that are not the main one hear of none."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def handle(number: int, _frame: object) -> None:
        note(number)
        handler()

    previous = {number: signal.signal(number, handle) for number in signals()}
    try:
        yield
    finally:
        for number, before in previous.items():
            signal.signal(number, before)


def _interrupt() -> None:
    raise KeyboardInterrupt


@contextmanager
def signals_raise() -> Iterator[None]:
    """Let each signal raise KeyboardInterrupt while inside, as SIGINT does by itself."""
    global _has_come  # noqa: PLW0603 - there is one process, and it ends once
    _has_come = False
    with signals_given_to(_interrupt):
        yield


def signals_ignored() -> None:
    """Ignore signals from now on: the process ends, and all that there was to keep is kept."""
    if threading.current_thread() is threading.main_thread():
        for number in signals():
            signal.signal(number, signal.SIG_IGN)


@dataclass(slots=True)
class Interruption:
    """Whether a signal has come. It is for loops that end by themselves once they see it."""

    has_come: bool = False
    _is_told: bool = False

    def check(self) -> None:
        """Raise KeyboardInterrupt once after a signal has come: at a place where that does no harm."""
        if self.has_come and not self._is_told:
            self._is_told = True
            raise KeyboardInterrupt

    def _come(self) -> None:
        if self.has_come:
            raise KeyboardInterrupt
        self.has_come = True


@contextmanager
def signals_noted() -> Iterator[Interruption]:
    """Note the first signal that comes while inside; a second one raises KeyboardInterrupt wherever it comes."""
    interruption = Interruption()
    with signals_given_to(interruption._come):
        yield interruption
