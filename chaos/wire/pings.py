"""Which pings have passed, so that a pong that answers none of them is known (RFC 6455 §5.5.3)."""

from __future__ import annotations

PINGS_MAX = 64


class Pings:
    """The payloads of the last pings of one stream, as hashes. A pong may answer any: the newest or one before it."""

    __slots__ = ("_seen",)

    def __init__(self) -> None:
        self._seen: dict[int, None] = {}

    def add(self, payload: bytes) -> None:
        """Note a ping."""
        key = hash(payload)
        self._seen.pop(key, None)
        self._seen[key] = None
        if len(self._seen) > PINGS_MAX:
            del self._seen[next(iter(self._seen))]

    def has(self, payload: bytes) -> bool:
        """Whether a pong with this payload answers one of them."""
        return hash(payload) in self._seen
