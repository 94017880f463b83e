"""A client that subscribes on its first connection only."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from plain import Client
from plain_wire import Wire

from chaos import subject


class Broken(Client):
    """Speaks when the application starts. A reconnection is none of the application's business, it thinks."""

    spoken = False

    async def talk(self, wire: Wire, line: Mapping[str, Any]) -> None:
        """Speak on the first connection only."""
        if not self.spoken:
            self.spoken = True
            await super().talk(wire, line)


@subject(sends=True)
async def client(url: str, **options: Any) -> None:
    """Run the client until cancelled."""
    await Broken(url, options).run()
