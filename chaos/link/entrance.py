"""What a connection meets where it comes in, before any byte of it is passed on: faults that have no stage in a pipe.

The link of a scenario and the proxies of the Toxiproxy server let connections in by the same `Entrance`. They differ
in which faults are in force for a connection, and in whether a transcript is told of them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, TypeVar

import trio

from chaos.faults.machine import Key
from chaos.faults.units import Data
from chaos.link.ends import End
from chaos.link.relay import Relay
from chaos.link.transcript import UNOBSERVED, Transcript
from chaos.vocabulary import faults as words
from chaos.wire.head import HeadTooLong, rejection, split_head, without_upgrade

# how long a rejected client may take to close its side before it is closed for it
LINGER_S = 2.0

FaultKind = TypeVar("FaultKind", bound=words.Fault)


@dataclass(frozen=True, slots=True, kw_only=True)
class Entrance:
    """Lets one client in. `faults` gives those in force by the time that it is asked, each with its key."""

    client: End
    faults: Callable[[], Iterable[tuple[Key, Any]]]
    transcript: Transcript = UNOBSERVED

    def _of_kind(self, kind: type[FaultKind]) -> list[tuple[Key, FaultKind]]:
        return [(key, fault) for key, fault in self.faults() if isinstance(fault, kind)]

    async def hold_back(self) -> None:
        """Wait for as long as accepting is slow."""
        for key, fault in self._of_kind(words.SlowAccept):
            self.transcript.felt("upstream", key, f"kept it waiting {fault.delay_s:g} s")
            await trio.sleep(fault.delay_s)

    async def reject(self) -> bool:
        """Answer the request with a status if a fault says so, and leave the client time to close.

        Returns whether the connection was rejected; there is nothing more to do with it then.
        """
        for key, fault in self._of_kind(words.RejectUpgrade):
            if await self._read_head() is not None:
                self.transcript.felt("upstream", key, f"answered {fault.status}")
                await self._answer(Data(rejection(fault)))
                self.transcript.tell("closed")
            return True
        return False

    async def _answer(self, answer: Data) -> None:
        self.transcript.observe("downstream", "client", answer)
        if await self.client.send(answer.payload):
            self.client.send_fin()
            self.transcript.record("fin", "downstream", "client")
            with trio.move_on_after(LINGER_S):
                while isinstance(unit := await self.client.receive(), Data):
                    pass
                if unit is not None:
                    self.transcript.observe("upstream", "client", unit)

    async def strip_upgrade(self, relay: Relay) -> None:
        """Feed a relay with the request's head without its Upgrade headers, if a fault says so and a head comes."""
        for key, fault in self._of_kind(words.StripUpgrade):
            found = await self._read_head()
            if found is not None:
                self.transcript.felt("upstream", key, "stripped the Upgrade headers")
                relay.feed("upstream", Data(without_upgrade(found[0], fault) + found[1]))
                return

    async def _read_head(self) -> tuple[bytes, bytes] | None:
        """Return a request's head and the bytes behind it; None if the client ends first."""
        received = b""
        while True:
            unit = await self.client.receive()
            if unit is not None:
                self.transcript.observe("upstream", "client", unit)
            if not isinstance(unit, Data):
                return None
            received += unit.payload
            try:
                found = split_head(received)
            except HeadTooLong:
                return received, b""
            if found is not None:
                return found
