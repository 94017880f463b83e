"""Bytes from one socket to another without passing through Python: splice(2), Linux.

A pipe of the kernel lies between the two sockets. What has been read from the source is in that pipe until the
target has taken it. A caller that stops (`go_on` is false) stops with an empty pipe: nothing is lost or overtaken.
"""

from __future__ import annotations

import fcntl
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from enum import Enum

import trio

from chaos.link.kernel_end import KernelEnd

AVAILABLE = sys.platform == "linux" and hasattr(os, "splice")
# half of what the kernel lends without privilege (fs.pipe-max-size): what is moved at once stays in the caches
PIPE_BYTES = 1 << 19
# moved before other tasks get a turn: a millisecond or two
TURN_BYTES = 4 << 20
# a source that is silent for as long gives its pipe back
PATIENCE_S = 0.05
_FLAGS = getattr(os, "SPLICE_F_MOVE", 0) | getattr(os, "SPLICE_F_NONBLOCK", 0)


class Stopped(Enum):
    """Why no more bytes were spliced; the pipe is empty, unless the target is gone."""

    ASKED = "the caller wants to see the bytes again"
    DRY = "nothing came for a while"
    END = "the source has ended"
    SOURCE_LOST = "reading failed"
    TARGET_LOST = "the target takes no more"


async def splice(source: KernelEnd, target: KernelEnd, *, go_on: Callable[[], bool]) -> Stopped:
    """Move bytes between two sockets for as long as `go_on` says so.

    `go_on` is asked after every wait, before anything else is read: it must be false once one of the ends is closed.
    Both ends are told what has moved. Cancelling loses what is in the pipe; the caller must close both ends then.
    """
    turn = 0
    with _pipe() as (out, into), source.aside() as look:
        look()
        while go_on():
            # who sends and who reads may share this processor: what they do meanwhile makes the move a large one
            os.sched_yield()
            try:
                count = os.splice(source.fileno, into, PIPE_BYTES, flags=_FLAGS)
            except BlockingIOError:
                if not await _readable(source):
                    return Stopped.DRY
                continue
            except OSError:
                return Stopped.SOURCE_LOST
            if count == 0:
                return Stopped.END
            if not await _empty(out, target, count):
                return Stopped.TARGET_LOST
            source.note_moved(received=count)
            target.note_moved(sent=count)
            turn += count
            if turn >= TURN_BYTES:
                turn = 0
                look()
                await trio.lowlevel.checkpoint()
    return Stopped.ASKED


async def _readable(source: KernelEnd) -> bool:
    """Wait until there is something to read; False if there is nothing for a while, or the socket was closed."""
    with trio.move_on_after(PATIENCE_S):
        return await source.wait_readable()
    return False


async def _empty(out: int, target: KernelEnd, count: int) -> bool:
    """Let the target take all that is in the pipe; False if it is gone."""
    while count:
        try:
            count -= os.splice(out, target.fileno, count, flags=_FLAGS)
        except BlockingIOError:
            if not await target.wait_writable():
                return False
        except OSError:
            return False
    return True


@contextmanager
def _pipe() -> Iterator[tuple[int, int]]:
    out, into = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        with suppress(OSError):  # too much of it is lent already
            fcntl.fcntl(into, fcntl.F_SETPIPE_SZ, PIPE_BYTES)
        yield out, into
    finally:
        os.close(out)
        os.close(into)
