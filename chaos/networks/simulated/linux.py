"""What Linux does by default: buffers, timers and retries, as measured on 6.18 (docs/explanation/simulation.md)."""

from __future__ import annotations

import os

# A frozen peer's kernel and our own took 841,344 bytes in all before send() blocked.
SEND_BUFFER_BYTES = 415_360
RECEIVE_BUFFER_BYTES = 425_984
SEGMENT_BYTES = 65_536
# on a path where size matters, what Ethernet carries (MTU 1500 less 52 bytes of headers with timestamps)
SEGMENT_BYTES_LIMITED = 1_448
# CONFIG_HZ 250, as most distributions have it
JIFFY_S = 0.004
# Retransmission timeout: 200 ms (tcp_rto_min_us) and the round trip; doubles, cap 120 s
RTO_S = 0.2
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
