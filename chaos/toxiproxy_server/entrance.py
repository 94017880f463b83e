"""Faults that act where a connection comes in, before any byte of it is passed on."""

from __future__ import annotations

from dataclasses import dataclass

import trio

from chaos.faults.units import Data
from chaos.link.connection import Connection
from chaos.link.ends import End
from chaos.vocabulary import faults as words
from chaos.wire.handshake import END_OF_HEAD, HEAD_BYTES_MAX, rejection, strip

# how long a rejected client may take to close its side before it is closed for it
LINGER_S = 2.0
# those that have no stage in a pipe
FAULTS = (words.Refuse, words.SlowAccept, words.RejectUpgrade, words.StripUpgrade, words.Reset)


@dataclass(frozen=True, slots=True, kw_only=True)
class Entrance:
    """What a connection met when it came in."""

    slow_accept_s: float = 0.0
    rejects: words.RejectUpgrade | None = None
    strips: words.StripUpgrade | None = None
    swallows: bool = False  # a blackhole: nothing of it reaches the server


def entrance(faults: list[words.Fault]) -> Entrance:
    """Return what these faults do to a connection that comes in under all of them."""
    return Entrance(
        slow_accept_s=sum(f.delay_s for f in faults if isinstance(f, words.SlowAccept)),
        rejects=next((f for f in faults if isinstance(f, words.RejectUpgrade)), None),
        strips=next((f for f in faults if isinstance(f, words.StripUpgrade)), None),
        swallows=any(isinstance(f, words.Blackhole) for f in faults),
    )


async def reject(client: End, fault: words.RejectUpgrade) -> None:
    """Answer a request with a status, and leave the client time to close."""
    if await read_head(client) is None:
        return
    if await client.send(rejection(fault)):
        client.send_fin()
        with trio.move_on_after(LINGER_S):
            while isinstance(await client.receive(), Data):
                pass


async def strip_head(connection: Connection, client: End, fault: words.StripUpgrade) -> None:
    """Pass the request's head on without its Upgrade headers, and what came with it."""
    received = await read_head(client)
    if received is not None:
        head, _, rest = received.partition(END_OF_HEAD)
        connection.feed("upstream", Data(strip(head + END_OF_HEAD, fault) + rest))


async def read_head(client: End) -> bytes | None:
    """Read the head of a request; None if the client ends first."""
    received = b""
    while END_OF_HEAD not in received and len(received) < HEAD_BYTES_MAX:
        unit = await client.receive()
        if not isinstance(unit, Data):
            return None
        received += unit.payload
    return received
