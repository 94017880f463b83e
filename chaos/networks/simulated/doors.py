"""The doors through which a program could leave the simulation, closed in one place.

Wall clocks follow virtual time, sockets and names of the standard library are those of the world, and a thread of
trio runs inline. What follows real time or reaches the machine is refused by name: `REFUSED` is the table of it.
"""

from __future__ import annotations

import _thread
import asyncio
import importlib
import inspect
import os
import select
import selectors
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import time_machine
import trio

from chaos.networks.replaced import replaced
from chaos.networks.simulated.clock import VirtualClock
from chaos.networks.simulated.sockets import SimulatedSocket
from chaos.networks.simulated.stand_in import EscapeError, StandIn

# 2026-01-01T00:00:00Z: where the wall clock of every simulated run starts, so that dates do not differ between runs
EPOCH_S = 1_767_225_600.0


class InlineThreads:
    """Calls functions at once, in place of the threads of `trio.to_thread.run_sync`.

    A function takes no virtual time, but for what it has waited for by `wait`.
    """

    def __init__(self) -> None:
        self._waited_s: float | None = None  # by the function that runs; None while none does

    async def run(self, function: Callable[..., Any], *arguments: Any, **_options: Any) -> Any:
        """Return what a function returns, after as much virtual time as it has waited."""
        await trio.lowlevel.checkpoint()
        before, self._waited_s = self._waited_s, 0.0
        result, error = None, None
        try:
            result = function(*arguments)
        except Exception as raised:
            error = raised
        finally:
            waited_s, self._waited_s = self._waited_s, before
        if waited_s:
            await trio.sleep(waited_s)
        if error is not None:
            raise error
        return result

    def wait(self, call: str, delay_s: float, instead: str) -> None:
        """Wait in the name of a call that would block. Raises EscapeError where that would stop the event loop."""
        if self._waited_s is not None:
            self._waited_s += delay_s
        elif delay_s:
            raise EscapeError(
                f"{call} would block the event loop of a simulated run for {delay_s:g} s; expected {instead}"
            )


@dataclass(frozen=True, slots=True)
class Refused:
    """Something that cannot be simulated: what a program calls, where that is, and what to use instead."""

    name: str
    owner: Any
    attribute: str
    instead: str

    @property
    def exists(self) -> bool:
        """Whether this system has it."""
        return hasattr(self.owner, self.attribute)

    def stand_in(self) -> Callable[..., Any]:
        """Return a function that takes its place and raises EscapeError."""
        return lambda *arguments, **_: self._refuse(arguments)

    def _refuse(self, arguments: tuple[Any, ...]) -> None:
        for argument in arguments:
            if inspect.iscoroutine(argument):
                argument.close()  # nobody will await it
            elif isinstance(argument, asyncio.BaseEventLoop) and self.attribute == "__init__":
                vars(argument)["_closed"] = (
                    True  # else its finaliser would close what it never opened
                )
        raise EscapeError(
            f"{self.name} inside a simulated run would leave it; expected {self.instead}, or this scenario on "
            "--network embedded"
        )


try:
    _uvloop: Any = importlib.import_module("uvloop")
except (
    ImportError
):  # it is nobody's dependency here: a loop that is not asyncio's own, and that subjects may use
    _uvloop = None

