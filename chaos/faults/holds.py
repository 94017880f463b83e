"""The machines of faults that hold or discard: stall, blackhole, and faults on single WebSocket frames."""

from __future__ import annotations

from collections import deque

from chaos.faults.machine import Machine, Place, QueueMachine
from chaos.faults.units import Data, Fin, Unit, size
from chaos.vocabulary.faults import Blackhole, DelayFrames, DropFrames, Stall
from chaos.wire.frames import Span

# How much a stalled path takes before its sender feels it: enough to see the sender's own FIN behind its data.
STALL_CAPACITY_BYTES = 4 * 1024 * 1024


class StallMachine(QueueMachine, does=[Stall]):
    """Holds every byte, FIN and RST; all of it leaves when the machine is removed."""

    capacity_bytes = STALL_CAPACITY_BYTES

    def feed(self, now: float, unit: Unit) -> list[Unit]:
        self.felt = self.felt or f"held {describe(unit)}"
        self.hold(unit)
        return []


class BlackholeMachine(Machine, does=[Blackhole]):
    """Discards everything for good, like a middlebox that has forgotten the flow."""

    sticky = True

    def feed(self, now: float, unit: Unit) -> list[Unit]:
        self.felt = self.felt or f"discarded {describe(unit)}"
        return []


class _FrameMachine(Machine):
    """Collects whole frames of the chosen opcodes, so that removal never leaves half a frame behind."""

    capacity_bytes = STALL_CAPACITY_BYTES

    def __init__(self, settings: DropFrames | DelayFrames, place: Place) -> None:
        super().__init__(settings, place)
        self._opcodes = frozenset(settings.opcodes)
        self._cutter = place.cutter
        self._partial: list[bytes] = []

    def _collect(self, span: Span) -> bytes | None:
        """Return a chosen frame once it is whole; None while it is not, or if the span is not of one."""
        self._partial.append(span.payload)
        self.held_bytes += len(span.payload)
        if not span.ends:
            return None
        frame = b"".join(self._partial)
        self._partial.clear()
        self.held_bytes -= len(frame)
        return frame

    def _chosen(self, span: Span) -> bool:
        # a frame that began before this machine was added goes on untouched
        return span.opcode in self._opcodes and (span.begins or bool(self._partial))

    def _release_partial(self) -> list[Unit]:
        rest = b"".join(self._partial)
        self._partial.clear()
        self.held_bytes -= len(rest)
        return [Data(rest)] if rest else []


class DropFramesMachine(_FrameMachine, does=[DropFrames]):
    """Drops whole frames of some opcodes."""

    def feed(self, now: float, unit: Unit) -> list[Unit]:
        if not isinstance(unit, Data):
            return [*self._release_partial(), unit]
        out: list[Unit] = []
        for span in self._cutter.feed(unit.payload):
            if not self._chosen(span):
                out.append(Data(span.payload))
            elif self._collect(span) is not None:
                self.felt = self.felt or f"dropped a {span.opcode} frame"
        return out

    def drain(self, now: float) -> list[Unit]:
        return self._release_partial()


class DelayFramesMachine(_FrameMachine, does=[DelayFrames]):
    """Delays frames of some opcodes; what is behind them waits, too, since a TCP stream keeps its order."""

    def __init__(self, settings: DelayFrames, place: Place) -> None:
        super().__init__(settings, place)
        self._delay_s = settings.delay_s
        self._queue: deque[tuple[float, Unit]] = deque()

    def feed(self, now: float, unit: Unit) -> list[Unit]:
        if not isinstance(unit, Data):
            return self._pass(now, *self._release_partial(), unit)
        out: list[Unit] = []
        for span in self._cutter.feed(unit.payload):
            if not self._chosen(span):
                out += self._pass(now, Data(span.payload))
                continue
            frame = self._collect(span)
            if frame is not None:
                self.felt = self.felt or f"delayed a {span.opcode} frame"
                self._queue.append((now + self._delay_s, Data(frame)))
                self.held_bytes += len(frame)
        return out

    def _pass(self, now: float, *units: Unit) -> list[Unit]:
        if not self._queue:
            return list(units)
        for unit in units:
            self._queue.append((self._queue[-1][0], unit))
            self.held_bytes += size(unit)
        return []

    def wake_at(self) -> float | None:
        return self._queue[0][0] if self._queue else None

    def wake(self, now: float) -> list[Unit]:
        out = []
        while self._queue and self._queue[0][0] <= now:
            unit = self._queue.popleft()[1]
            self.held_bytes -= size(unit)
            out.append(unit)
        return out

    def drain(self, now: float) -> list[Unit]:
        return [*self.wake(float("inf")), *self._release_partial()]


def describe(unit: Unit) -> str:
    """Return what a unit is, as text for people."""
    if isinstance(unit, Data):
        return f"{len(unit.payload)} bytes"
    return "a FIN" if isinstance(unit, Fin) else "an RST"
