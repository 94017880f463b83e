"""Toxiproxy's eight toxics as machines, after toxiproxy 2.12.0 (`toxics/*.go`, `link.go`).

Deliberate differences, each a defect of the original that users reported or that was measured:

* chained latencies add up (the original's timestamps drift under load);
* a machine is not disturbed when its neighbour is edited (the original interrupts the toxic before it);
* removal loses no byte (the original drops chunks after 5 s of a slow reader);
* `reset_peer` sends an RST on connections older than itself, and a toxic that was not drawn touches nothing;
* `slicer` ends for every setting (the original overflows its stack on average_size 0).
"""

from __future__ import annotations

from collections import deque
from random import Random

from chaos.faults.machine import CAPACITY_BYTES, Machine, Place, QueueMachine
from chaos.faults.units import Cut, Data, Unit, size
from chaos.vocabulary.toxics import (
    Bandwidth,
    Latency,
    LimitData,
    ResetPeer,
    Slicer,
    SlowClose,
    Timeout,
)

# What is on its way at 50 ms and 1.3 GB/s. The original's buffer is half of it (toxics/latency.go, GetBufferSize:
# 1024 chunks of 32 KiB), which caps what passes: at 50 ms 670 MB/s, at a second 34 MB/s.
LATENCY_CAPACITY_BYTES = 64 * 1024 * 1024
# of a fast stream, so much is held that a late timer still finds something to send
BANDWIDTH_AHEAD_MS = 20
_NEVER_DUE = float("-inf")


class LatencyMachine(Machine, does=[Latency]):
    """Delays units in order: each leaves at its own deadline or with its predecessor, whichever is later."""

    capacity_bytes = LATENCY_CAPACITY_BYTES
    takes_bulk = True

    def __init__(self, settings: Latency, place: Place) -> None:
        super().__init__(settings, place)
        self._settings = settings
        self._rng = place.rng
        self._queue: deque[tuple[float, float, Unit]] = deque()  # (arrived, due, unit)
        self._last_due = _NEVER_DUE

    def _delay_s(self) -> float:
        delay_ms = self._settings.latency
        if self._settings.jitter > 0:
            delay_ms += self._rng.randrange(-self._settings.jitter, self._settings.jitter)
        return max(0, delay_ms) / 1000

    def _due_at(self, arrived: float, unit: Unit) -> float:
        own = arrived + self._delay_s() if isinstance(unit, Data) else arrived
        self._last_due = max(self._last_due, own)
        return self._last_due

    def feed(self, now: float, unit: Unit) -> list[Unit]:
        due = self._due_at(now, unit)
        if due <= now and not self._queue:
            return [unit]
        self.felt = self.felt or "delayed"
        self._queue.append((now, due, unit))
        self.held_bytes += size(unit)
        return []

    def wake_at(self) -> float | None:
        return self._queue[0][1] if self._queue else None

    def wake(self, now: float) -> list[Unit]:
        out = []
        while self._queue and self._queue[0][1] <= now:
            out.append(self._pop())
        return out

    def _pop(self) -> Unit:
        unit = self._queue.popleft()[2]
        self.held_bytes -= size(unit)
        return unit

    def update(self, now: float, settings: Latency) -> list[Unit]:
        """Release the oldest chunk at once, as the original does; time the others anew from their arrival."""
        self._settings = settings
        out = [self._pop()] if self._queue else []
        self._last_due = now
        waiting = list(self._queue)
        self._queue.clear()
        for arrived, _, unit in waiting:
            self._queue.append((arrived, max(now, self._due_at(arrived, unit)), unit))
        return [*out, *self.wake(now)]

    def drain(self, now: float) -> list[Unit]:
        """Return everything that is held, in order, at once."""
        return [self._pop() for _ in range(len(self._queue))]


