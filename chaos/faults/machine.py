"""The interface of a machine: one toxic or fault at work on one direction of one connection.

A machine is driven by its pipe and by nothing else: `feed` when a unit arrives, `wake` at exactly the time that
`wake_at` gave, `update` and `drain` when its settings change or it is removed. Each returns the units that leave
the machine at that instant, in order. No byte may ever be lost by `update` or `drain`.
"""

from __future__ import annotations

from collections import deque
from typing import ClassVar

from chaos.faults.units import Unit, size

# What a middle stage may hold before the pump stops reading. The original's rendezvous queues hold about one
# 32 KiB chunk per stage (toxiproxy link.go); two of our 64 KiB reads keep a slow stage busy and push back early.
CAPACITY_BYTES = 128 * 1024


class Machine:
    """Pass-through: the base of all machines, and what `noop` is."""

    capacity_bytes: int = CAPACITY_BYTES
    # a sticky machine stays on its connection when its entry ends
    sticky: ClassVar[bool] = False

    def __init__(self) -> None:
        self.felt: str | None = None
        self.held_bytes = 0

    def feed(self, now: float, unit: Unit) -> list[Unit]:
        """Take a unit that arrives now."""
        self.felt = self.felt or "passed"
        return [unit]

    def wake_at(self) -> float | None:
        """Return when `wake` wants to be called, or None."""
        return None

    def wake(self, now: float) -> list[Unit]:
        """Do what is due now."""
        return []

    def drain(self, now: float) -> list[Unit]:
        """Leave: return everything that is held, in order."""
        return []


class QueueMachine(Machine):
    """A machine that holds units in order."""

    def __init__(self) -> None:
        super().__init__()
        self.queue: deque[Unit] = deque()

    def hold(self, unit: Unit) -> None:
        """Append a unit to what is held."""
        self.queue.append(unit)
        self.held_bytes += size(unit)

    def release(self) -> Unit:
        """Remove and return the oldest unit that is held."""
        unit = self.queue.popleft()
        self.held_bytes -= size(unit)
        return unit

    def drain(self, now: float) -> list[Unit]:
        """Return everything that is held, in order."""
        return [self.release() for _ in range(len(self.queue))]
