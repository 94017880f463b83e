"""The heartbeat: the only thing that notices a peer that is silently gone.

TCP keepalive does not replace it: behind a proxy the proxy's kernel answers, and while data is unacknowledged it
does not run at all. Nor does received traffic: one direction of a path can die alone, and data that was under way
may arrive long after the peer is gone. Only a pong proves that a question got through and an answer came back.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import trio

from chaos.scenario.model import Heartbeat

# A connection whose heartbeat failed is given up with this code, sent into the void: the peer may still hear it if
# only the way back is broken. Not 1000 or 1001, which say that all is well and end the session at services that
# keep one (Discord); not 1011, which blames an error of the sender's. 4200 is what discord.js sends in this place,
# and it lies in Pusher's range for "reconnect at once".
HEARTBEAT_CODE = 4200
HEARTBEAT_REASON = "heartbeat timeout"


async def until_dead(
    ping: Callable[[float, float], Awaitable[bool]], options: Heartbeat, misses: int
) -> None:
    """Ping `interval_s` after the last pong or miss; return when `misses` pings in a row got no pong.

    `ping` takes the seconds to wait for the pong, and those to rest once it has come; it says whether it came.
    Cancelling is safe.
    """
    missed, rested = 0, False
    while missed < misses:
        if not rested:
            await trio.sleep(options.interval_s)
        rested = await ping(options.timeout_s, options.interval_s)
        missed = 0 if rested else missed + 1
