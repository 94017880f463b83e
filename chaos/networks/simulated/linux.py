"""What Linux does by default: buffers, timers and retries, as measured on 6.18 (docs/explanation/simulation.md)."""

from __future__ import annotations

import os
from dataclasses import dataclass

# A frozen peer's kernel and our own took 841,344 bytes in all before send() blocked.
SEND_BUFFER_BYTES = 415_360
RECEIVE_BUFFER_BYTES = 425_984
SEGMENT_BYTES = 65_536
# on a path where size matters, what Ethernet carries (MTU 1500 less 52 bytes of headers with timestamps)
SEGMENT_BYTES_LIMITED = 1_448
# Retransmission timeout: 200 ms and the kernel's tick; doubles, cap 120 s (tcp_retries2 15: about 924 s)
RTO_S = 0.207
RTO_S_MAX = 120.0
RETRIES = 15
# SYN retries: four a second apart (tcp_syn_linear_timeouts), then doubling; six in all, then ETIMEDOUT
SYN_WAITS_S = (1.02, 1.02, 1.02, 1.02, 1.02, 2.02, 4.03, 8.06)
KEEPALIVE_IDLE_S = 7200.0
KEEPALIVE_INTERVAL_S = 75.0
KEEPALIVE_COUNT = 9


@dataclass(slots=True)
class Options:
    """Socket options that change what a program sees; Linux's defaults."""

    keepalive: bool = False
    keepalive_idle_s: float = KEEPALIVE_IDLE_S
    keepalive_interval_s: float = KEEPALIVE_INTERVAL_S
    keepalive_count: int = KEEPALIVE_COUNT
    user_timeout_s: float = 0.0
    linger_0: bool = False


def os_error(number: int) -> OSError:
    """Return the OSError of a number, as the machine's own would be."""
    return OSError(number, os.strerror(number))
