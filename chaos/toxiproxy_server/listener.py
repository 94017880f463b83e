"""Where a proxy's clients come in: a socket that listens, or that only keeps its port so that they are refused."""

from __future__ import annotations

import errno
import socket

import trio

from chaos.toxiproxy_server.address import (
    INHERITED,
    Address,
    bound,
    keep,
    keep_alive,
    listen,
    printed,
)

_OUT_OF_DESCRIPTORS = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)
PAUSE_S = 0.1


class Listener:
    """Listens from the start on. Close it with `close`, which never waits and refuses clients from then on."""

    def __init__(self, address: Address) -> None:
        """Listen. Raises AddressError."""
        plain = listen(address)
        self.address = bound(plain)
        self._host = address.host
        self._port = int(plain.getsockname()[1])
        self._socket: trio.socket.SocketType | None = _prepared(plain)
        self._holder: socket.socket | None = None
        self._listening = trio.Event()
        self._listening.set()

    def refuse(self) -> None:
        """Refuse clients from now on; the port stays ours as far as the system lets it."""
        if self._socket is not None:
            self._listening = trio.Event()
            self._socket.close()
            self._socket = None
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

    async def accept(self) -> tuple[trio.SocketStream, str]:
        """Wait for the next client; return its stream and its address. Cancelling loses none."""
        while True:
            await self._listening.wait()
            if self._socket is None:
                continue
            try:
                accepted, address = await self._socket.accept()
            except trio.ClosedResourceError:
                continue
            except OSError as error:
                # a connection that died in the backlog, or no descriptor to spare (accept(2))
                if error.errno in _OUT_OF_DESCRIPTORS:
                    await trio.sleep(PAUSE_S)
                continue
            stream = trio.SocketStream(accepted)
            if not INHERITED:
                keep_alive(accepted)
            return stream, printed(address)

    def close(self) -> None:
        """Close it; idempotent."""
        self._listening = trio.Event()
        for closing in (self._socket, self._holder):
            if closing is not None:
                closing.close()
        self._socket = self._holder = None


def _prepared(plain: socket.socket) -> trio.socket.SocketType:
    """Return a socket that listens, with the options that those it accepts are to have."""
    keep_alive(plain)
    return trio.socket.from_stdlib_socket(plain)
