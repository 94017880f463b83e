"""The doors through which a program could leave the simulation, closed in one place.

* Sockets made with the standard library and handed to trio (`trio.socket.from_stdlib_socket`: Hypercorn's and anyio's
  listeners do) become simulated ones, and no real port is bound.
* `trio.to_thread.run_sync` runs inline at zero virtual time: a real thread would let the virtual clock race ahead.
* Wall clocks (`time.time`, `datetime.now`, `time.monotonic` and their kin) follow virtual time.
* Real threads, real connections and subprocesses are refused by name.
"""

from __future__ import annotations

import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any

import time_machine
import trio

from chaos.errors import ChaosError
from chaos.networks.replaced import replaced
from chaos.networks.simulated.clock import VirtualClock

# 2026-01-01T00:00:00Z: where the wall clock of every simulated run starts, so that dates do not differ between runs
EPOCH_S = 1_767_225_600.0


class EscapeError(ChaosError):
    """A program in a simulated run reached for something real."""


class StandIn(socket.socket):
    """A standard library socket that is never bound or connected: once it is bound, a simulated one stands behind it.

    So a program learns the port that it will have, or that the port is taken, before it hands the socket to trio.
    """

    _behind: Any = None

    @property
    def has_stand_in(self) -> bool:
        """Whether a simulated socket stands behind it, which is counted in its place."""
        return self._behind is not None

    @property
    def behind(self) -> Any:
        """The simulated socket, made when it is first asked for."""
        if self._behind is None:
            self._behind = trio.socket.socket(self.family, self.type, self.proto)
        return self._behind

    def bind(self, address: Any) -> None:
        """Bind the simulated socket. Raises OSError as it does."""
        self.behind.bind_now(address)

    def listen(self, backlog: int = 128) -> None:
        """Make the simulated socket listen."""
        self.behind.listen(backlog)

    def getsockname(self) -> Any:
        """Return what it was bound to."""
        return self.behind.getsockname()

    def setsockopt(self, level: int, optname: int, *value: Any) -> None:
        """Set an option of both."""
        super().setsockopt(level, optname, *value)
        if (self.family, self.type) == (socket.AF_INET, socket.SOCK_STREAM):
            self.behind.setsockopt(level, optname, *value)

    def close(self) -> None:
        """Close both."""
        super().close()
        if self._behind is not None:
            self._behind.close()

    def hand_over(self) -> trio.socket.SocketType:
        """Return the simulated socket, which belongs to the caller from now on; this one is closed."""
        behind: trio.socket.SocketType = self.behind
        self._behind = None
        self.close()
        return behind

    def connect(self, address: Any) -> None:
        """Refuse: the standard library would block the event loop, in reality too."""
        self.close()
        raise EscapeError(
            f"a simulated run cannot open a real connection to {address}; expected trio's sockets"
        )

    connect_ex = connect  # type: ignore[assignment]


async def run_inline(function: Callable[..., Any], *arguments: Any, **_options: Any) -> Any:
    """Call a function at once, in place of `trio.to_thread.run_sync`: a checkpoint that takes no virtual time."""
    await trio.lowlevel.checkpoint()
    return function(*arguments)


def _refuse(what: str) -> Callable[..., Any]:
    def refused(*_: Any, **__: Any) -> Any:
        raise EscapeError(
            f"{what} inside a simulated run would follow real time; run this scenario on --network embedded"
        )

    return refused


@contextmanager
def doors_closed(simulated: Mapping[str, Callable[..., Any]]) -> Iterator[None]:
    """Close the doors while inside. Must be used inside `trio.run` with a virtual clock.

    `simulated` has what stands in for the functions of trio that know real sockets: `socketpair` of `trio.socket`,
    `wait_readable`, `wait_writable` and `notify_closing` of `trio.lowlevel`.
    """
    clock = trio.lowlevel.current_clock()
    assert isinstance(clock, VirtualClock), "real time and simulated sockets do not go together"
    start_s = clock.current_time()
    from_stdlib = trio.socket.from_stdlib_socket

    def elapsed() -> float:
        return clock.current_time() - start_s

    def hand_over(sock: socket.socket) -> trio.socket.SocketType:
        return sock.hand_over() if isinstance(sock, StandIn) else from_stdlib(sock)

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
                (time, "sleep", _refuse("time.sleep")),
                (socket, "socket", StandIn),
                (trio.socket, "from_stdlib_socket", hand_over),
                (trio.socket, "socketpair", simulated["socketpair"]),
                *(
                    (trio.lowlevel, name, simulated[name])
                    for name in ("wait_readable", "wait_writable", "notify_closing")
                ),
                (trio.to_thread, "run_sync", run_inline),
                (threading.Thread, "start", _refuse("a thread")),
                (subprocess.Popen, "__init__", _refuse("a subprocess")),
            )
        )
        yield
