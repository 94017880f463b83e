"""The fork server: it may be killed or stopped; workers and what they leave end with it, and nothing is written."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from chaos.running.pool.forks import ForkServer

pytestmark = pytest.mark.slow


def wait_until(holds: Callable[[], bool], within_s: float = 5.0) -> None:
    deadline_s = time.monotonic() + within_s
    while not holds():
        assert time.monotonic() < deadline_s
        time.sleep(0.02)


def is_there(pid: int) -> bool:
    try:
        return "State:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return False


def test_a_worker_ends_with_its_connection_and_its_exit_code_is_known() -> None:
    server = ForkServer()
    process = server.fork()
    assert process.wait(0.0) is None
    process.connection.close()
    assert process.wait(5.0) == 0
    process.close()
    server._end()


def test_a_worker_that_is_killed_is_told_by_its_signal() -> None:
    server = ForkServer()
    process = server.fork()
    process.kill()
    assert process.wait(5.0) == -signal.SIGKILL
    server._end()


def test_a_server_that_is_killed_is_replaced_and_its_workers_can_be_ended() -> None:
    server = ForkServer()
    first = server.fork()
    assert server._process is not None
    os.kill(server._process.pid, signal.SIGKILL)
    second = server.fork()
    assert is_there(first.pid)
    assert first.wait(0.0) is None
    first.kill()
    assert first.wait(5.0) == 255
    wait_until(lambda: not is_there(first.pid))
    server._end()
    wait_until(lambda: not is_there(second.pid))


def test_a_server_that_is_stopped_is_replaced() -> None:
    server = ForkServer()
    server.fork()
    assert server._process is not None
    stopped = server._process.pid
    os.kill(stopped, signal.SIGSTOP)
    assert is_there(server.fork().pid)
    assert not is_there(stopped)
    server._end()


def test_a_server_that_is_stopped_while_it_starts_is_replaced() -> None:
    server = ForkServer()
    server._start()
    assert server._process is not None
    stopped = server._process.pid
    os.kill(stopped, signal.SIGSTOP)
    assert is_there(server.fork().pid)
    assert not is_there(stopped)
    server._end()


OWNER = """
import time
from chaos.running.pool.forks import ForkServer
server = ForkServer()
pids = [server.fork().pid for _ in range(2)]
print(server._process.pid, *pids, flush=True)
time.sleep(600)
"""


@pytest.mark.parametrize("stopped", [False, True])
def test_when_the_owner_is_killed_all_ends(stopped: bool, tmp_path: Path) -> None:
    environment = {**os.environ, "TMPDIR": str(tmp_path)}
    with subprocess.Popen(
        [sys.executable, "-c", OWNER], stdout=subprocess.PIPE, text=True, env=environment
    ) as owner:
        assert owner.stdout is not None
        pids = [int(word) for word in owner.stdout.readline().split()]
        if stopped:
            os.kill(pids[1], signal.SIGSTOP)
        owner.kill()
    wait_until(lambda: not any(map(is_there, pids)), within_s=2.0)
    assert list(tmp_path.iterdir()) == []


def test_an_owner_that_is_killed_while_the_server_starts_leaves_nothing() -> None:
    text = OWNER.replace("server = ForkServer()", "server = ForkServer()\nserver._start()").replace(
        "pids = [server.fork().pid for _ in range(2)]", "pids = []"
    )
    with subprocess.Popen([sys.executable, "-c", text], stdout=subprocess.PIPE, text=True) as owner:
        assert owner.stdout is not None
        (pid,) = (int(word) for word in owner.stdout.readline().split())
        owner.kill()
    wait_until(lambda: not is_there(pid), within_s=2.0)
