"""One direction of a connection: what its source sends goes through its pipe to its target.

Bytes are delivered at once where the target takes them; a task writes what has to wait for the target. What leaves
the pipe later is delivered by a call. Where the ends can be watched, reading is done by calls too; elsewhere a task
reads. Bytes that nothing acts on go beside the pipe, and large amounts that nobody observes stay in the kernel.

A direction decides nothing about ends of streams: it reports each to its owner, which asks the table of endings.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from typing import Protocol

import trio

from chaos.faults.pipe import Pipe, Stage
from chaos.faults.units import Cut, Data, Fin, Rst, Timed, Unit, size
from chaos.link.endings import PASSED, READ, SIDES, Ending
from chaos.link.ends import BULK_READ_BYTES, READ_BYTES, End, KernelEnd, WatchableEnd
from chaos.link.poller import Caller, PendingCall
from chaos.link.splice import AVAILABLE, Stopped, splice
from chaos.link.transcript import Transcript
from chaos.trace import Side, Stream
from chaos.vocabulary.faults import Blackhole

# what is read ahead of a target that takes no more: enough to learn soon that a quiet source has ended
BACKLOG_BYTES = 256 * 1024
_NO_WAY_THROUGH = Stage(key="no way through", settings=Blackhole())


class Owner(Protocol):
    """What a direction asks of the connection that it belongs to."""

    caller: (
        Caller | None
    )  # None before the connection runs, and afterwards: then nothing is delivered

    def start(self, task: Callable[[], Awaitable[None]]) -> None:
        """Run a task until the connection is over, and not at all if it is over."""

    def fail(self, error: Exception) -> None:
        """End the connection for a mistake of ours."""

    def note_read(self, stream: Stream, ending: Ending) -> Fin | Rst | None:
        """Note that a stream's source has ended; return what enters the pipe for it."""

    def end(self, stream: Stream, ending: Ending) -> None:
        """Do what follows from an ending: tell both sides, and end the connection if it is over."""

    def is_cut_off(self, stream: Stream) -> bool:
        """Return whether the connection is over once nothing of a stream is on its way."""
        ...

    def end_if_over(self) -> None:
        """End the connection if nothing can be delivered any more."""


@dataclass(slots=True)
class Parcel:
    """A unit to deliver, without its first `taken` bytes, which are delivered. `observed` once the trace has it."""

    unit: Unit
    observed: bool = False
    taken: int = 0

    @property
    def payload(self) -> bytes | memoryview:
        """The bytes of this unit that are still to be delivered."""
        assert isinstance(self.unit, Data)
        return memoryview(self.unit.payload)[self.taken :] if self.taken else self.unit.payload


class Outbox:
    """What has left the pipe of one direction and is still to be delivered, in order."""

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
        """The parcel to deliver next."""
        return self._parcels[0]

    def take(self) -> Parcel:
        """Remove and return the parcel to deliver next."""
        parcel = self._parcels.popleft()
        self.held_bytes -= size(parcel.unit) - parcel.taken
        return parcel

    def shorten(self, taken: int) -> None:
        """Leave out the next bytes of the first parcel: they are delivered."""
        self.first.taken += taken
        self.held_bytes -= taken


