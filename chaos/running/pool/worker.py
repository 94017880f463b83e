"""A worker: one process that makes runs, one job at a time, so that nothing that a subject does harms its caller.

There are two ways to start one: forked from a server that has everything imported (some 20 ms), and as a fresh
interpreter with an environment of its own, for hash seeds and inside Dask's workers, which may not fork. Both speak
the protocol of `chaos.running.parent`. A worker has a session of its own, so that it hears no signal of a terminal:
its parent answers those. It ends when its parent is gone.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, NoReturn, TypeVar

from chaos.errors import SubjectNotFound, UsageError
from chaos.running.job import Job
from chaos.running.parent import STOP, Message, Parent
from chaos.running.pool.forks import (
    AS_WORKER,
    LAST_WORDS_S,
    START_S,
    ForkServer,
    Process,
    start_program,
)
from chaos.running.pool.remains import (
    adopt_orphans,
    kill_descendants,
    kill_family,
    output_bounded,
)
from chaos.running.watchdog import LOOK_S, Watchdog
from chaos.subjects.host import describe_error

T = TypeVar("T")
Work = Callable[[Job, Parent], T]
Told = Callable[
    [float, str, int], None
]  # how far a run is in seconds, what has happened, connections so far

# a process that is asked to end has this long, and a run that is asked to stop
STOP_S = 8.0
# A worker says several times in a second that it is alive. One that has not for so long has been stopped, or is in a
# call that holds the interpreter.
SILENT_S = 8.0
# so long at most the caller waits for a message before it looks at its clock
SLICE_S = 0.5
SILENT = (
    f"the run's process was not heard of for {SILENT_S:g} s: "
    "it was stopped, or is in a call that holds the interpreter"
)
GARBLED = "the run's process said what is no answer: a subject has written to a descriptor that is not its own"
SENTENCE_MAX = 300


class WorkerLost(Exception):
    """The process ended without an answer: with this exit code, or killed since it was late or silent.

    `reason` says why in the words of a verdict.
    """

    def __init__(self, exit_code: int | None, is_late: bool = False, reason: str = "") -> None:
        super().__init__(exit_code, is_late, reason)
        self.exit_code = exit_code
        self.is_late = is_late
        self.reason = reason or _describe_death(exit_code)

    def __str__(self) -> str:
        return self.reason


def _describe_death(exit_code: int | None) -> str:
    if exit_code is not None and exit_code < 0:
        with suppress(ValueError):
            return f"the run's process was killed by {signal.Signals(-exit_code).name}"
    return f"the run's process did not hand in a verdict (exit code {exit_code}); its trace has what there is"


FORKS = ForkServer()


def fork() -> Process:
    """Start a process from the fork server. Raises OSError when none can be started."""
    return FORKS.fork()


def launch(**environment: str) -> Process:
    """Start a fresh interpreter with these variables added to its environment."""
    ours, theirs = socket.socketpair()
    with theirs:
        process = start_program(AS_WORKER, theirs.fileno(), environment)

    def wait_for_exit(timeout_s: float | None) -> int | None:
        try:
            code = process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            return None
        with suppress(OSError):
            os.killpg(process.pid, signal.SIGKILL)  # what it has left behind
        return code

    def kill() -> None:
        if process.poll() is None:
            kill_family(process.pid)

    return Process(Connection(ours.detach()), process.pid, kill, wait_for_exit)


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
        interrupted: Callable[[], None] = lambda: None,
    ) -> T:
        """Let the process call `work` with a job and return what that returns; `told` hears of progress meanwhile.

        After `limit_s` the job is asked to stop, and after `grace_s` more its process is killed; so it is at once
        when it has not been heard of for SILENT_S. `interrupted` is called now and then, and may raise to end it.

        Raises:
            WorkerLost: the process ended first.
            UsageError: a subject cannot be had, or cannot do what the scenario asks.
            OSError: no process can be started.
        """
        process = self._living()
        try:
            self._give(process, (work, job))
            answer: T = self._receive(process, told, limit_s, grace_s, interrupted)
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
            code = process.wait(STOP_S)
        process.close()
        return code

    def _living(self) -> Process:
        """Return the process, started anew if there is none."""
        if self._process is not None and self._process.connection.poll():
            self.end()  # it has ended since its last answer
        with self._sending:
            if self._process is None:
                self._process = self._start()
                self._process.connection.send((sys.path, _folder()))
            process = self._process
        if self._is_killed:
            process.kill()
        return process

    def _give(self, process: Process, asked: Any) -> None:
        with self._sending:
            process.connection.send(asked)
            if self._is_stopped:
                process.connection.send(STOP)

    def _receive(
        self,
        process: Process,
        told: Told,
        limit_s: float | None,
        grace_s: float,
        interrupted: Callable[[], None],
    ) -> Any:
        """Return the answer. Raises OSError or EOFError when the process has ended instead."""
        now_s = time.monotonic()
        end_s = None if limit_s is None else now_s + limit_s
        is_late = False
        # nothing is heard while its modules are being imported
        hearing = _Hearing(heard_s=now_s, silent_s=START_S)
        while True:
            interrupted()
            left_s = SLICE_S if end_s is None else min(SLICE_S, max(0.0, end_s - time.monotonic()))
            if process.connection.poll(left_s):
                message, content = self._message_of(process)
                hearing.heard(SILENT_S)
                if message == "progress":
                    told(*content)
                elif message != "alive":
                    return self._end_of_job(message, content)
            elif hearing.is_silent():
                raise WorkerLost(self.end(), is_late=True, reason=SILENT)
            if end_s is not None and time.monotonic() >= end_s:
                if is_late or not grace_s:
                    reason = f"the run did not end within {limit_s:g} s of real time"
                    raise WorkerLost(self.end(), is_late=True, reason=reason)
                is_late, end_s = True, time.monotonic() + grace_s
                self.stop()

    def _message_of(self, process: Process) -> tuple[Message, Any]:
        """Return the next message. Raises WorkerLost where a subject has written among them."""
        try:
            message, content = process.connection.recv()
        except (EOFError, OSError):
            raise
        except Exception as error:
            raise WorkerLost(self.end(), reason=GARBLED) from error
        return message, content

    def _end_of_job(self, message: str, content: Any) -> Any:
        """Return the answer to a job, or raise what it came to instead."""
        if message == "refusal":
            raise UsageError(content)
        if message == "broken":
            raise WorkerLost(self.end(STOP_S), reason=f"the run broke down: {content}")
        if message == "last answer":
            self.end(STOP_S)
        return content


def _folder() -> str:
    """Return the folder that we work in, or another if it has gone."""
    with suppress(OSError):
        return str(Path.cwd())
    return "/"


class _Hearing:
    """Knows how long nothing was heard, in time in which this process itself was awake."""

    def __init__(self, heard_s: float, silent_s: float) -> None:
        self.silent_s = silent_s
        self._looked_s = heard_s
        self._silent_for_s = 0.0

    def heard(self, silent_s: float) -> None:
        """Begin anew."""
        self.silent_s, self._silent_for_s, self._looked_s = silent_s, 0.0, time.monotonic()

    def is_silent(self) -> bool:
        """Return whether nothing has been heard for too long. Must be called every `SLICE_S`."""
        now_s = time.monotonic()
        self._silent_for_s += min(now_s - self._looked_s, 2 * SLICE_S)
        self._looked_s = now_s
        return self._silent_for_s >= self.silent_s


def serve(connection: Connection, fork_server: int | None = None) -> None:
    """Do each job that comes, until the parent is gone; the entry point of a worker's process."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    adopt_orphans()
    parent = _watched_parent(connection, fork_server)
    with suppress(EOFError, OSError):
        sys.path[:], folder = connection.recv()
        os.chdir(folder)
    while True:
        try:
            asked = connection.recv()
        except (EOFError, OSError):
            break
        if asked == STOP:
            continue  # it came too late: what it was to stop has ended by then
        work, job = asked
        parent.begin()
        parent.send("alive", None)  # all is imported: a silence is one from here on
        try:
            with output_bounded(Path(job.out) if job.out else None):
                answer = work(job, parent)
        except (SubjectNotFound, UsageError) as error:
            parent.send("refusal", str(error))
        except BaseException as error:
            # a subject has broken what its run stands on: this process is good for nothing more
            parent.send("broken", _first_sentence(describe_error(error)))
            _leave(1)
        else:
            kill_descendants()
            parent.send("answer", answer)
    _leave(0)


def _watched_parent(connection: Connection, fork_server: int | None) -> Parent:
    """Return the parent behind a connection, which hears several times in a second that this process is alive.

    Once it is gone, what runs has LAST_WORDS_S to write down what there is; then this process ends, whatever it does,
    and with it a fork server that has been stopped, and so has not ended by itself.
    """
    looks_after = 0

    def look() -> None:
        nonlocal looks_after
        if not parent.is_gone():
            parent.send("alive", None)
            return
        looks_after += 1
        if looks_after * LOOK_S >= LAST_WORDS_S - LOOK_S:
            kill_descendants()
            if fork_server is not None and os.getppid() == fork_server:
                kill_family(fork_server)
            _leave(1)

    watchdog = Watchdog(look)
    parent = Parent(connection, watchdog, lambda: _leave(0))
    watchdog.start()
    return parent


def _first_sentence(text: str) -> str:
    """Return the first sentence of what an error says: those of trio go on for pages."""
    return text.partition("  ")[0].partition(". ")[0][:SENTENCE_MAX]


def _leave(code: int) -> NoReturn:
    """End this process at once, whatever threads it has, and all that descends from it."""
    kill_descendants()
    os._exit(code)
