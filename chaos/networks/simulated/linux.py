"""Linux's TCP in figures: its defaults, the options that change them, and when its timers expire. Pure.

All figures are those of Linux 6.18, measured (docs/explanation/simulation.md) or from its sources, which are named.
"""

from __future__ import annotations

import os
import socket
import struct
import sys
from dataclasses import dataclass, field
from math import ceil

# A frozen peer's kernel and our own took 841,344 bytes in all before send() blocked.
SEND_BUFFER_BYTES = 415_360
RECEIVE_BUFFER_BYTES = 425_984
SEGMENT_BYTES = 65_536
# on a path where size matters, what Ethernet carries (MTU 1500 less 52 bytes of headers with timestamps)
SEGMENT_BYTES_LIMITED = 1_448
# CONFIG_HZ 250, as most distributions have it
JIFFY_S = 0.004
# Retransmission timeout (RTO): 200 ms (tcp_rto_min_us) and the round trip; it doubles up to 120 s
RTO_S_MIN = 0.2
RTO_S_MAX = 120.0
RETRIES = 15  # tcp_retries2: about 924 s after the first retransmission
# The first SYN waits 1 s, four more (tcp_syn_linear_timeouts) as long, then the wait doubles
SYN_WAIT_S = 1.0
SYN_LINEAR_TIMEOUTS = 4
SYN_RETRIES = 6  # tcp_syn_retries: 127 s, and the wait that has begun
KEEPALIVE_IDLE_S = 7200.0
KEEPALIVE_INTERVAL_S = 75.0
KEEPALIVE_COUNT = 9


def os_error(number: int) -> OSError:
    """Return the OSError of a number, as the machine's own would be."""
    return OSError(number, os.strerror(number))


# options of a socket

_DEFAULTS: dict[tuple[int, int], int] = {
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
class SocketOptions:
    """The options of one socket, with Linux's defaults. Those without a field of their own are only remembered."""

    keepalive: bool = False
    keepalive_idle_s: float = KEEPALIVE_IDLE_S
    keepalive_interval_s: float = KEEPALIVE_INTERVAL_S
    keepalive_count: int = KEEPALIVE_COUNT
    user_timeout_s: float = 0.0
    resets_on_close: bool = False  # SO_LINGER with a time of 0
    retries: int = RETRIES
    syn_retries: int = SYN_RETRIES
    _given: dict[tuple[int, int], int | bytes] = field(default_factory=dict)

    def inherit(self, listener: SocketOptions) -> None:
        """Take over what was set on the socket that listened for this connection, as Linux does (socket(7))."""
        for (level, name), value in listener._given.items():
            self.set(level, name, value)

    def set(self, level: int, name: int, value: int | bytes) -> None:
        """Set an option to a number, or to the bytes of the struct that the kernel expects."""
        self._given[level, name] = value
        if (level, name) == (socket.SOL_SOCKET, socket.SO_LINGER) and isinstance(value, bytes):
            on, seconds = struct.unpack("ii", value)
            self.resets_on_close = bool(on) and seconds == 0
        elif (level, name) == (socket.SOL_SOCKET, socket.SO_KEEPALIVE):
            self.keepalive = bool(_number(value))
        elif level == socket.IPPROTO_TCP and name in _TCP:
            field_name, unit = _TCP[name]
            setattr(self, field_name, _number(value) * unit)

    def get(self, level: int, name: int) -> int | bytes:
        """Return what was set, or the default."""
        return self._given.get((level, name), _DEFAULTS.get((level, name), 0))


def _number(value: int | bytes) -> int:
    return int.from_bytes(value, sys.byteorder) if isinstance(value, bytes) else int(value)


# when timers expire

# the first level of the timer wheel holds 63 jiffies in slots of one; each further level is eight times as wide
_FIRST_LEVEL = 63
_WIDER_BITS = 3
_TOLERANCE = 1e-6  # of a jiffy: sums of floats that are meant to be whole


def jiffies(seconds: float) -> int:
    """Return a wait in the kernel's ticks, rounded up."""
    return ceil(seconds / JIFFY_S - _TOLERANCE)


def expiry_s(now: float, wait_s: float) -> float:
    """Return the time at which a kernel timer expires that is set now.

    The kernel's timer wheel (`kernel/time/timer.c`) never fires early: a timer is put off to the next slot, and the
    slots of long timers are wide, so that a wait is up to an eighth longer than asked for.
    """
    wait = max(1, jiffies(wait_s))
    expires = int(now / JIFFY_S + _TOLERANCE) + wait
    shift = 0
    while wait >= _FIRST_LEVEL << shift:
        shift += _WIDER_BITS
    return (((expires + (1 << shift)) >> shift) << shift) * JIFFY_S


def retransmission_timeout_s(srtt_s: float) -> float:
    """Return the retransmission timeout (RTO) before any backing off, in whole jiffies.

    RFC 6298 has SRTT + 4 * RTTVAR. Linux takes 200 ms where 4 * RTTVAR is less; here it always is 200 ms.
    """
    return jiffies(RTO_S_MIN + srtt_s) * JIFFY_S


def retransmitting_s_max(retries: int) -> float:
    """Return for how long retransmissions go on after the first one, by `tcp_retries2`.

    It is the sum of as many doublings of the least timeout (`tcp_model_timeout`, net/ipv4/tcp_timer.c): Linux counts
    time, not retransmissions.
    """
    return sum(min(RTO_S_MIN * (1 << number), RTO_S_MAX) for number in range(retries + 1))


def connecting_s_max(retries: int) -> float:
    """Return for how long SYNs are sent, by `tcp_syn_retries`. A SYN that is due then or later is not sent."""
    return SYN_WAIT_S * ((2 << retries) - 1)


def syn_wait_s(number: int) -> float:
    """Return the time between a SYN (0: the first) and the next: equal at first (`tcp_syn_linear_timeouts`)."""
    return min(SYN_WAIT_S * (1 << max(0, number - SYN_LINEAR_TIMEOUTS)), RTO_S_MAX)
