"""What the server says while it has no file descriptor left: one line, and once a second at most."""

from __future__ import annotations

import errno
import logging
import resource
from dataclasses import dataclass

import trio

from chaos.link.listener import NO_DESCRIPTOR

LOG = logging.getLogger("trio-chaos.toxiproxy-server")
QUIET_S = 1.0


def is_shortage(error: OSError) -> bool:
    """Return whether an error says that there is no descriptor, or no memory for one."""
    return error.errno in NO_DESCRIPTOR


@dataclass(slots=True)
class Shortage:
    """Counts what could not be opened, and says so."""

    _count: int = 0
    _quiet_until_s: float = float("-inf")

    def note(self, error: OSError) -> None:
        """Note that something could not be opened."""
        self._count += 1
        now = trio.current_time()
        if now < self._quiet_until_s:
            return
        limit = f" (limit {resource.getrlimit(resource.RLIMIT_NOFILE)[0]})"
        LOG.warning(
            "out of file descriptors%s: %s; clients wait until some are free, attempts that failed: %d",
            limit if error.errno == errno.EMFILE else "",
            error.strerror,
            self._count,
        )
        self._count, self._quiet_until_s = 0, now + QUIET_S