class BandwidthMachine(QueueMachine, does=[Bandwidth]):
    """Stores and forwards: a chunk of n bytes takes n / rate, in pieces of 100 ms. Idle time earns no credit."""

    def __init__(self, settings: Bandwidth, place: Place) -> None:
        super().__init__(settings, place)
        self._rate = settings.rate  # KB/s is bytes per millisecond
        self.capacity_bytes = max(CAPACITY_BYTES, self._rate * BANDWIDTH_AHEAD_MS)
        self._rest = b""  # of the chunk that is being sent
        self._due_s: float | None = None

    def feed(self, now: float, unit: Unit) -> list[Unit]:
        if self._due_s is None and not self.queue and self._rate and not isinstance(unit, Data):
            return [unit]
        self.felt = self.felt or "paced"
        self.hold(unit)
        return self._begin(now) if self._due_s is None else []

    def _begin(self, now: float) -> list[Unit]:
        """Start on the next chunk; ends of stream in front of it leave now."""
        out: list[Unit] = []
        while self._rate and self.queue:
            unit = self.release()
            if isinstance(unit, Data):
                self._rest = unit.payload
                self.held_bytes += len(self._rest)
                self._schedule(now)
                break
            out.append(unit)
        return out

    def _schedule(self, now: float) -> None:
        self._due_s = now + min(100.0, len(self._rest) / self._rate) / 1000

    def wake_at(self) -> float | None:
        return self._due_s

    def wake(self, now: float) -> list[Unit]:
        piece, self._rest = self._rest[: self._rate * 100], self._rest[self._rate * 100 :]
        self.held_bytes -= len(piece)
        if self._rest:
            self._schedule(now)
            return [Data(piece)]
        self._due_s = None
        return [Data(piece), *self._begin(now)]

    def _release_chunk(self) -> list[Unit]:
        rest, self._rest, self._due_s = self._rest, b"", None
        self.held_bytes -= len(rest)
        return [Data(rest)] if rest else []

    def update(self, now: float, settings: Bandwidth) -> list[Unit]:
        """Release what is left of the current chunk at once and pace the rest anew."""
        out = self._release_chunk()
        self._rate = settings.rate
        self.capacity_bytes = max(CAPACITY_BYTES, self._rate * BANDWIDTH_AHEAD_MS)
        return [*out, *self._begin(now)]

    def drain(self, now: float) -> list[Unit]:
        """Return everything that is held, in order, at once."""
        return [*self._release_chunk(), *super().drain(now)]


class SlowCloseMachine(QueueMachine, does=[SlowClose]):
    """Holds the end of the stream back for a while."""

    def __init__(self, settings: SlowClose, place: Place) -> None:
        super().__init__(settings, place)
        self._delay_s = settings.delay / 1000
        self._due_s: float | None = None

    def feed(self, now: float, unit: Unit) -> list[Unit]:
        if isinstance(unit, Data):
            return [unit]
        self.felt = self.felt or "held the end of stream"
        self.hold(unit)
        self._due_s = now + self._delay_s
        return []

    def wake_at(self) -> float | None:
        return self._due_s

    def wake(self, now: float) -> list[Unit]:
        self._due_s = None
        return self.drain(now)

    def update(self, now: float, settings: SlowClose) -> list[Unit]:
        """Start the delay anew."""
        self._delay_s = settings.delay / 1000
        if self._due_s is not None:
            self._due_s = now + self._delay_s
        return []


class TimeoutMachine(Machine, does=[Timeout]):
    """Discards data. Closes the connection after `timeout` without data, and when it is removed."""

    def __init__(self, settings: Timeout, place: Place) -> None:
        super().__init__(settings, place)
        self._idle_s = settings.timeout / 1000
        self._closed = False
        self._since = place.now_s

    def feed(self, now: float, unit: Unit) -> list[Unit]:
        self.felt = self.felt or "discarded"
        if isinstance(unit, Data):
            self._since = now
            return []
        return self._close()

    def _close(self) -> list[Unit]:
        if self._closed:
            return []
        self._closed = True
        return [Cut()]

    def wake_at(self) -> float | None:
        return self._since + self._idle_s if self._idle_s > 0 and not self._closed else None

    def wake(self, now: float) -> list[Unit]:
        self.felt = self.felt or "closed an idle connection"
        return self._close()

    def update(self, now: float, settings: Timeout) -> list[Unit]:
        """Start the timer anew."""
        self._idle_s = settings.timeout / 1000
        self._since = now
        return []

    def drain(self, now: float) -> list[Unit]:
        """Close: bytes are missing, so the stream cannot go on (toxics/timeout.go, Cleanup)."""
        return self._close()


