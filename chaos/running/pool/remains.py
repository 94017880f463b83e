"""What a subject may leave in its process, and what becomes of it: output without end, and processes of its own."""

from __future__ import annotations

import ctypes
import os
import resource
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

# so much of what the subjects of a run print is kept in its folder, or else shown on standard error
KEPT_BYTES = 1 << 20
SHOWN_BYTES = 1 << 16
DRAIN_S = 0.5
_CHUNK_BYTES = 1 << 16
_CATCHABLE = signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}
_TIMERS = (signal.ITIMER_REAL, signal.ITIMER_VIRTUAL, signal.ITIMER_PROF)
_PR_SET_CHILD_SUBREAPER = 36  # prctl(2)


@contextmanager
def output_bounded(folder: Path | None) -> Iterator[None]:
    """Take what this process prints while inside, standard error included, and keep its beginning.

    It goes to `output.log` in the folder, or without one to standard error. What is beyond the limit is dropped, and
    the last line says how much that was. Programs that a subject has started and that outlive it print into nothing.
    """
    reading, writing = os.pipe()
    kept, limit = os.dup(2), SHOWN_BYTES
    path = None
    if folder is not None:
        folder.mkdir(parents=True, exist_ok=True)
        path, limit = folder / "output.log", KEPT_BYTES
        path.unlink(missing_ok=True)
    before = os.dup(1), os.dup(2)
    thread = threading.Thread(target=_drain, args=(reading, path, kept, limit), daemon=True)
    thread.start()
    for descriptor in (1, 2):
        os.dup2(writing, descriptor)
    os.close(writing)
    try:
        yield
    finally:
        for stream in (sys.stdout, sys.stderr):
            with suppress(OSError, ValueError, AttributeError):
                stream.flush()
        for descriptor, original in zip((1, 2), before, strict=True):
            with suppress(OSError):
                os.dup2(original, descriptor)
                os.close(original)
        thread.join(DRAIN_S)


def _drain(reading: int, path: Path | None, kept: int, limit: int) -> None:
    """Copy what is printed, up to the limit, until nobody can print any more."""
    target, left, dropped = kept, limit, 0
    with suppress(OSError):
        while chunk := os.read(reading, _CHUNK_BYTES):
            if path is not None and target == kept:
                target = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
            part = chunk[:left]
            os.write(target, part)
            left -= len(part)
            dropped += len(chunk) - len(part)
        if dropped:
            os.write(target, f"\n… and {dropped} bytes more\n".encode())
    for descriptor in {reading, target, kept}:
        with suppress(OSError):
            os.close(descriptor)


@contextmanager
def process_restored() -> Iterator[None]:
    """Put back afterwards what a subject may change in its process, so that the next run finds it as it was."""
    folder, path, environment = os.open(".", os.O_RDONLY), list(sys.path), dict(os.environ)
    umask, depth = os.umask(0o77), sys.getrecursionlimit()
    descriptors, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    os.umask(umask)
    idle = [timer for timer in _TIMERS if signal.getitimer(timer)[0] == 0]
    is_main = threading.current_thread() is threading.main_thread()
    handlers = {number: signal.getsignal(number) for number in _CATCHABLE} if is_main else {}
    try:
        yield
    finally:
        for timer in idle:
            signal.setitimer(timer, 0)
        for number, handler in handlers.items():
            if handler is not None and signal.getsignal(number) is not handler:
                signal.signal(number, handler)
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        if soft < descriptors:
            resource.setrlimit(resource.RLIMIT_NOFILE, (min(descriptors, hard), hard))
        with suppress(OSError):
            os.fchdir(folder)
            os.close(folder)
        os.umask(umask)
        sys.setrecursionlimit(depth)
        sys.path[:] = path
        if environment != dict(os.environ):
            os.environ.clear()
            os.environ.update(environment)


def kill_descendants() -> int:
    """Kill all processes that descend from this one; return how many there were. On Linux only."""
    found = list(descendants(os.getpid()))
    for pid in found:
        with suppress(OSError):
            os.kill(pid, signal.SIGKILL)
    for pid in found:
        with suppress(OSError):
            os.waitpid(pid, os.WNOHANG)
    return len(found)


def kill_family(pid: int) -> None:
    """Kill a process, all that descend from it, and its process group if it leads one."""
    with suppress(OSError):
        os.kill(pid, signal.SIGSTOP)  # so that it starts no other meanwhile
    for descendant in [*descendants(pid), pid]:
        with suppress(OSError):
            os.kill(descendant, signal.SIGKILL)
    with suppress(OSError):
        os.killpg(pid, signal.SIGKILL)


def is_stopped(pid: int) -> bool:
    """Return whether a process has been stopped by a signal. On Linux only."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (OSError, IndexError):
        return False
    return state == "T"


def adopt_orphans() -> None:
    """Let processes that descend from this one become its children when their parents end. On Linux only."""
    if sys.platform == "linux":
        with suppress(OSError, AttributeError):
            ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def children_of(pid: int) -> list[int]:
    """Return the children of a process. On Linux only."""
    found: list[int] = []
    with suppress(OSError):
        for task in Path(f"/proc/{pid}/task").iterdir():
            with suppress(OSError):
                found += map(int, (task / "children").read_text().split())
    return found


def descendants(pid: int) -> Iterator[int]:
    """Yield the processes that a process has started and that still run, and theirs; none where that is not known."""
    for child in children_of(pid):
        yield child
        yield from descendants(child)
