"""The fork server: one process that has everything imported, and forks workers off itself in some 20 ms each.

`multiprocessing` has one too. It leaves a folder in the temporary directory when its owner is killed, needs a second
process that tracks resources, and lets its children be when its owner is gone. This one leaves nothing: it talks over
unnamed sockets, and once its owner is gone, by whatever cause, it ends all that descends from it and itself.

The owner sends one byte with two descriptors: the worker's end of its connection, and the end of a pipe into which
the server writes two numbers, the worker's process id and, once it has ended, its exit code.
"""

from __future__ import annotations

import atexit
import os
import select
import signal
import socket
import struct
import subprocess
import sys
import threading
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection
from time import monotonic, sleep
from typing import NoReturn

from chaos.running.pool.remains import adopt_orphans, children_of, is_stopped, kill_family

# the first worker waits until everything is imported, on a machine that may be busy
START_S = 60.0
# Later ones come in some 20 ms. A server that takes so long will not answer any more.
ANSWER_S = 8.0
TRIES = 3
# so soon after a worker's end the server tells its exit code
TELL_S = 1.0
# once its owner is gone, a worker has so long to write down what it has
LAST_WORDS_S = 0.8
# a fork that has been told to end takes a few milliseconds
FORK_POLL_S = 0.002
_NUMBER = struct.Struct("!i")
_UNKNOWN = 255  # the exit code of a worker whose server has been killed

# what `chaos.running.preload` is
AS_FORK_SERVER, AS_WORKER = "fork-server", "worker"
WATCH_S = 0.2

# is given its end of the connection, and the number of the fork server
Serve = Callable[[Connection, int], None]


@dataclass(frozen=True, slots=True)
class Process:
    """A process that serves; `wait` gives its exit code, or None when it has not ended after so many seconds.

    `kill` ends all that descends from it as well. `close` gives back the descriptors; the connection is its user's.
    """

    connection: Connection
    pid: int
    kill: Callable[[], None]
    wait: Callable[[float | None], int | None]
    close: Callable[[], None] = lambda: None


def fork_here(serve: Serve) -> Process:
    """Start a worker as a fork of this process, with all that it has imported. Raises OSError.

    Only the calling thread goes on in the fork. Those that this process has besides hold nothing that a worker needs.
    """
    ours, theirs = socket.socketpair()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of Python 3.12, about other threads
        pid = os.fork()
    if pid == 0:

        def be() -> None:
            ours.close()
            serve(Connection(theirs.detach()), os.getppid())

        _become(be)
    theirs.close()
    code: int | None = None

    def wait(timeout_s: float | None) -> int | None:
        nonlocal code
        end_s = None if timeout_s is None else monotonic() + timeout_s
        while code is None:
            ended, status = os.waitpid(pid, os.WNOHANG if end_s is not None else 0)
            if ended:
                code = os.waitstatus_to_exitcode(status)
            elif end_s is None or monotonic() >= end_s:
                return None
            else:
                sleep(FORK_POLL_S)
        return code

    def kill() -> None:
        if wait(0) is None:
            kill_family(pid)

    return Process(Connection(ours.detach()), pid, kill, wait)


def start_program(
    kind: str, descriptor: int, environment: Mapping[str, str]
) -> subprocess.Popen[bytes]:
    """Start a program that serves at a descriptor. It prints to standard error."""
    return subprocess.Popen(  # noqa: S603
        [sys.executable, "-P", "-m", "chaos.running.preload", kind, str(descriptor)],
        stdin=subprocess.DEVNULL,
        stdout=sys.__stderr__,
        env={**os.environ, **environment},
        pass_fds=[descriptor],
        start_new_session=True,  # signals of a terminal are its owner's
    )


@contextmanager
def owner_watched(descriptor: int) -> Iterator[None]:
    """End this process at once if the owner at the other end goes away while inside; that may take seconds."""
    is_over = threading.Event()

    def watch() -> None:
        poller = select.poll()
        poller.register(descriptor, select.POLLHUP)
        while not is_over.wait(WATCH_S):
            if poller.poll(0):
                os._exit(1)

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield
    finally:
        is_over.set()
        thread.join()  # a process that has threads is not forked


