"""The interface of a machine: one toxic or fault at work on one direction of one connection.

A machine names the words of the vocabulary that it carries out: `class StallMachine(QueueMachine, does=[Stall])`.
A machine is driven by its pipe and by nothing else. The pipe calls `feed` when a unit arrives, `wake` at exactly the
time that `wake_at` gave, `update` when the settings change, and `drain` when the machine is removed. Each of them
returns the units that leave the machine at that instant, in order. `update` and `drain` never lose a byte.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from random import Random
from typing import Any, ClassVar, TypeAlias

from chaos.faults.units import Unit, size
from chaos.vocabulary.toxics import Noop
from chaos.vocabulary.word import Word
from chaos.wire.frames import FrameCutter

# What a middle stage may hold before the pump stops reading. The original's rendezvous queues hold about one
# 32 KiB chunk per stage (toxiproxy link.go); two of our 64 KiB reads keep a slow stage busy and push back early.
CAPACITY_BYTES = 128 * 1024


# what a stage is called: the number of its entry in a timeline, or a name
Key: TypeAlias = int | str


@dataclass(slots=True)
class Flow:
    """What a middlebox knows of one connection."""

    active_s: float
    forgotten: bool = False


@dataclass(slots=True, kw_only=True)
class Flows:
    """What the two pipes of one connection share: when it began, and the middleboxes' memory by stage key."""

    opened_s: float
    by_key: dict[Key, Flow] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where and when a machine begins its work: what it may need beside its settings.

    `key` is its stage's, `cutter` knows where in the stream of frames the machine begins, and is the machine's own.
    """

    key: Key
    now_s: float
    rng: Random
    flows: Flows
    cutter: FrameCutter


class Machine:
    """The base of all machines: it passes every unit on, which is what `noop` does."""

    capacity_bytes: int = CAPACITY_BYTES
    # whether it does not matter to it how many bytes come at once: it neither paces, cuts nor looks at them
    takes_bulk: ClassVar[bool] = False
    # a sticky machine stays on its connection when its entry ends
    sticky: ClassVar[bool] = False

    def __init_subclass__(cls, does: Iterable[type[Word]] = ()) -> None:
        """Note that this machine carries out these words."""
        MACHINES.update(dict.fromkeys(does, cls))

    def __init__(self, settings: Any, place: Place) -> None:
        """Begin the work of a word with these settings, at this place of a stream."""
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
        """Return the units that leave because their time has come."""
        return []

    def drain(self, now: float) -> list[Unit]:
        """Return everything that is held, in order: the machine is being removed."""
        return []


# The machine of each word that acts on a stream.
MACHINES: dict[type[Word], type[Machine]] = {Noop: Machine}


def acts_on_stream(settings: Word) -> bool:
    """Return whether a word has a machine; the others act on connections as a whole, or below the link."""
    return type(settings) in MACHINES


class QueueMachine(Machine):
    """The base of machines that hold units in order."""

    def __init__(self, settings: Any, place: Place) -> None:
        super().__init__(settings, place)
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