class ResetPeerMachine(Machine, does=[ResetPeer]):
    """Discards the first bytes or the end of its stream and all that follows, and resets both peers after a wait."""

    def __init__(self, settings: ResetPeer, place: Place) -> None:
        super().__init__(settings, place)
        self._wait_s = settings.timeout / 1000
        self._due_s: float | None = None
        self._done = False

    def feed(self, now: float, unit: Unit) -> list[Unit]:
        if self._due_s is not None or self._done:
            return []
        self.felt = self.felt or "reset"
        self._due_s = now + self._wait_s
        return self.wake(now) if self._wait_s == 0 else []

    def wake_at(self) -> float | None:
        return self._due_s

    def wake(self, now: float) -> list[Unit]:
        self._due_s = None
        self._done = True
        return [Cut(rst=True)]

    def update(self, now: float, settings: ResetPeer) -> list[Unit]:
        """Take the new wait for a reset that has not been triggered; one that has goes on."""
        self._wait_s = settings.timeout / 1000
        return []

    def drain(self, now: float) -> list[Unit]:
        """Finish a reset that has discarded something: the stream has a hole and must not go on."""
        return self.wake(now) if self._due_s is not None else []


class SlicerMachine(QueueMachine, does=[Slicer]):
    """Cuts chunks by recursive halving; each piece leaves by itself, `delay` after the one before."""

    def __init__(self, settings: Slicer, place: Place) -> None:
        super().__init__(settings, place)
        self._settings = settings
        self._rng = place.rng
        self._due_s: float | None = None

    def feed(self, now: float, unit: Unit) -> list[Unit]:
        for piece in self._slice(unit):
            self.hold(piece)
        return self.wake(now) if self._due_s is None else []

    def _slice(self, unit: Unit) -> list[Unit]:
        if not isinstance(unit, Data) or self._settings.average_size <= 0:
            return [unit]
        pieces = slice_chunk(
            unit.payload, self._settings.average_size, self._settings.size_variation, self._rng
        )
        if len(pieces) > 1 or self._settings.delay:
            self.felt = self.felt or "sliced"
        return [Data(piece) for piece in pieces]

    def wake_at(self) -> float | None:
        return self._due_s

    def wake(self, now: float) -> list[Unit]:
        out: list[Unit] = []
        self._due_s = None
        while self.queue and self._due_s is None:
            unit = self.release()
            out.append(unit)
            if self._settings.delay > 0 and isinstance(unit, Data):
                self._due_s = now + self._settings.delay / 1e6
        return out

    def update(self, now: float, settings: Slicer) -> list[Unit]:
        """Release the pieces that wait at once (the original emits the rest of the chunk as one piece)."""
        self._settings = settings
        return self.drain(now)

    def drain(self, now: float) -> list[Unit]:
        self._due_s = None
        return super().drain(now)


class LimitDataMachine(Machine, does=[LimitData]):
    """Lets `bytes` through and closes the connection then. The count survives updates."""

    def __init__(self, settings: LimitData, place: Place) -> None:
        super().__init__(settings, place)
        self._limit = settings.bytes
        self._passed = 0
        self._closed = False

    def feed(self, now: float, unit: Unit) -> list[Unit]:
        if self._closed:
            return []
        if not isinstance(unit, Data):
            return [unit]
        payload = unit.payload[: max(0, self._limit - self._passed)]
        self._passed += len(payload)
        out: list[Unit] = [Data(payload)] if payload else []
        if self._passed >= self._limit:
            self.felt = self.felt or "closed at the limit"
            self._closed = True
            out.append(Cut())
        return out

    def update(self, now: float, settings: LimitData) -> list[Unit]:
        """Take the new limit; one below the count closes with the next chunk."""
        self._limit = settings.bytes
        return []


def slice_chunk(payload: bytes, average: int, variation: int, rng: Random) -> list[bytes]:
    """Cut a chunk as toxics/slicer.go does: halve until a piece is at most average + variation.

    Ends for every setting: a variation of the average or more is taken as average − 1, and each cut leaves at
    least one byte on either side.
    """
    variation = max(0, min(variation, average - 1))
    pieces: list[bytes] = []
    waiting = [(0, len(payload))]
    while waiting:
        start, end = waiting.pop()
        if end - start - average <= variation:
            pieces.append(payload[start:end])
            continue
        middle = start + (end - start) // 2
        if variation > 0:
            middle += rng.randrange(-variation, variation)
        middle = min(max(middle, start + 1), end - 1)
        waiting.append((middle, end))
        waiting.append((start, middle))
    return pieces