class Direction:
    """Moves the bytes of one stream. Its owner runs its tasks and closes both ends."""

    __slots__ = (
        "_has_changed",
        "_is_observed",
        "_is_writing",
        "_owner",
        "_pending",
        "_read_bytes",
        "_read_on",
        "_source",
        "_source_side",
        "_swallows",
        "_target",
        "_target_side",
        "_transcript",
        "outbox",
        "pipe",
        "stream",
    )

    def __init__(
        self,
        *,
        stream: Stream,
        source: End,
        target: End,
        pipe: Pipe,
        transcript: Transcript,
        owner: Owner,
    ) -> None:
        self.stream: Stream = stream
        self.pipe = pipe
        self.outbox = Outbox()
        self._source = source
        self._target = target
        self._source_side: Side
        self._target_side: Side
        self._source_side, self._target_side = SIDES[stream]
        self._transcript = transcript
        self._is_observed = transcript.observes
        self._owner = owner
        self._is_writing = False  # a task delivers what is in the outbox
        self._has_changed = False  # while it did
        self._read_on: Callable[[], None] | None = None  # what a reader that holds back waits for
        self._pending: PendingCall | None = None
        self._read_bytes = READ_BYTES
        self._swallows = False  # nothing gets through, whatever else acts on this stream

    @property
    def held_bytes(self) -> int:
        """How many bytes have left the pipe that the target has not taken yet."""
        return self.outbox.held_bytes + self.pipe.leaving_bytes

    @property
    def is_full(self) -> bool:
        """Whether the source should be left unread for now (back-pressure)."""
        return self.held_bytes >= BACKLOG_BYTES or self.pipe.full

    @property
    def is_empty(self) -> bool:
        """Whether nothing is on its way."""
        return not self.outbox and self.pipe.empty

    # reading

    async def read(self) -> None:
        """Pass on what the source sends, until its end. Cancelling loses nothing."""
        while True:
            while self.is_full:
                room = trio.Event()
                self._read_on = room.set
                await room.wait()
            count = self._take(await self._source.receive(self._read_bytes))
            if not count:
                return
            if self._may_splice(count):
                await self._splice()

    def watch(self, caller: Caller) -> bool:
        """Have what the source sends passed on by calls; False if the source cannot be watched."""
        if not isinstance(self._source, WatchableEnd):
            return False
        self._source.watch(caller, self._read_now)
        return True

    def stop_calls(self) -> None:
        """Have no more calls made."""
        if isinstance(self._source, WatchableEnd):
            self._source.unwatch()
        if self._pending is not None:
            self._pending.cancel()

    def _watch_again(self) -> None:
        if self._owner.caller is not None:
            self.watch(self._owner.caller)

    def _read_now(self) -> None:
        source = self._source
        assert isinstance(source, WatchableEnd)
        try:
            if self.is_full:
                source.unwatch()
                self._read_on = self._watch_again
                return
            try:
                unit = source.receive_now(self._read_bytes)
            except BlockingIOError:
                return
            if not isinstance(unit, Data):
                # first, since what follows from the end may close the source, and that is read as one more end
                source.unwatch()
            count = self._take(unit)
            if count and self._may_splice(count):
                source.unwatch()
                self._owner.start(self._splice_and_watch)
        except Exception as error:
            self._owner.fail(error)

    def _take(self, unit: Data | Fin | Rst | None) -> int:
        """Pass on what was read from the source; return how many bytes that was: with none the stream is over."""
        if not isinstance(unit, Data):
            self._take_end(unit)
            return 0
        count = len(unit.payload)
        if not self._bypass_pipe(unit):
            self._put_in(unit)
        bulk = count >= READ_BYTES and not self._is_observed and self.pipe.takes_bulk
        self._read_bytes = BULK_READ_BYTES if bulk else READ_BYTES
        return count

    def _take_end(self, unit: Fin | Rst | None) -> None:
        entering = self._owner.note_read(self.stream, READ[unit])
        if entering is not None:
            self._put_in(entering)
            self._owner.end_if_over()

    def _put_in(self, unit: Data | Fin | Rst) -> None:
        """Put a unit that was read into the pipe, and pass on what leaves it."""
        self._transcript.observe(self.stream, self._source_side, unit)
        self.pipe.feed(trio.current_time(), unit)
        self.pass_on()

    def _bypass_pipe(self, unit: Data) -> bool:
        """Deliver bytes beside a pipe that does nothing with them; False if it may do something."""
        payload = unit.payload
        if not self._is_clear():
            return False
        if self._is_observed:
            if not self.pipe.bypass(payload):
                return False
            self._transcript.observe_both(self.stream, unit)
        elif not self.pipe.transparent:
            return False
        taken = self._target.send_now(payload)
        if taken is None:
            self._owner.end(self.stream, Ending.TARGET_LOST)
        elif taken < len(payload):
            self.outbox.add_rest(unit, taken)
            self._start_writing()
        return True

    def _is_clear(self) -> bool:
        """Whether nothing has left the pipe that is not delivered, and both ends are open."""
        return not (self._is_writing or self.outbox or self._source.closed or self._target.closed)

    # moving bytes in the kernel

    def _may_bypass_python(self) -> bool:
        """Whether no byte need be seen: neither those to come nor those on their way."""
        return not self._is_observed and self._is_clear() and self.pipe.transparent

    def _may_splice(self, count: int) -> bool:
        return (
            AVAILABLE
            and count >= READ_BYTES
            and isinstance(self._source, KernelEnd)
            and isinstance(self._target, KernelEnd)
            and self._may_bypass_python()
        )

    async def _splice_and_watch(self) -> None:
        await self._splice()
        self._watch_again()

    async def _splice(self) -> None:
        """Have the kernel move the bytes until something here needs to see them, or no more come."""
        source, target = self._source, self._target
        assert isinstance(source, KernelEnd)
        assert isinstance(target, KernelEnd)
        stopped = await splice(source, target, may_go_on=self._may_bypass_python)
        if stopped is Stopped.SOURCE_LOST:
            source.note_reset()
        elif stopped is Stopped.TARGET_LOST:
            target.note_reset()
            self._owner.end(self.stream, Ending.TARGET_LOST)

    # delivering

    def replace(self, stages: Iterable[Stage]) -> None:
        """Change what acts on this stream; takes effect at once."""
        last = [_NO_WAY_THROUGH] if self._swallows else []
        self.pipe.replace(trio.current_time(), [*stages, *last])
        self.look_soon()

    def swallow(self) -> None:
        """Let nothing that is sent from now on through, whatever else acts on this stream."""
        self._swallows = True
        self.pipe.replace(trio.current_time(), [_NO_WAY_THROUGH])

    def swallow_no_more(self) -> None:
        """Take back what `swallow` has put in force, from the next `replace` on: what it has met stays dead."""
        self._swallows = False

    def feed(self, unit: Unit) -> None:
        """Put a unit into the pipe as if the source had sent it now."""
        self.pipe.feed(trio.current_time(), unit)
        self.look_soon()

    def look_soon(self) -> None:
        """Have what has changed looked at soon; before the connection runs nothing is done."""
        if self._owner.caller is not None:
            self._owner.caller.call_soon(self._look)

    def _look(self) -> None:
        """Deliver what has left the pipe by now; the caller calls this."""
        try:
            if self._owner.caller is not None:
                self.pass_on()
                self._settle()
        except Exception as error:
            self._owner.fail(error)

    def pass_on(self) -> None:
        """Deliver at once what has left the pipe, as far as the socket takes it; a task writes the rest.

        Most units leave a pipe as they come, and most sockets have room: then no other task need be woken.
        """
        if self._is_writing:
            self._has_changed = True
            return
        self.outbox.add(self.pipe.advance(trio.current_time()))
        while self.outbox and self._deliver_now():
            self.outbox.take()
        self._tell_felt()
        if self.outbox:
            self._start_writing()
        else:
            self._look_when_due()

    def _deliver_now(self) -> bool:
        """Deliver the first parcel without waiting; return False if a task must go on with it."""
        parcel = self.outbox.first
        unit = parcel.unit
        if not isinstance(unit, Data):
            self._deliver_end(unit)
            return True
        if self._target.closed:
            return True
        self._observe_parcel(parcel)
        payload = parcel.payload
        taken = self._target.send_now(payload)
        if taken is None:
            self._owner.end(self.stream, Ending.TARGET_LOST)
        elif taken < len(payload):
            self.outbox.shorten(taken)
            return False
        return True

    def _observe_parcel(self, parcel: Parcel) -> None:
        """Record what is delivered before it is sent, since the peer may act on it before this task runs again."""
        if not parcel.observed:
            self._transcript.observe(self.stream, self._target_side, parcel.unit)
            parcel.observed = True

    def _deliver_end(self, unit: Fin | Rst | Cut) -> None:
        """Deliver what ends the stream or cuts the connection; that never has to wait."""
        if isinstance(unit, Cut):
            self._tell_felt()  # the cause comes before the effect
        self._owner.end(self.stream, PASSED[unit])

    def _tell_felt(self) -> None:
        """Record which stages have touched something for the first time."""
        for key, how in self.pipe.felt():
            self._transcript.felt(self.stream, key, how)

    def _look_when_due(self) -> None:
        """Have what leaves the pipe later delivered then."""
        caller, wake_at_s = self._owner.caller, self.pipe.wake_at()
        if caller is None or wake_at_s is None:
            return
        if self._pending is None or wake_at_s < self._pending.at_s:
            if self._pending is not None:
                self._pending.cancel()
            self._pending = caller.call_at(wake_at_s, self._look_at_due)

    def _look_at_due(self) -> None:
        self._pending = None
        self._look()

    def _settle(self) -> None:
        if self._owner.is_cut_off(self.stream):
            self._owner.end_if_over()
        # not before all is delivered: bulk can then go on beside the pipe
        if self._read_on is not None and not self.held_bytes and not self.pipe.full:
            read_on, self._read_on = self._read_on, None
            read_on()

    def _start_writing(self) -> None:
        if self._owner.caller is not None:
            self._is_writing = True
            self._owner.start(self._write)

    async def _write(self) -> None:
        """Deliver what is in the outbox, and what leaves the pipe meanwhile."""
        while True:
            self._has_changed = False
            self.outbox.add(self.pipe.advance(trio.current_time()))
            while self.outbox:
                await self._deliver(self.outbox.take())
            self._tell_felt()
            self._settle()
            if not self._has_changed:
                break
            await trio.lowlevel.checkpoint()
        self._is_writing = False
        self._look_when_due()

    async def _deliver(self, parcel: Parcel) -> None:
        unit = parcel.unit
        if not isinstance(unit, Data):
            self._deliver_end(unit)
        elif not self._target.closed:
            self._observe_parcel(parcel)
            if not await self._target.send(parcel.payload):
                self._owner.end(self.stream, Ending.TARGET_LOST)
