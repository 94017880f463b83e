"""Fixtures for all tests."""

from __future__ import annotations

import fcntl
import os
import signal
import tempfile
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, settings

# Tests send signals to themselves and to programs that they start. Under nohup SIGHUP would do nothing there.
signal.signal(signal.SIGHUP, signal.SIG_DFL)

pytest_plugins = ["support.half_open", "support.servers"]

# How long an example takes says more about the machine than about the code. The same commit gives the same answer:
# examples are drawn from a fixed seed; `--hypothesis-profile explore` draws others each time.
settings.register_profile(
    "explore", deadline=None, suppress_health_check=[HealthCheck.too_slow], print_blob=True
)
settings.register_profile("project", settings.get_profile("explore"), derandomize=True)
settings.load_profile("project")


@pytest.fixture
def alone(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Hold a lock that all workers of a test run share.

    For tests that run many scenarios in real time: side by side they would disturb each other's clocks.
    """
    base = tmp_path_factory.getbasetemp()
    shared = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base
    with (shared / "alone.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


# traces are marked with a key of the user's: tests make and use their own, and so do the processes that they start
os.environ["XDG_STATE_HOME"] = tempfile.mkdtemp(prefix="trio-chaos-tests-")
