"""Socket options: what a program sets and asks for, and which of them change what it sees."""

from __future__ import annotations

import socket
import struct
import sys
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
# the field that an option of TCP sets, and its unit in that of the field; not every system has each
_TCP: dict[int, tuple[str, float | int]] = {
    getattr(socket, name): field_and_unit
    for name, field_and_unit in {
        "TCP_KEEPIDLE": ("keepalive_idle_s", 1.0),
        "TCP_KEEPINTVL": ("keepalive_interval_s", 1.0),
        "TCP_KEEPCNT": ("keepalive_count", 1),
        "TCP_SYNCNT": ("syn_retries", 1),
        "TCP_USER_TIMEOUT": ("user_timeout_s", 1e-3),
    }.items()
    if hasattr(socket, name)
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
        """Take what a program sets: a number, or the bytes that the kernel takes it as."""
        self._given[level, name] = value
        if (level, name) == (socket.SOL_SOCKET, socket.SO_LINGER) and isinstance(value, bytes):
            on, seconds = struct.unpack("ii", value)
            self.linger_0 = bool(on) and seconds == 0
        elif (level, name) == (socket.SOL_SOCKET, socket.SO_KEEPALIVE):
            self.keepalive = bool(_number(value))
        elif level == socket.IPPROTO_TCP and name in _TCP:
            field_name, unit = _TCP[name]
            setattr(self, field_name, _number(value) * unit)

    def get(self, level: int, name: int) -> int | bytes:
        """Return what was set, or the default."""
        return self._given.get((level, name), _UNSET.get((level, name), 0))


def _number(value: int | bytes) -> int:
    return int.from_bytes(value, sys.byteorder) if isinstance(value, bytes) else int(value)
