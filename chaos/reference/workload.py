"""Workload messages, and the sessions that number them. Pure.

A message is a JSON object in a text frame, or the same bytes in a binary frame:

    {"id": 17, "sender": "client-3", "sent_at_s": 12.5, "pad": "…"}      padded to exactly its size
    {"ack": 17}                                                         everything up to 17 was handled
    {"resume": 17}                                                      first after opening: continue after 17

`ack` and `resume` travel only with `delivery: resume`. Ids count from 1 per sender and client, and go on after a
reconnection.
"""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

# Kept for replay. A peer that acknowledges nothing for so long is not coming back; the oldest are dropped first.
REPLAY_MESSAGES_MAX = 10_000
# One acknowledgement per so many messages keeps the replay buffer short at a few per cent more frames.
ACK_EVERY = 16
_PAD_FIELD = len(',"pad":""')


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """One message of the workload, kept without its padding."""

    id: int
    sender: str
    sent_at_s: float
    size: int
    binary: bool = False

    def encode(self) -> str | bytes:
        """Return the frame's payload: text, or bytes if it is binary; exactly `size` bytes from 64 up."""
        text = self._text()
        return text.encode() if self.binary else text

    def _text(self) -> str:
        for digits in (6, 3, 0):
            row = {
                "id": self.id,
                "sender": self.sender,
                "sent_at_s": round(self.sent_at_s, digits),
            }
            text = json.dumps(row, separators=(",", ":"))
            if len(text) + _PAD_FIELD <= self.size:
                pad = "x" * (self.size - len(text) - _PAD_FIELD)
                return f'{text[:-1]},"pad":"{pad}"}}'
        # no room for the field's name: JSON allows blanks after the object
        return text.ljust(self.size)


def decode(data: str | bytes) -> Mapping[str, Any] | None:
    """Return the object that a frame holds, or None if it is not one of ours."""
    try:
        row = json.loads(data)
    except (ValueError, RecursionError):
        return None
    return row if isinstance(row, dict) else None


@dataclass(slots=True)
class Session:
    """What one peer remembers of the other across connections: its counter, its replay buffer, the last id seen.

    `resume_out` says that what we send is replayed: then nothing new may be sent on a new connection until the
    other has said where to continue. `resume_in` says that what the other sends is replayed. The owner calls
    `opened` for each new connection. `kept` holds sends that were waiting when their connection died.
    """

    sender: str
    resume_out: bool = False
    resume_in: bool = False
    last_id: int = 0
    seen: int = 0
    unconfirmed: int = 0
    replay: deque[Message] = field(default_factory=lambda: deque(maxlen=REPLAY_MESSAGES_MAX))
    kept: list[Message] = field(default_factory=list)

    def opened(self) -> str | None:
        """Start a new connection. Return what has to be sent first, if anything."""
        self.unconfirmed = 0
        return f'{{"resume":{self.seen}}}' if self.resume_in else None

    def next_message(self, sent_at_s: float, size: int, *, binary: bool) -> Message:
        """Number a new message; it is kept for replay if need be."""
        self.last_id += 1
        message = Message(
            id=self.last_id, sender=self.sender, sent_at_s=sent_at_s, size=size, binary=binary
        )
        if self.resume_out:
            self.replay.append(message)
        return message

    def resumed(self, number: int) -> tuple[Message, ...]:
        """Return what has to be sent again: the other has seen everything up to this id.

        A number above our counter means that we have lost our memory, as after a crash: the counter goes on
        from there, so that no id is used twice.
        """
        self.last_id = max(self.last_id, number)
        self.acknowledged(number)
        return tuple(self.replay)

    def acknowledged(self, number: int) -> None:
        """Forget what need not be sent again."""
        while self.replay and self.replay[0].id <= number:
            self.replay.popleft()

    def received(self, number: int) -> bool:
        """Return whether a message with this id is to be handled; a repeated one is not, if it is replayed."""
        if self.resume_in and number <= self.seen:
            return False
        self.seen = max(self.seen, number)
        self.unconfirmed += 1
        return True

    def take_kept(self) -> tuple[Message, ...]:
        """Return the sends that were kept, in order, and forget them."""
        kept = tuple(sorted(self.kept, key=lambda message: message.id))
        self.kept.clear()
        return kept

    def ack_due(self) -> str | None:
        """Return an acknowledgement when enough messages came since the last one."""
        if not self.resume_in or self.unconfirmed < ACK_EVERY:
            return None
        self.unconfirmed = 0
        return f'{{"ack":{self.seen}}}'
