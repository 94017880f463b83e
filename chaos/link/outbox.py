"""What has left a pipe and is still to be delivered, in order."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass

from chaos.faults.units import Data, Timed, Unit, size


@dataclass(slots=True)
class Parcel:
    """A unit to deliver: without its first `taken` bytes, which are delivered; `observed` once the trace has it."""

    unit: Unit
    observed: bool = False
    taken: int = 0

    @property
    def payload(self) -> bytes | memoryview:
        """What is still to be delivered of the bytes of this unit."""
        assert isinstance(self.unit, Data)
        return memoryview(self.unit.payload)[self.taken :] if self.taken else self.unit.payload


class Outbox:
    """The parcels of one direction. `held_bytes` is what they hold together."""

    __slots__ = ("_parcels", "held_bytes")

    def __init__(self) -> None:
        self._parcels: deque[Parcel] = deque()
        self.held_bytes = 0

    def __bool__(self) -> bool:
        return bool(self._parcels)

    def add(self, units: Iterable[Timed]) -> None:
        """Put units behind what is there."""
        for timed in units:
            self._parcels.append(Parcel(timed.unit))
            self.held_bytes += size(timed.unit)

    def add_rest(self, unit: Data, taken: int) -> None:
        """Put a unit behind what is there whose first bytes are delivered; the trace has all of it."""
        self._parcels.append(Parcel(unit, observed=True, taken=taken))
        self.held_bytes += size(unit) - taken

    @property
    def first(self) -> Parcel:
        """The parcel whose turn it is."""
        return self._parcels[0]

    def take(self) -> Parcel:
        """Take the parcel whose turn it is."""
        parcel = self._parcels.popleft()
        self.held_bytes -= size(parcel.unit) - parcel.taken
        return parcel

    def shorten(self, taken: int) -> None:
        """Leave out the first bytes of the parcel whose turn it is: they are delivered."""
        self.first.taken += taken
        self.held_bytes -= taken
