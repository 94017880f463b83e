"""The chain of toxics and faults on one direction of one connection.

A pipe runs on logical time: each machine is woken at exactly the time that it asked for, whenever the caller polls.
So how often a pipe is polled does not change what comes out of it, nor the times that it comes out at.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from random import Random
from typing import Any

from chaos.faults import holds, middlebox, toxics  # noqa: F401 - their machines make themselves known
from chaos.faults.machine import MACHINES, Flows, Key, Machine, Place
from chaos.faults.units import Cut, Data, Timed, Unit
from chaos.trace import Stream
from chaos.vocabulary.word import Word
from chaos.wire.frames import FrameCutter


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """One toxic or fault as it should be in the chain: its key, settings, and the share that it applies to."""

    key: Key
    settings: Word
    toxicity: float = 1.0


@dataclass(slots=True, kw_only=True)
class _Slot:
    stage: Stage
    rng: Random
    machine: Machine | None = None  # None: toxicity did not select this connection
    detached: bool = False  # its entry is over, but it stays (sticky)
    is_reported: bool = False  # `felt` has returned it


class Pipe:
    """A pipe is one direction of one connection. It is not thread-safe, and it never waits."""

    def __init__(self, *, stream: Stream, flows: Flows, rng_for: Callable[[Key], Random]) -> None:
        """Make an empty pipe. `rng_for` gives the generator for a stage's key; it is asked once per key."""
        self._stream: Stream = stream
        self._flows = flows
        self._rng_for = rng_for
        self._slots: list[_Slot] = []
        self._out: list[Timed] = []
        self.leaving_bytes = 0  # they have left the machines and wait for `advance`
        self._cutter = FrameCutter()
        self._cut = False

    @property
    def buffered(self) -> int:
        """How many bytes the machines hold."""
        return sum(slot.machine.held_bytes for slot in self._slots if slot.machine)

    @property
    def full(self) -> bool:
        """Whether the source should be left unread for now (back-pressure)."""
        return any(
            slot.machine.held_bytes >= slot.machine.capacity_bytes
            for slot in self._slots
            if slot.machine
        )

    @property
    def empty(self) -> bool:
        """Whether the pipe holds nothing."""
        return not self.buffered and self.wake_at() is None

    @property
    def active(self) -> frozenset[Key]:
        """The keys of the stages that toxicity selected for this connection."""
        return frozenset(slot.stage.key for slot in self._slots if slot.machine)

    @property
    def transparent(self) -> bool:
        """Whether bytes may pass beside the pipe: no machine acts on them, and frames need not be counted.

        A `noop`, and what toxicity did not select, act on nothing.
        """
        if self._out or not self._cutter.opaque:
            return False
        return all(slot.machine is None or type(slot.machine) is Machine for slot in self._slots)

    def bypass(self, payload: bytes) -> bool:
        """Count the frames of bytes that go beside the pipe; False if something here acts on them: feed them then."""
        if self._out or self._cut or any(slot.machine is not None for slot in self._slots):
            return False
        self._cutter.skip(payload)
        return True

    @property
    def takes_bulk(self) -> bool:
        """Whether any number of bytes may come at once: nothing here paces, cuts or looks at them."""
        return self._cutter.opaque and all(
            slot.machine is None or type(slot.machine) is Machine or slot.machine.takes_bulk
            for slot in self._slots
        )

    @property
    def dead(self) -> bool:
        """Whether nothing that is put in can ever come out, since the flow was forgotten."""
        return any(slot.machine.sticky for slot in self._slots if slot.machine)

    @property
    def is_forgotten(self) -> bool:
        """Whether it is dead, and what has caused that is no longer in force."""
        return any(slot.detached for slot in self._slots)

    def feed(self, now: float, unit: Unit) -> None:
        """Put in a unit that arrived now. Units must come in the order of their times."""
        self._run(now)
        self._push(0, now, [unit])

    def wake_at(self) -> float | None:
        """Return when `advance` will have something to do, or None."""
        if self._out:
            return self._out[0].at_s
        if not self._slots:
            return None
        times = [time for slot in self._slots if (time := _wake_at(slot)) is not None]
        return min(times, default=None)

    def advance(self, now: float) -> list[Timed]:
        """Return the units that have left the pipe by now, each with the time at which it left."""
        self._run(now)
        out, self._out = self._out, []
        self.leaving_bytes = 0
        return out

    def replace(self, now: float, stages: Sequence[Stage]) -> None:
        """Make the chain these stages: known keys keep their state, new ones go to the end, others drain."""
        self._run(now)
        wanted = {stage.key: stage for stage in stages}
        for slot in list(self._slots):
            if slot.detached:
                continue
            stage = wanted.pop(slot.stage.key, None)
            if stage is None:
                self._remove(now, slot)
            elif stage != slot.stage:
                self._update(now, slot, stage)
        for stage in wanted.values():
            self._append(now, stage)

    def felt(self) -> list[tuple[Key, str]]:
        """Return (key, how) of each stage that touched something for the first time since the last call."""
        news: list[tuple[Key, str]] = []
        for slot in self._slots:
            if slot.machine and slot.machine.felt and not slot.is_reported:
                slot.is_reported = True
                news.append((slot.stage.key, slot.machine.felt))
        return news

    def _run(self, now: float) -> None:
        """Wake machines in the order of their times; of equal times the last in the chain comes first."""
        while self._slots:
            due = [
                (time, -index)
                for index, slot in enumerate(self._slots)
                if (time := _wake_at(slot)) is not None and time <= now
            ]
            if not due:
                return
            time, negative = min(due)
            index = -negative
            machine = self._slots[index].machine
            assert machine is not None
            self._push(index + 1, time, machine.wake(time))

    def _push(self, index: int, now: float, units: Iterable[Unit]) -> None:
        """Carry units through the machines from `index` on."""
        for slot in self._slots[index:]:
            if slot.machine is not None:
                machine = slot.machine
                units = [out for unit in units for out in machine.feed(now, unit)]
        for unit in units:
            if self._cut:
                return
            self._cut = isinstance(unit, Cut) and unit.whom == "both"
            if isinstance(unit, Data):
                self._cutter.skip(unit.payload)
                self.leaving_bytes += len(unit.payload)
            self._out.append(Timed(now, unit))

    def _append(self, now: float, stage: Stage) -> None:
        slot = _Slot(stage=stage, rng=self._rng_for(stage.key))
        self._slots.append(slot)
        self._draw(now, slot)

    def _draw(self, now: float, slot: _Slot) -> None:
        """Draw whether the stage applies to this connection; the draw stays until toxicity changes."""
        if slot.rng.random() < slot.stage.toxicity:
            place = Place(
                key=slot.stage.key,
                now_s=now,
                rng=slot.rng,
                flows=self._flows,
                cutter=self._cutter.copy(),
            )
            settings = slot.stage.settings
            slot.machine = MACHINES[type(settings)](settings, place)

    def _update(self, now: float, slot: _Slot, stage: Stage) -> None:
        redraw = stage.toxicity != slot.stage.toxicity
        slot.stage = stage
        index = self._slots.index(slot)
        if redraw:
            if slot.machine is not None:
                self._push(index + 1, now, slot.machine.drain(now))
            slot.machine = None
            self._draw(now, slot)
        elif slot.machine is not None:
            update: Any = getattr(slot.machine, "update", None)
            if update is not None:
                self._push(index + 1, now, update(now, stage.settings))

    def _remove(self, now: float, slot: _Slot) -> None:
        index = self._slots.index(slot)
        if slot.machine is not None and slot.machine.sticky and not self._is_dead_before(index):
            slot.detached = True
            return
        if slot.machine is not None:
            self._push(index + 1, now, slot.machine.drain(now))
        self._slots.remove(slot)

    def _is_dead_before(self, index: int) -> bool:
        """Whether nothing can reach the slot at `index`: then a machine there need not stay for good."""
        return any(slot.detached for slot in self._slots[:index])


def _wake_at(slot: _Slot) -> float | None:
    return slot.machine.wake_at() if slot.machine is not None else None
