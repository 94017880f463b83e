"""Where connections come in: a socket that listens, or that only keeps its port so that clients are refused.

The sockets are made elsewhere and belong to the listener once it has them. On the kernel's own sockets it accepts
all clients that wait at once, called by a poller or from a task; on trio's (and those that stand for them in the
simulation) one after the other.
"""

from __future__ import annotations

import errno
import socket
from collections.abc import Callable
from typing import Any

import trio

from chaos.link.poller import Poller

# accept(2): there is no descriptor to spare now, or no memory
NO_DESCRIPTOR = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)
PAUSE_S = 0.1
# a socket of the kernel that does not block, or one of trio's
Accepting = socket.socket | trio.socket.SocketType
Arrived = Callable[[Any, Any], None]
Short = Callable[[OSError], None]


def _close_at_once(client: Accepting, _address: object) -> None:
    client.close()


def _say_nothing(_error: OSError) -> None:
    """Ignore that there was no descriptor."""


class Listener:
    """Accepts connections. Made without a socket; close it with `close`. Only `serve` waits."""

    def __init__(self, short: Short = _say_nothing) -> None:
        """Make a listener; `short` is called when a client waits for which there is no descriptor."""
        self._short = short
        self.closed = False
        self._arrived: Arrived = _close_at_once
        self._socket: Accepting | None = None
        self._holder: Accepting | None = None
        self._listening = trio.Event()
        self._poller: Poller | None = None

    @property
    def listens(self) -> bool:
        """Whether clients are accepted."""
        return self._socket is not None

    def hold(self, bound: Accepting | None) -> None:
        """Keep a port without listening, by a socket that is bound to it: who connects is refused."""
        if self.closed and bound is not None:
            bound.close()
            return
        self._holder = bound

    def listen(self, listening: Accepting) -> None:
        """Accept clients from a socket that listens, instead of the one that held the port.

        A listener that is closed closes the socket: a fault may end after the link that it was in force on.
        """
        if self.closed:
            listening.close()
            return
        self._socket = listening
        if self._holder is not None and self._holder is not listening:
            self._holder.close()
        self._holder = None
        self._listening.set()
        self._watch()

    def refuse(self) -> None:
        """Refuse clients from now on. The port is free until somebody holds it."""
        sock, self._socket = self._socket, None
        self._listening = trio.Event()
        if isinstance(sock, socket.socket):
            if self._poller is not None:
                self._poller.unwatch(sock.fileno())
            trio.lowlevel.notify_closing(sock)  # a task may wait for it
        if sock is not None:
            sock.close()

    def close(self) -> None:
        """Close it for good; idempotent. Clients that nobody has seen yet are closed as if they had been."""
        self.closed = True
        self._arrived = _close_at_once
        if isinstance(self._socket, socket.socket):
            self._accept_waiting(self._socket)
        self.refuse()
        if self._holder is not None:
            self._holder.close()
            self._holder = None

    async def serve(self, arrived: Arrived, poller: Poller | None = None) -> None:
        """Give each client's socket and address to `arrived`, until cancelled; the listener is closed then."""
        self._arrived, self._poller = arrived, poller
        try:
            self._watch()
            if poller is not None:
                await trio.sleep_forever()
            while True:
                if self._socket is None:
                    await self._listening.wait()
                elif not await self._accept(self._socket):
                    await trio.sleep(PAUSE_S)
        finally:
            self.close()

    async def _accept(self, listening: Accepting) -> bool:
        """Wait for a client and accept it; False if that cannot be done for now."""
        try:
            if isinstance(listening, socket.socket):
                await trio.lowlevel.wait_readable(listening)
                return self._accept_waiting(listening)
            accepted, address = await listening.accept()
        except trio.ClosedResourceError:
            return True
        except OSError as error:
            return not self._is_short(error)
        self._arrived(accepted, address)
        return True

    def _accept_waiting(self, listening: socket.socket) -> bool:
        """Accept the clients that wait; False if that cannot be done for now."""
        while self._socket is listening:
            try:
                accepted, address = listening.accept()
            except BlockingIOError:
                return True
            except OSError as error:
                if self._is_short(error):
                    return False
                continue
            accepted.setblocking(False)
            self._arrived(accepted, address)
        return True

    def _is_short(self, error: OSError) -> bool:
        """Return whether accepting failed for want of a descriptor; else the connection has died in the backlog."""
        if error.errno not in NO_DESCRIPTOR:
            return False
        self._short(error)
        return True

    def _watch(self) -> None:
        if self._poller is not None and isinstance(self._socket, socket.socket):
            self._poller.unwatch(self._socket.fileno())
            self._poller.watch(self._socket.fileno(), self._accept_now)

    def _accept_now(self) -> None:
        assert self._poller is not None
        assert isinstance(self._socket, socket.socket)
        self._poller.let_tasks_run()
        if not self._accept_waiting(self._socket):
            self._poller.unwatch(self._socket.fileno())
            self._poller.call_at(trio.current_time() + PAUSE_S, self._watch)
