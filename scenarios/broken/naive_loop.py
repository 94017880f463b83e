"""A client as the library's README leads one to write it: open, use, and open again when it ends.

trio-websocket 0.12 closes the socket of a connection only when its own side closes first: after the peer's FIN, RST
or Close it stays in CLOSE_WAIT until the garbage collector finds it. Whoever keeps a reference keeps the socket.
"""

from __future__ import annotations

import json
import random
from collections.abc import Mapping
from typing import Any

import trio
import trio_websocket

from chaos import report


async def client(url: str, *, number: int, seed: int, backoff: Mapping[str, float]) -> None:
    """Connect again and again, as the examples show it."""
    kept = []
    delays = random.Random(f"{seed}/{number}")
    while True:
        try:
            async with trio_websocket.open_websocket_url(url) as websocket:
                kept.append(websocket)  # for the statistics page
                while True:
                    row = json.loads(await websocket.get_message())
                    report("message", id=row["id"], sender=row["sender"])
        except (OSError, trio_websocket.ConnectionClosed, trio_websocket.HandshakeError):
            await trio.sleep(delays.uniform(0.0, backoff["initial_s"]))