class ForkServer:
    """The owner's side. The server starts with the first worker, and anew if it has been killed or stopped."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._control: socket.socket | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._has_answered = False

    def fork(self) -> Process:
        """Start a worker. Raises OSError when no process can be started."""
        for _ in range(TRIES):
            process = self._try_to_fork()
            if process is not None:
                return process
        raise OSError("the fork server does not answer")

    def _try_to_fork(self) -> Process | None:
        """Start a worker, or return None if the server does not answer; then it is ended."""
        ours, theirs = socket.socketpair()
        with ours, theirs:
            reading, writing = os.pipe()
            try:
                server = self._ask(theirs.fileno(), writing)
                os.close(writing)
                pid = self._answer(server, reading)
            except BaseException:
                os.close(reading)
                raise
            if pid is None or pid == _UNKNOWN:
                os.close(reading)
                self._forget(server)
                return None
            self._has_answered = True
            return _process_of(Connection(ours.detach()), pid, reading)

    def _answer(self, server: subprocess.Popen[bytes], reading: int) -> int | None:
        """Return the number of the new worker; None if the server takes too long, or has been stopped."""
        end_s = monotonic() + (ANSWER_S if self._has_answered else START_S)
        while monotonic() < end_s:
            pid = _read_number(reading, WATCH_S)
            if pid is not None or is_stopped(server.pid):
                return pid
        return None

    def _ask(self, *descriptors: int) -> subprocess.Popen[bytes]:
        """Ask the server for a worker with these descriptors; return who was asked."""
        with self._lock:
            if self._control is None or self._process is None:
                self._start()
            assert self._control is not None
            assert self._process is not None
            with suppress(BrokenPipeError, ConnectionResetError):  # it says nothing then
                socket.send_fds(self._control, [b"f"], descriptors)
            return self._process

    def _start(self) -> None:
        ours, theirs = socket.socketpair()
        with theirs:
            self._process = start_program(AS_FORK_SERVER, theirs.fileno(), {})
        self._control, self._has_answered = ours, False
        atexit.register(self._end)

    def _forget(self, server: subprocess.Popen[bytes]) -> None:
        """End a server that does not answer, if it is still ours; what it has forked lives on."""
        with self._lock:
            if self._control is not None and self._process is server:
                self._control.close()
                server.kill()
                server.wait()
                self._control = self._process = None

    def _end(self) -> None:
        """End the server, and what it has forked, before this process ends."""
        if self._control is not None and self._process is not None:
            self._control.close()
            try:
                self._process.wait(2 * LAST_WORDS_S)
            except subprocess.TimeoutExpired:
                kill_family(self._process.pid)
                self._process.wait()


def _process_of(connection: Connection, pid: int, reading: int) -> Process:
    """Return a forked worker: `reading` gives its exit code once it has ended."""
    code: int | None = None
    lock = threading.Lock()
    handle = _handle_of(pid)

    def wait(timeout_s: float | None) -> int | None:
        nonlocal code
        with lock:
            if code is None and _is_readable((reading, handle), timeout_s):
                # the server tells the code at once, unless it has been killed or stopped
                found = _read_number(reading, TELL_S)
                is_told = found is not None and found != _UNKNOWN
                if is_told or _is_readable((handle,), timeout_s):
                    code = found if found is not None else _UNKNOWN
            return code

    def kill() -> None:
        if wait(0) is None:
            kill_family(pid)

    def close() -> None:
        for descriptor in (reading, handle):
            if descriptor is not None:
                os.close(descriptor)

    return Process(connection, pid, kill, wait, close)


def _handle_of(pid: int) -> int | None:
    """Return a descriptor that stands for a process, whoever gets its number later, where the system has such."""
    with suppress(OSError, AttributeError):
        return os.pidfd_open(pid)
    return None


def _is_readable(descriptors: Iterable[int | None], timeout_s: float | None) -> bool:
    """Return whether one of the descriptors, of those that there are, is readable in time; so is none at all."""
    poller = select.poll()
    there = [descriptor for descriptor in descriptors if descriptor is not None]
    for descriptor in there:
        poller.register(descriptor, select.POLLIN)
    return not there or bool(poller.poll(None if timeout_s is None else timeout_s * 1000))


def _read_number(reading: int, timeout_s: float | None) -> int | None:
    """Return the next number from a pipe, `_UNKNOWN` at its end, or None when there is none in time."""
    if not _is_readable((reading,), timeout_s):
        return None
    found = os.read(reading, _NUMBER.size)
    return int(_NUMBER.unpack(found)[0]) if len(found) == _NUMBER.size else _UNKNOWN


class Server:
    """The server's side; `serve` is what a worker does."""

    def __init__(self, control: socket.socket, serve: Serve) -> None:
        self._control = control
        self._serve = serve
        self._told: dict[int, int] = {}  # by the number of a worker, where its exit code is written
        self._woken, self._waker = os.pipe()
        for end in (self._woken, self._waker):
            os.set_blocking(end, False)

    def run(self) -> None:
        """Fork what is asked for, until the owner is gone; then end all that is left."""
        adopt_orphans()
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.set_wakeup_fd(self._waker, warn_on_full_buffer=False)
        poller = select.poll()
        for descriptor in (self._control.fileno(), self._woken):
            poller.register(descriptor, select.POLLIN)
        while True:
            ready = {descriptor for descriptor, _ in poller.poll()}
            self._reap()
            if self._control.fileno() in ready and not self._take_request():
                break
        poller.unregister(self._control.fileno())
        end_s = monotonic() + LAST_WORDS_S
        while self._told and (left_s := end_s - monotonic()) > 0:
            poller.poll(left_s * 1000)
            self._reap()
        for pid in children_of(os.getpid()):
            kill_family(pid)

    def _take_request(self) -> bool:
        """Fork one worker; return whether the owner is still there."""
        try:
            asked, descriptors, _, _ = socket.recv_fds(self._control, 1, 2)
        except OSError:
            return False
        if not asked or len(descriptors) != 2:
            return False
        connection, told = descriptors
        pid = os.fork()
        if pid == 0:
            self._become_worker(connection, told)
        os.close(connection)
        self._told[pid] = told
        _write_number(told, pid)
        return True

    def _become_worker(self, connection: int, told: int) -> NoReturn:
        def be() -> None:
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            for descriptor in (told, *self._told.values(), self._woken, self._waker):
                os.close(descriptor)
            self._control.close()
            os.setsid()
            self._serve(Connection(connection), os.getppid())

        _become(be)

    def _reap(self) -> None:
        """Tell what has ended, and end what it has left behind."""
        with suppress(BlockingIOError):
            while os.read(self._woken, 512):
                pass
        while True:
            try:
                ended = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
            except ChildProcessError:
                return
            if ended is None:
                break
            with suppress(OSError):
                os.killpg(
                    ended.si_pid, signal.SIGKILL
                )  # its number is not given away before it is reaped
            _, status = os.waitpid(ended.si_pid, 0)
            told = self._told.pop(ended.si_pid, None)
            if told is not None:
                _write_number(told, os.waitstatus_to_exitcode(status))
                os.close(told)
        for pid in children_of(os.getpid()):
            if pid not in self._told:
                kill_family(pid)  # an orphan of a worker that has ended


def _become(be: Callable[[], object]) -> NoReturn:
    """Be a forked process until its end: nothing of what called this goes on in it."""
    code = 1
    try:
        be()
        code = 0
    except BaseException as error:
        sys.excepthook(type(error), error, error.__traceback__)
    finally:
        os._exit(code)


def _write_number(descriptor: int, number: int) -> None:
    with suppress(OSError):  # nobody may want to know any more
        os.write(descriptor, _NUMBER.pack(number))
