"""The number of retries is for the life of the client, not for one outage.

Rebuilds pladaria/reconnecting-websocket #125 and #165 and cloudflare/partykit #252: after `maxRetries` the client is
dead and even `reconnect()` does nothing, since the counter is not reset. The mistake: a success does not set it back.
One short outage is survived, and so is the next; only as many failures as it has in all show it.
"""

from __future__ import annotations

from typing import Any

from planted_base import Client, Ending

RETRIES_MAX = 6


class Planted(Client):
    """Counts failed attempts, and never starts over."""

    retries = 0

    def delay_s(self, ending: Ending) -> float | None:
        """Return the next delay, or None when the retries are used up."""
        if ending.lived_s == 0.0:
            self.retries += 1
        return None if self.retries > RETRIES_MAX else super().delay_s(ending)


async def client(url: str, **options: Any) -> None:
    """Run the client until cancelled."""
    await Planted(url, options).run()