_THREAD = "trio.to_thread.run_sync, which runs inline"
_TASKS = "a task of trio"
_PROCESS = "everything in one program"
_SELECT = "trio.lowlevel.wait_readable"
_ONE_NUMBER = "the socket itself, which has one number here"
# the documentation has this table (tools/write_docs.py)
REFUSED: tuple[Refused, ...] = (
    Refused("time.sleep", time, "sleep", "trio.sleep"),
    Refused("threading.Thread.start: a thread", threading.Thread, "start", _THREAD),
    Refused("_thread.start_new_thread", _thread, "start_new_thread", _THREAD),
    Refused("trio.lowlevel.start_thread_soon", trio.lowlevel, "start_thread_soon", _THREAD),
    Refused("asyncio.run", asyncio, "run", _TASKS),
    Refused("asyncio.new_event_loop", asyncio.BaseEventLoop, "__init__", _TASKS),
    Refused("loop.run_forever of asyncio", asyncio.BaseEventLoop, "run_forever", _TASKS),
    Refused(
        "loop.run_until_complete of asyncio", asyncio.BaseEventLoop, "run_until_complete", _TASKS
    ),
    Refused("asyncio.Runner", asyncio.Runner, "run", _TASKS),
    Refused("uvloop.run", _uvloop, "run", _TASKS),
    Refused("uvloop.new_event_loop", _uvloop, "new_event_loop", _TASKS),
    Refused("uvloop.Loop", _uvloop, "Loop", _TASKS),
    Refused("subprocess.Popen: a subprocess", subprocess.Popen, "__init__", _PROCESS),
    Refused("os.fork", os, "fork", _PROCESS),
    Refused("os.forkpty", os, "forkpty", _PROCESS),
    Refused("os.posix_spawn", os, "posix_spawn", _PROCESS),
    Refused("os.posix_spawnp", os, "posix_spawnp", _PROCESS),
    Refused("os.system", os, "system", _PROCESS),
    Refused("select.select", select, "select", _SELECT),
    Refused("select.poll", select, "poll", _SELECT),
    Refused("select.epoll", select, "epoll", _SELECT),
    Refused("select.kqueue", select, "kqueue", _SELECT),
    *(
        Refused(f"selectors.{name}.select", getattr(selectors, name), "select", _SELECT)
        for name in ("SelectSelector", "PollSelector", "EpollSelector", "KqueueSelector")
        if hasattr(selectors, name)
    ),
    Refused("socket.gethostbyname_ex", socket, "gethostbyname_ex", "socket.getaddrinfo"),
    Refused("socket.gethostbyaddr", socket, "gethostbyaddr", "socket.getnameinfo"),
    Refused("socket.fromfd", socket, "fromfd", "trio.socket.socket"),
    Refused("socket.dup", StandIn, "dup", _ONE_NUMBER),
    Refused("trio.socket.SocketType.dup", SimulatedSocket, "dup", _ONE_NUMBER),
    Refused("socket.sendfile", StandIn, "sendfile", "socket.sendall"),
    Refused(
        "ssl.SSLContext.wrap_socket", ssl.SSLContext, "wrap_socket", "trio.SSLStream or wrap_bio"
    ),
)


@contextmanager
def doors_closed(simulated: Mapping[str, Callable[..., Any]]) -> Iterator[None]:
    """Close the doors while inside. Must be used inside `trio.run` with a virtual clock.

    `simulated` has what stands in for the functions that know real sockets and names: `socketpair` of `trio.socket`,
    `wait_readable`, `wait_writable` and `notify_closing` of `trio.lowlevel`, `getaddrinfo`, `getnameinfo` and
    `gethostname` of `socket`, and `run_sync` of `trio.to_thread`.
    """
    clock = trio.lowlevel.current_clock()
    assert isinstance(clock, VirtualClock), "real time and simulated sockets do not go together"
    start_s = clock.current_time()
    from_stdlib = trio.socket.from_stdlib_socket

    def elapsed() -> float:
        return clock.current_time() - start_s

    def hand_over(sock: socket.socket) -> trio.socket.SocketType:
        return sock.hand_over() if isinstance(sock, StandIn) else from_stdlib(sock)

    def pair(*kind: Any, **options: Any) -> tuple[socket.socket, socket.socket]:
        ours, theirs = simulated["socketpair"](*kind, **options)
        return StandIn(behind=ours), StandIn(behind=theirs)

    def first_address(hostname: str) -> str:
        return str(simulated["getaddrinfo"](hostname, 0, socket.AF_INET)[0][4][0])

    clocks = {
        "monotonic": elapsed,
        "monotonic_ns": lambda: int(elapsed() * 1e9),
        "perf_counter": elapsed,
        "perf_counter_ns": lambda: int(elapsed() * 1e9),
    }
    with ExitStack() as stack:
        traveller = stack.enter_context(time_machine.travel(EPOCH_S, tick=False))
        shown_s = 0.0

        def follow() -> None:
            nonlocal shown_s
            now_s = elapsed()
            traveller.shift(now_s - shown_s)  # in whole nanoseconds: no error adds up
            shown_s = now_s

        stack.callback(clock.follow(follow))
        stack.enter_context(
            replaced(
                *((time, name, follows) for name, follows in clocks.items()),
                *((row.owner, row.attribute, row.stand_in()) for row in REFUSED if row.exists),
                (socket, "socket", StandIn),
                (socket, "socketpair", pair),
                (socket, "getaddrinfo", simulated["getaddrinfo"]),
                (socket, "getnameinfo", simulated["getnameinfo"]),
                (socket, "gethostbyname", first_address),
                (socket, "gethostname", simulated["gethostname"]),
                (socket, "getfqdn", lambda name="": name or simulated["gethostname"]()),
                (StandIn, "detached", {}),
                # anyio and others ask trio's sockets for the one of the standard library within
                (SimulatedSocket, "_sock", property(StandIn.within)),
                (trio.socket, "from_stdlib_socket", hand_over),
                (trio.socket, "socketpair", simulated["socketpair"]),
                *(
                    (trio.lowlevel, name, simulated[name])
                    for name in ("wait_readable", "wait_writable", "notify_closing")
                ),
                (trio.to_thread, "run_sync", simulated["run_sync"]),
            )
        )
        yield
