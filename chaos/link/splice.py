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

AVAILABLE = sys.platform == "linux" and hasattr(os, "splice")
# what the kernel lends without privilege (fs.pipe-max-size); with less this works too
PIPE_BYTES = 1 << 20
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


async def splice(
    source: int, target: int, *, go_on: Callable[[], bool], passed: Callable[[int], None]
) -> Stopped:
    """Move bytes between two sockets, given by their file numbers, for as long as `go_on` says so.

    `go_on` is asked after every wait, before anything else is read: it must be false once one of the sockets is
    closed. `passed` is told how many bytes the target has taken. Cancelling loses what is in the pipe; the caller
    must close both sockets then.
    """
    with _pipe() as (out, into):
        while go_on():
            try:
                count = os.splice(source, into, PIPE_BYTES, flags=_FLAGS)
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
            passed(count)
            await trio.lowlevel.checkpoint()
    return Stopped.ASKED


async def _readable(source: int) -> bool:
    """Wait until there is something to read; False if there is nothing for a while, or the socket was closed."""
    with trio.move_on_after(PATIENCE_S), suppress(trio.ClosedResourceError):
        await trio.lowlevel.wait_readable(source)
        return True
    return False


async def _empty(out: int, target: int, count: int) -> bool:
    """Let the target take all that is in the pipe; False if it is gone."""
    while count:
        try:
            count -= os.splice(out, target, count, flags=_FLAGS)
        except BlockingIOError:
            try:
                await trio.lowlevel.wait_writable(target)
            except trio.ClosedResourceError:
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
