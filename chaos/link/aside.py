"""Keep out of the way of who sends: move bulk on another processor than the one that makes it (Linux).

A peer on this machine that is woken by us is often put on our processor (the kernel takes us for about to sleep), and
then two of the three processes that a byte passes wait for each other while a processor has nothing to do.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

# of socket(7): the processor on which the kernel has handled the last packet; over loopback that is the sender's
_INCOMING: int = getattr(socket, "SO_INCOMING_CPU", -1)
_steering = False


def _nothing() -> None:
    return


@contextmanager
def aside(source: socket.socket) -> Iterator[Callable[[], None]]:
    """Give what is to be called now and then between reads from a socket: it moves this thread away from who sends.

    Not before each read: the kernel has to find an order of its own in between, and threads that dodge one another
    all the time are slower than those that stay.

    At the end the thread may run again where it might before. Of several at a time only the first does anything:
    they share the thread.
    """
    global _steering  # noqa: PLW0603 - where a thread may run is the thread's, and there is one loop in it
    allowed = os.sched_getaffinity(0)
    if _steering or _INCOMING < 0 or len(allowed) < 2:
        yield _nothing
        return
    avoided: int | None = None

    def look() -> None:
        nonlocal avoided
        processor = source.getsockopt(socket.SOL_SOCKET, _INCOMING)
        if processor != avoided and processor in allowed:
            with suppress(OSError):  # somebody has changed what is allowed
                os.sched_setaffinity(0, allowed - {processor})
            avoided = processor

    _steering = True
    try:
        yield look
    finally:
        _steering = False
        if avoided is not None:
            with suppress(OSError):
                os.sched_setaffinity(0, allowed)
