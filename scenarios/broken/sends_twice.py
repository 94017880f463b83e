"""A client that sends its last messages again after each reconnection."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from typing import Any

from plain import Client
from plain_wire import Wire
from wsproto.events import TextMessage

from chaos import subject


class Broken(Client):
    """Wants nothing lost, has no acknowledgements, and so sends what may have been lost."""

    def __init__(self, url: str, options: Mapping[str, Any]) -> None:
        super().__init__(url, options)
        self.last: deque[str] = deque(maxlen=4)

    def message(self, number: int, size: int) -> str:
        """Return the text of a workload message, and remember it."""
        text = super().message(number, size)
        self.last.append(text)
        return text

    async def talk(self, wire: Wire, line: Mapping[str, Any]) -> None:
        """Send the last messages again, then go on."""
        for text in tuple(self.last):
            await wire.send(TextMessage(data=text))
        await super().talk(wire, line)


@subject(sends=True)
async def client(url: str, **options: Any) -> None:
    """Run the client until cancelled."""
    await Broken(url, options).run()
