"""Bytes from one socket to another without passing through Python: splice(2), Linux.

A pipe of the kernel lies between the two sockets. What has been read from the source is in that pipe until the
target has taken it. When `splice` stops because its caller asked for that, the pipe is empty: nothing is lost or
overtaken. Meanwhile this thread keeps off the processor of the sender (`stay_off_sender`).
"""

from __future__ import annotations

import fcntl
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from enum import Enum

import trio

from chaos.link.ends import SO_INCOMING_CPU, KernelEnd

AVAILABLE = sys.platform == "linux" and hasattr(os, "splice")
# half of what the kernel lends without privilege (fs.pipe-max-size): what is moved at once stays in the caches
PIPE_BYTES = 1 << 19
# moved before other tasks get a turn: a millisecond or two
TURN_BYTES = 4 << 20
# a source that is silent for as long gives its pipe back
SILENCE_S = 0.05
_FLAGS = getattr(os, "SPLICE_F_MOVE", 0) | getattr(os, "SPLICE_F_NONBLOCK", 0)
_steering = False


class Stopped(Enum):
    """Why no more bytes were spliced; the pipe is empty, unless the target is lost."""

    ASKED = "the caller wants to see the bytes again"
    NO_PIPE = "the system has no pipe to give"
    SILENT = "nothing came for a while"
    END = "the source has ended"
    SOURCE_LOST = "reading failed"
    TARGET_LOST = "the target takes no more"


async def splice(source: KernelEnd, target: KernelEnd, *, may_go_on: Callable[[], bool]) -> Stopped:
    """Move bytes between two sockets for as long as `may_go_on` says so.

    It is asked after every wait, before anything else is read: it must be false once one of the ends is closed.
    Both ends are told what has moved. Cancelling loses what is in the pipe; the caller must close both ends then.
    """
    turn = 0
    with _kernel_pipe() as ends_of_pipe, stay_off_sender(source) as look_again:
        if ends_of_pipe is None:
            return Stopped.NO_PIPE
        out, into = ends_of_pipe
        look_again()
        while may_go_on():
            # the sender and the reader may share this processor: what they do meanwhile makes the move a large one
            os.sched_yield()
            try:
                count = os.splice(source.fileno, into, PIPE_BYTES, flags=_FLAGS)
            except BlockingIOError:
                if not await _wait_readable(source):
                    return Stopped.SILENT
                continue
            except OSError:
                return Stopped.SOURCE_LOST
            if count == 0:
                return Stopped.END
            if not await _empty_pipe(out, target, count):
                return Stopped.TARGET_LOST
            source.note_moved(received=count)
            target.note_moved(sent=count)
            turn += count
            if turn >= TURN_BYTES:
                turn = 0
                look_again()
                await trio.lowlevel.checkpoint()
    return Stopped.ASKED


async def _wait_readable(source: KernelEnd) -> bool:
    """Wait until there is something to read; False if there is nothing for a while, or the socket was closed."""
    with trio.move_on_after(SILENCE_S):
        return await source.wait_readable()
    return False


async def _empty_pipe(out: int, target: KernelEnd, count: int) -> bool:
    """Write all that is in the pipe to the target; return False if the target takes no more."""
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
def _kernel_pipe() -> Iterator[tuple[int, int] | None]:
    """Give the reading and the writing end of a pipe; None where there is no descriptor left for it."""
    try:
        out, into = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        yield None
        return
    try:
        with suppress(OSError):  # the user has been lent too much of it already
            fcntl.fcntl(into, fcntl.F_SETPIPE_SZ, PIPE_BYTES)
        yield out, into
    finally:
        os.close(out)
        os.close(into)


@contextmanager
def stay_off_sender(source: KernelEnd) -> Iterator[Callable[[], None]]:
    """Give a function that moves this thread off the processor on which the peer of an end sends.

    A peer on this machine that is woken by us is often put on our processor (the kernel takes us for about to sleep),
    and then two of the three processes that a byte passes wait for each other while a processor has nothing to do.
    Call the function now and then, not before each read: the kernel has to find an order of its own in between, and
    threads that dodge one another all the time are slower than those that stay.

    At the end the thread may run again where it might before. Of several at a time only the first does anything:
    they share the thread.
    """
    global _steering  # noqa: PLW0603 - where a thread may run is the thread's, and there is one loop in it
    allowed = os.sched_getaffinity(0)
    avoided: int | None = None
    steers = not _steering and SO_INCOMING_CPU >= 0 and len(allowed) >= 2

    def look_again() -> None:
        nonlocal avoided
        processor = source.last_processor() if steers else None
        if processor is not None and processor != avoided and processor in allowed:
            with suppress(OSError):  # somebody has changed what is allowed
                os.sched_setaffinity(0, allowed - {processor})
            avoided = processor

    _steering = _steering or steers
    try:
        yield look_again
    finally:
        if steers:
            _steering = False
        if avoided is not None:
            with suppress(OSError):
                os.sched_setaffinity(0, allowed)
