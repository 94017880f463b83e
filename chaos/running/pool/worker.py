"""A worker: one process that makes runs, one job at a time, so that nothing that a subject does harms its caller.

There are two ways to start one: forked from a server that has everything imported (some 20 ms), and as a fresh
interpreter with an environment of its own, for hash seeds and inside Dask's workers, which may not fork. Both speak
the protocol of `chaos.running.parent`. A worker ignores Ctrl-C, which its parent answers, and ends when its parent is
gone.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from pathlib import Path
from types import ModuleType
from typing import Any, TypeVar

from chaos.errors import SubjectNotFound, UsageError
from chaos.running.job import Job
from chaos.running.parent import STOP, Parent
from chaos.running.pool.remains import kill_descendants, output_bounded
from chaos.subjects.host import describe_error

T = TypeVar("T")
Work = Callable[[Job, Parent], T]
Told = Callable[
    [float, str, int], None
]  # how far a run is in seconds, what has happened, connections so far

# a process that is asked to end has this long, and a run that is asked to stop
STOP_S = 8.0
# the fork server's processes are started and looked at by one thread at a time: the exit code can be read just once
_FORKING = threading.Lock()


class WorkerLost(Exception):
    """The process ended without an answer: with this exit code, or killed because the job's limit was over.

    `reason` is what it said itself, if it could say anything.
    """

    def __init__(self, exit_code: int | None, is_late: bool = False, reason: str = "") -> None:
        super().__init__(exit_code, is_late, reason)
        self.exit_code = exit_code
        self.is_late = is_late
        self.reason = reason

    def __str__(self) -> str:
        return self.reason or f"the process ended with code {self.exit_code}"


@dataclass(frozen=True, slots=True)
class Process:
    """A process that serves; `wait` gives its exit code, or None when it has not ended after so many seconds."""

    connection: Connection
    pid: int
    kill: Callable[[], None]
    wait: Callable[[float | None], int | None]


@contextmanager
def _main_hidden() -> Iterator[None]:
    """Hide the program that called us: a worker needs nothing of it, and would else import and so run it again."""
    main = sys.modules["__main__"]
    sys.modules["__main__"] = ModuleType("__main__")
    try:
        yield
    finally:
        sys.modules["__main__"] = main


def fork() -> Process:
    """Start a process from the fork server."""
    ours, theirs = _CONTEXT.Pipe()
    process = _CONTEXT.Process(target=serve, args=(theirs,))
    with _FORKING, _main_hidden():
        process.start()
    theirs.close()

    def wait_for_exit(timeout_s: float | None) -> int | None:
        wait([process.sentinel], timeout_s)
        with _FORKING:
            code: int | None = process.exitcode
        return code

    return Process(ours, process.pid, process.kill, wait_for_exit)


def launch(**environment: str) -> Process:
    """Start a fresh interpreter with these variables added to its environment. It prints to standard error."""
    ours, theirs = socket.socketpair()
    with theirs:
        process = subprocess.Popen(  # noqa: S603
            [sys.executable, "-m", "chaos.running.pool.worker", str(theirs.fileno())],
            stdin=subprocess.DEVNULL,
            stdout=sys.__stderr__,
            env={**os.environ, **environment},
            pass_fds=[theirs.fileno()],
            start_new_session=True,
        )

    def wait_for_exit(timeout_s: float | None) -> int | None:
        try:
            return process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            return None

    return Process(Connection(ours.detach()), process.pid, process.kill, wait_for_exit)


class Worker:
    """A worker, from its caller's side. Its process starts with the first job, and anew with a job after it was lost.

    The thread that gives it jobs must call `end` after the last. Other threads may call `stop` and `kill`, which hold
    for later jobs too.
    """

    def __init__(self, start: Callable[[], Process] = fork) -> None:
        self._start = start
        self._process: Process | None = None
        self._sending = threading.Lock()
        self._is_stopped = self._is_killed = False

    @property
    def pid(self) -> int | None:
        """The number of the process while there is one."""
        process = self._process
        return None if process is None else process.pid

    def run(
        self,
        work: Work[T],
        job: Job,
        *,
        told: Told = lambda *_: None,
        limit_s: float | None = None,
        grace_s: float = 0.0,
    ) -> T:
        """Let the process call `work` with a job and return what that returns; `told` hears of progress meanwhile.

        After `limit_s` the job is asked to stop, and after `grace_s` more its process is killed.

        Raises:
            WorkerLost: the process ended first.
            UsageError: a subject cannot be had, or cannot do what the scenario asks.
            OSError: no process can be started.
        """
        process = self._living()
        try:
            self._give(process, (work, job))
            answer: T = self._receive(process, told, limit_s, grace_s)
        except UsageError:
            raise
        except (EOFError, OSError):
            raise WorkerLost(self.end(STOP_S)) from None
        except BaseException:
            self.end()
            raise
        return answer

    def stop(self) -> None:
        """Ask the job that runs to stop and to hand in what it has, and any later one."""
        with self._sending:
            self._is_stopped = True
            if self._process is not None:
                with suppress(OSError):  # it has ended, as who waits for its answer will see
                    self._process.connection.send(STOP)

    def kill(self) -> None:
        """Kill the process, and any that is started later."""
        self._is_killed = True
        process = self._process
        if process is not None:
            process.kill()

    def end(self, grace_s: float = 0.0) -> int | None:
        """End the process, which has so many seconds to do it by itself; return its exit code."""
        with self._sending:
            process, self._process = self._process, None
            if process is None:
                return None
            process.connection.close()
        code = process.wait(grace_s)
        if code is None:
            process.kill()
            code = process.wait(None)
        return code

    def _living(self) -> Process:
        """Return the process, started anew if there is none."""
        if self._process is not None and self._process.connection.poll():
            self.end()  # it has ended since its last answer
        with self._sending:
            process = self._process = self._process or self._start()
        if self._is_killed:
            process.kill()
        return process

    def _give(self, process: Process, asked: Any) -> None:
        with self._sending:
            process.connection.send(asked)
            if self._is_stopped:
                process.connection.send(STOP)

    def _receive(self, process: Process, told: Told, limit_s: float | None, grace_s: float) -> Any:
        """Return the answer. Raises OSError or EOFError when the process has ended instead."""
        end_s = None if limit_s is None else time.monotonic() + limit_s
        is_late = False
        while True:
            left_s = None if end_s is None else max(0.0, end_s - time.monotonic())
            if process.connection.poll(left_s):
                message, content = process.connection.recv()
                if message == "answer":
                    return content
                if message == "refusal":
                    raise UsageError(content)
                if message == "broken":
                    raise WorkerLost(self.end(STOP_S), reason=f"the run broke down: {content}")
                told(*content)
            elif is_late or not grace_s:
                raise WorkerLost(self.end(), is_late=True)
            else:
                is_late, end_s = True, time.monotonic() + grace_s
                self.stop()


def serve(connection: Connection) -> None:
    """Do each job that comes, until the parent is gone; the entry point of a worker's process."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    while True:
        try:
            asked = connection.recv()
        except (EOFError, OSError):
            break
        if asked == STOP:
            continue  # it came too late: what it was to stop has ended by then
        (work, job), parent = asked, Parent(connection)
        try:
            with output_bounded(Path(job.out) if job.out else None):
                answer = work(job, parent)
        except (SubjectNotFound, UsageError) as error:
            parent.send("refusal", str(error))
        except BaseException as error:
            # a subject has broken what its run stands on: this process is good for nothing more
            parent.send("broken", describe_error(error))
            kill_descendants()
            os._exit(1)
        else:
            kill_descendants()
            parent.send("answer", answer)
    # a thread that a subject has left behind does not keep the process
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.alarm(round(STOP_S))


def _context() -> Any:
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["chaos.running.preload"])
    return context


_CONTEXT = _context()


if __name__ == "__main__":
    serve(Connection(int(sys.argv[1])))
