"""What a subject may leave in its process, and what becomes of it: output without end, and processes of its own."""

from __future__ import annotations

import os
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


def kill_descendants() -> int:
    """Kill all processes that descend from this one; return how many there were. On Linux only."""
    found = list(_descendants(os.getpid()))
    for pid in found:
        with suppress(OSError):
            os.kill(pid, signal.SIGKILL)
    for pid in found:
        with suppress(OSError):
            os.waitpid(pid, os.WNOHANG)
    return len(found)


def _descendants(pid: int) -> Iterator[int]:
    tasks = Path(f"/proc/{pid}/task")
    with suppress(OSError):
        for task in tasks.iterdir():
            for child in (task / "children").read_text().split():
                yield int(child)
                yield from _descendants(int(child))
