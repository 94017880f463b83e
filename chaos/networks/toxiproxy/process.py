"""A Toxiproxy server of a run: it is started on a free port, and stopped whatever happens to the run."""

from __future__ import annotations

import ctypes
import secrets
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress

import trio

from chaos.errors import NetworkUnavailable

PROGRAM = "toxiproxy-server"
START_S = 10.0
STOP_S = 2.0
ATTEMPTS = 5
POLL_S = 0.05
FIRST_PORT = 20_000
PORTS = 10_000
_PR_SET_PDEATHSIG = 1  # prctl(2)


def find_program() -> str | None:
    """Return the path of toxiproxy-server on PATH, or None."""
    return shutil.which(PROGRAM)


async def serve_toxiproxy(*, task_status: trio.TaskStatus[str] = trio.TASK_STATUS_IGNORED) -> None:
    """Run a server until cancelled; its URL is given to `task_status.started`.

    Raises:
        NetworkUnavailable: there is no toxiproxy-server, it does not start, or it ends by itself.
    """
    program = find_program()
    if program is None:
        raise NetworkUnavailable(
            f"no {PROGRAM} on PATH; install Toxiproxy, give --toxiproxy URL, or use --network embedded"
        )
    for _ in range(ATTEMPTS):
        port = free_port()
        if await _listens(port):
            continue  # a server of somebody else; it could not be told from our own
        process = _start(program, port)
        try:
            if await _wait_until_it_listens(process, port):
                task_status.started(f"http://127.0.0.1:{port}")
                await _wait_for_end(process)
                raise NetworkUnavailable(
                    f"{PROGRAM} ended by itself ({_describe_exit(process.returncode)})"
                )
        finally:
            with trio.CancelScope(shield=True):
                await _stop(process)
    raise NetworkUnavailable(f"{PROGRAM} did not start in {ATTEMPTS} attempts")


def _start(program: str, port: int) -> subprocess.Popen[bytes]:
    """Start the server from this thread, the main one.

    PR_SET_PDEATHSIG fires when the thread that forked ends, and trio's open_process forks in a worker thread.
    """
    return subprocess.Popen(  # noqa: S603 - the program is what PATH names
        [program, "-host", "127.0.0.1", "-port", str(port)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        preexec_fn=_die_with_parent(),  # noqa: PLW1509 - it calls one function of libc
    )


def free_port() -> int:
    """Return a port that was free a moment ago.

    It is none of those that a kernel gives to whoever binds port 0 (from 32768 up on Linux, 49152 elsewhere): the
    links of another run would take it before the server does. Not drawn from `random`, which runs may seed alike.
    """
    while True:
        port = FIRST_PORT + secrets.randbelow(PORTS)
        with socket.socket() as probe, suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port


async def _listens(port: int) -> bool:
    try:
        stream = await trio.open_tcp_stream("127.0.0.1", port)
    except OSError:
        return False
    await trio.aclose_forcefully(stream)
    return True


async def _wait_until_it_listens(process: subprocess.Popen[bytes], port: int) -> bool:
    """Return True once the server listens; False if it has ended, since another program has taken the port."""
    with trio.move_on_after(START_S):
        while process.poll() is None:
            if await _listens(port):
                return process.poll() is None
            await trio.sleep(0.01)
    return False


async def _stop(process: subprocess.Popen[bytes]) -> None:
    process.terminate()  # which does nothing to a process that has ended
    with trio.move_on_after(STOP_S):
        await _wait_for_end(process)
        return
    process.kill()
    await _wait_for_end(process)


async def _wait_for_end(process: subprocess.Popen[bytes]) -> None:
    while process.poll() is None:  # noqa: ASYNC110 - without a thread nothing says that a child has ended
        await trio.sleep(POLL_S)


def _die_with_parent() -> Callable[[], None] | None:
    """Return a function that makes a child end with its parent, even when that is killed; Linux only."""
    if sys.platform != "linux":
        return None
    libc = ctypes.CDLL(None, use_errno=True)
    return lambda: libc.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


def _describe_exit(code: int | None) -> str:
    if code is not None and code < 0:
        return f"killed by {signal.Signals(-code).name}"
    return f"exit code {code}"
