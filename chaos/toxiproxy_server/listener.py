"""Where a proxy's clients come in: a socket that listens, or that only keeps its port so that they are refused."""

from __future__ import annotations

import errno
import socket
from collections.abc import Callable

import trio

from chaos.link.poller import Poller
from chaos.toxiproxy_server.address import (
    INHERITED,
    Address,
    bound,
    keep,
    listen,
    printed,
    set_options,
)

_OUT_OF_DESCRIPTORS = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)
PAUSE_S = 0.1
Arrived = Callable[[socket.socket, str], None]


class Listener:
    """Listens from the start on. Close it with `close`, which never waits and refuses clients from then on."""

    def __init__(self, address: Address) -> None:
        """Listen. Raises AddressError."""
        plain = listen(address)
        self.address = bound(plain)
        self._host = address.host
        self._port = int(plain.getsockname()[1])
        self._socket: socket.socket | None = _prepared(plain)
        self._holder: socket.socket | None = None
        self._listening = trio.Event()
        self._listening.set()
        self._poller: Poller | None = None
        self._arrived: Arrived = lambda sock, _: sock.close()

    def refuse(self) -> None:
        """Refuse clients from now on; the port stays ours as far as the system lets it."""
        if self._socket is not None:
            self._listening = trio.Event()
            self._close_socket()
            self._holder = keep(Address(host=self._host, port=self._port))

    def admit(self) -> None:
        """Listen again. Raises AddressError if somebody else has taken the port."""
        if self._socket is None:
            if self._holder is not None:
                self._holder.close()
                self._holder = None
            plain = listen(Address(host=self._host, port=self._port))
            self._socket = _prepared(plain)
            self._listening.set()
            self._watch()

    async def serve(self, arrived: Arrived, poller: Poller | None) -> None:
        """Give each client's socket and address to `arrived`, until cancelled; no client is lost by that."""
        self._arrived = arrived
        self._poller = poller
        self._watch()
        if poller is not None:
            await trio.sleep_forever()
        while True:
            await self._listening.wait()
            try:
                if self._socket is not None:
                    await trio.lowlevel.wait_readable(self._socket)
            except trio.ClosedResourceError:
                continue
            if not self._accept():
                await trio.sleep(PAUSE_S)

    def close(self) -> None:
        """Close it; idempotent. Clients that nobody has seen yet are closed as if they had been."""
        self._arrived = lambda sock, _: sock.close()
        self._accept()
        self._listening = trio.Event()
        self._close_socket()
        if self._holder is not None:
            self._holder.close()
            self._holder = None

    def _watch(self) -> None:
        if self._poller is not None and self._socket is not None:
            self._poller.forget(self._socket.fileno())
            self._poller.watch(self._socket.fileno(), self._ready)

    def _ready(self) -> None:
        poller, listener = self._poller, self._socket
        assert poller is not None
        assert listener is not None
        poller.hurry()
        if not self._accept():
            poller.forget(listener.fileno())
            poller.at(trio.current_time() + PAUSE_S, self._watch)

    def _accept(self) -> bool:
        """Take in the clients that are there; False when that cannot be done for now."""
        while self._socket is not None:
            try:
                accepted, address = self._socket.accept()
            except BlockingIOError:
                return True
            except OSError as error:
                # a connection that died in the backlog, or no descriptor to spare (accept(2))
                if error.errno in _OUT_OF_DESCRIPTORS:
                    return False
                continue
            accepted.setblocking(False)
            if not INHERITED:
                set_options(accepted)
            self._arrived(accepted, printed(address))
        return True

    def _close_socket(self) -> None:
        if self._socket is None:
            return
        if self._poller is not None:
            self._poller.forget(self._socket.fileno())
        trio.lowlevel.notify_closing(self._socket)  # a task may wait for it
        self._socket.close()
        self._socket = None


def _prepared(plain: socket.socket) -> socket.socket:
    """Return a socket that listens, with the options that those it accepts are to have."""
    set_options(plain)
    return plain
