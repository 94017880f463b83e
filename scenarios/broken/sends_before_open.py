"""A client that sends its first message before the handshake is answered."""

from __future__ import annotations

from typing import Any

from plain import Client
from plain_wire import Ending, Wire, ask
from wsproto.frame_protocol import FrameProtocol


class Broken(Client):
    """Saves a round trip that it does not have."""

    async def open(self, wire: Wire) -> Ending | None:
        """Send the greeting right behind the request, then wait for the answer."""
        whole = wire.stream.send_all

        async def send_all(data: bytes) -> None:
            early = FrameProtocol(client=True, extensions=[]).send_data('{"hello": 1}')
            await whole(data + early)

        wire.stream.send_all = send_all
        try:
            return await ask(wire, f"{self.host}:{self.port}", self.target)
        finally:
            wire.stream.send_all = whole


async def client(url: str, **options: Any) -> None:
    """Run the client until cancelled."""
    await Broken(url, options).run()
