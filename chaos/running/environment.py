"""The machine that a run takes place on: what takes part, in which versions, and how many files may be open."""

from __future__ import annotations

import os
import platform
import resource
from contextlib import suppress
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from chaos.errors import ChaosError

# A client, its link and the server take four sockets per connection; reconnects overlap.
DESCRIPTORS_PER_CLIENT = 8
DESCRIPTORS_BASE = 256
# A parent has three for each worker, and a few more while one starts; beside those it needs some for itself.
DESCRIPTORS_PER_WORKER = 4
DESCRIPTORS_OF_PARENT = 64
_PACKAGES = ("trio-chaos", "trio", "trio-websocket", "wsproto", "toxiproxy-python")


def environment() -> dict[str, Any]:
    """Return versions and the machine: what a reader needs who gets other results."""
    return {
        "pid": os.getpid(),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "versions": dict(_versions()),
    }


@cache
def _versions() -> tuple[tuple[str, str], ...]:
    """Return the versions of what takes part. They are looked up once, since each parses a package's metadata."""
    found = []
    for package in _PACKAGES:
        with suppress(PackageNotFoundError):
            found.append((package, version(package)))
    return tuple(found)


def cores() -> int:
    """Return how many processors this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def workers_that_fit(wanted: int) -> int:
    """Raise the soft limit of open files as far as so many workers need it; return how many may run side by side."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY:
        return wanted
    spoken_for = _open_descriptors() + DESCRIPTORS_OF_PARENT
    needed = spoken_for + wanted * DESCRIPTORS_PER_WORKER
    if soft < needed:
        raised = needed if hard == resource.RLIM_INFINITY else min(needed, hard)
        with suppress(OSError, ValueError):  # the system may have a limit of its own
            resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, raised), hard))
        soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return max(1, min(wanted, (soft - spoken_for) // DESCRIPTORS_PER_WORKER))


def _open_descriptors() -> int:
    for folder in ("/proc/self/fd", "/dev/fd"):
        with suppress(OSError):
            return sum(1 for _ in Path(folder).iterdir())
    return 0


def raise_descriptors(clients: int) -> None:
    """Raise the soft limit of open files as far as this many clients need it.

    Raises:
        ChaosError: the hard limit is below that; the message says what to do.
    """
    needed = DESCRIPTORS_BASE + clients * DESCRIPTORS_PER_CLIENT
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < needed:
        raise ChaosError(
            f"{clients} clients need {needed} open files and the hard limit is {hard}; "
            "expected a higher one: see `ulimit -Hn` and limits.conf, or use fewer clients"
        )
    if soft != resource.RLIM_INFINITY and soft < needed:
        resource.setrlimit(resource.RLIMIT_NOFILE, (needed, hard))
