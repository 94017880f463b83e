"""The machines of faults that hold or discard: stall, blackhole, and faults on WebSocket frames and messages."""

from __future__ import annotations

from collections import deque

from chaos.faults.machine import Machine, Place, QueueMachine
from chaos.faults.units import Data, Fin, Unit, size
from chaos.vocabulary.faults import Blackhole, DelayFrames, DropFrames, Stall
from chaos.wire.frames import DATA_OPCODES, Span

# How much a stalled path takes before its sender feels it: enough to see the sender's own FIN behind its data.
STALL_CAPACITY_BYTES = 4 * 1024 * 1024
# How much of a frame is collected before it is delayed: of a larger one the parts are, each by itself.
PARTIAL_BYTES_MAX = 1024 * 1024


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
    """Tells which frames are chosen: control frames by their own opcode, the others by that of their message.

    A message in fragments (RFC 6455 §5.4) is chosen whole or not at all, since a receiver fails a connection on
    fragments without their beginning. The opcode `continuation` chooses every message that is in fragments.
    """

    capacity_bytes = STALL_CAPACITY_BYTES

    def __init__(self, settings: DropFrames | DelayFrames, place: Place) -> None:
        super().__init__(settings, place)
        self._opcodes = frozenset(settings.opcodes)
        self._cutter = place.cutter
        # of the message and of the frame under way; what began before this machine was added goes on untouched
        self._has_message = self._has_frame = False

    def _chooses(self, span: Span) -> bool:
        """Tell whether a span is of a frame that is chosen; spans must come in order."""
        if span.begins:
            if span.opcode in ("text", "binary"):
                in_fragments = not span.is_final and "continuation" in self._opcodes
                self._has_message = span.opcode in self._opcodes or in_fragments
            is_data = span.opcode in DATA_OPCODES
            self._has_frame = self._has_message if is_data else span.opcode in self._opcodes
        return self._has_frame


class DropFramesMachine(_FrameMachine, does=[DropFrames]):
    """Drops whole messages and control frames of some opcodes.

    What is dropped is held until it is whole, so that removal never leaves half of it behind. A message that is too
    large to be held passes.
    """

    def __init__(self, settings: DropFrames, place: Place) -> None:
        super().__init__(settings, place)
        self._held: list[bytes] = []  # of the message under way
        self._opcode: str | None = None  # its opcode
        self._held_control: list[bytes] = []  # of the control frame under way

    def feed(self, now: float, unit: Unit) -> list[Unit]:
        if not isinstance(unit, Data):
            return [*self._release(), unit]
        out: list[Unit] = []
        for span in self._cutter.feed(unit.payload):
            is_chosen = self._chooses(span)
            if is_chosen and span.opcode in DATA_OPCODES:
                out += self._take_data(span)
            elif is_chosen or self._held or self._held_control:
                out += self._take_control(span, is_chosen=is_chosen)
            else:
                out.append(Data(span.payload))
        return out

    def _take_data(self, span: Span) -> list[Unit]:
        if span.begins and span.opcode != "continuation":
            self._opcode = span.opcode
        self._held.append(span.payload)
        self.held_bytes += len(span.payload)
        if span.ends and span.is_final:
            self.felt = self.felt or f"dropped a {self._opcode} frame"
            self._forget(self._held)
        elif self.held_bytes >= self.capacity_bytes:
            self._has_message = self._has_frame = False
            return self._release()
        return []

    def _take_control(self, span: Span, *, is_chosen: bool) -> list[Unit]:
        """Hold a control frame until it is whole: one that passes, too, lest held fragments come inside it."""
        self._held_control.append(span.payload)
        self.held_bytes += len(span.payload)
        if not span.ends:
            return []
        frame = b"".join(self._held_control)
        self._forget(self._held_control)
        if is_chosen:
            self.felt = self.felt or f"dropped a {span.opcode} frame"
            return []
        return [Data(frame)]

    def _forget(self, held: list[bytes]) -> None:
        self.held_bytes -= sum(map(len, held))
        held.clear()

    def _release(self) -> list[Unit]:
        """Return what is held, in order: a control frame under way came behind the fragments."""
        rest = b"".join([*self._held, *self._held_control])
        self._forget(self._held)
        self._forget(self._held_control)
        return [Data(rest)] if rest else []

    def drain(self, now: float) -> list[Unit]:
        return self._release()


class DelayFramesMachine(_FrameMachine, does=[DelayFrames]):
    """Delays frames of some opcodes; what is behind them waits, too, since a TCP stream keeps its order."""

    def __init__(self, settings: DelayFrames, place: Place) -> None:
        super().__init__(settings, place)
        self._delay_s = settings.delay_s
        self._queue: deque[tuple[float, Unit]] = deque()
        self._partial: list[bytes] = []  # of the frame under way
        self._partial_bytes = 0

    def feed(self, now: float, unit: Unit) -> list[Unit]:
        if not isinstance(unit, Data):
            return self._pass(now, *self._release_partial(), unit)
        out: list[Unit] = []
        for span in self._cutter.feed(unit.payload):
            if self._chooses(span):
                self._take(now, span)
            else:
                out += self._pass(now, Data(span.payload))
        return out

    def _take(self, now: float, span: Span) -> None:
        """Hold a frame back once it is whole, or as large as what may be held of it."""
        self._partial.append(span.payload)
        self._partial_bytes += len(span.payload)
        self.held_bytes += len(span.payload)
        if span.ends or self._partial_bytes >= PARTIAL_BYTES_MAX:
            self.felt = self.felt or f"delayed a {span.opcode} frame"
            for unit in self._release_partial():
                self._queue.append((now + self._delay_s, unit))
                self.held_bytes += size(unit)

    def _release_partial(self) -> list[Unit]:
        rest = b"".join(self._partial)
        self._partial.clear()
        self._partial_bytes = 0
        self.held_bytes -= len(rest)
        return [Data(rest)] if rest else []

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
