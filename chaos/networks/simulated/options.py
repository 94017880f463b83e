"""Socket options: what a program sets and asks for, and which of them change what it sees."""

from __future__ import annotations

import socket
import struct
from dataclasses import dataclass, field

from chaos.networks.simulated.linux import (
    KEEPALIVE_COUNT,
    KEEPALIVE_IDLE_S,
    KEEPALIVE_INTERVAL_S,
    RECEIVE_BUFFER_BYTES,
    RETRIES,
    SEND_BUFFER_BYTES,
    SYN_RETRIES,
)

_UNSET: dict[tuple[int, int], int] = {
    (socket.SOL_SOCKET, socket.SO_TYPE): socket.SOCK_STREAM,
    (socket.SOL_SOCKET, socket.SO_SNDBUF): SEND_BUFFER_BYTES,
    (socket.SOL_SOCKET, socket.SO_RCVBUF): RECEIVE_BUFFER_BYTES,
}


@dataclass(slots=True)
class Options:
    """The options of one socket; Linux's defaults. Those without a field of their own are remembered, no more."""

    keepalive: bool = False
    keepalive_idle_s: float = KEEPALIVE_IDLE_S
    keepalive_interval_s: float = KEEPALIVE_INTERVAL_S
    keepalive_count: int = KEEPALIVE_COUNT
    user_timeout_s: float = 0.0
    linger_0: bool = False
    retries: int = RETRIES
    syn_retries: int = SYN_RETRIES
    _given: dict[tuple[int, int], int | bytes] = field(default_factory=dict)

    def inherit(self, listener: Options) -> None:
        """Take what was set on the socket that listened for this one's connection, as Linux does (socket(7))."""
        for (level, name), value in listener._given.items():
            self.set(level, name, value)

    def set(self, level: int, name: int, value: int | bytes) -> None:
        """Take what a program sets."""
        self._given[level, name] = value
        if level == socket.SOL_SOCKET and name == socket.SO_LINGER and isinstance(value, bytes):
            on, seconds = struct.unpack("ii", value)
            self.linger_0 = bool(on) and seconds == 0
        elif level == socket.SOL_SOCKET and name == socket.SO_KEEPALIVE:
            self.keepalive = bool(value)
        elif level == socket.IPPROTO_TCP:
            self._set_tcp(name, int(value))

    def _set_tcp(self, name: int, value: int) -> None:
        if name == getattr(socket, "TCP_KEEPIDLE", None):
            self.keepalive_idle_s = float(value)
        elif name == getattr(socket, "TCP_KEEPINTVL", None):
            self.keepalive_interval_s = float(value)
        elif name == getattr(socket, "TCP_KEEPCNT", None):
            self.keepalive_count = value
        elif name == getattr(socket, "TCP_SYNCNT", None):
            self.syn_retries = value
        elif name == getattr(socket, "TCP_USER_TIMEOUT", None):
            self.user_timeout_s = value / 1000

    def get(self, level: int, name: int) -> int | bytes:
        """Return what was set, or the default."""
        return self._given.get((level, name), _UNSET.get((level, name), 0))
