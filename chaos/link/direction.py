"""One direction of a connection: what its source sends goes through its pipe to its target.

A reader takes in what comes and delivers at once what the target takes. A writer does what has to wait: it is started
when there is first something to wait for, and most connections never need one. With a caller there is no task that
reads, and none that waits for the time of a toxic: functions are called.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import trio

from chaos.faults.pipe import Pipe
from chaos.faults.units import Cut, Data, Fin, Rst, Unit
from chaos.link.ends import BULK_READ_BYTES, READ_BYTES, BareEnd, End
from chaos.link.kernel_end import KernelEnd
from chaos.link.outbox import Outbox, Parcel
from chaos.link.splice import AVAILABLE, Stopped, splice
from chaos.trace import Side, Stream

if TYPE_CHECKING:
    from chaos.link.caller import Timer
    from chaos.link.connection import Connection

SIDES: dict[Stream, tuple[Side, Side]] = {
    "upstream": ("client", "server"),
    "downstream": ("server", "client"),
}
# what is read ahead of a target that takes no more: enough to learn soon that a quiet source has ended
BACKLOG_BYTES = 256 * 1024


class Direction:
    """One of the two of a connection, which owns it, its tasks and both ends."""

    def __init__(
        self, *, stream: Stream, source: End, target: End, pipe: Pipe, connection: Connection
    ) -> None:
        self.stream: Stream = stream
        self.pipe = pipe
        self.source = source
        self.target = target
        self.source_side: Side
        self.target_side: Side
        self.source_side, self.target_side = SIDES[stream]
        self.left = Outbox()
        self.fin_passed = False
        self.ended = False  # its reader has met the end
        self.cut_off = False  # it ends with what is still in its pipe
        self._connection = connection
        self._changed: trio.Event | None = None  # its writer's, if it has one
        self._idle = True  # its writer waits, or is not needed yet
        self._go_on: Callable[[], None] | None = None  # what a reader that holds back waits for
        self._timer: Timer | None = None
        self._at_most = READ_BYTES

    @property
    def held_bytes(self) -> int:
        """How many bytes have left the pipe that the target has not taken yet."""
        return self.left.held_bytes + self.pipe.leaving_bytes

    @property
    def full(self) -> bool:
        """Whether the source should be left unread for now (back-pressure)."""
        return self.held_bytes >= BACKLOG_BYTES or self.pipe.full

    @property
    def drained(self) -> bool:
        """Whether its end has come and nothing is on its way any more."""
        return self.ended and not self.fin_passed and not self.left and self.pipe.empty

    @property
    def has_writer(self) -> bool:
        """Whether a task of it may wait to be told of changes."""
        return self._changed is not None

    async def read(self) -> None:
        """Take in what the source sends, until its end. Cancelling loses nothing."""
        while True:
            while self.full:
                room = trio.Event()
                self._go_on = room.set
                await room.wait()
            size = self._take_in(await self.source.receive(self._at_most))
            if not size:
                return
            if self._is_for_kernel(size):
                await self._splice()

    def watch(self) -> None:
        """Have what the source sends taken in by calls."""
        assert self._connection.caller is not None
        assert isinstance(self.source, BareEnd)
        self.source.watch(self._connection.caller, self._readable)

    def unwatch(self) -> None:
        """Have no more calls."""
        if isinstance(self.source, BareEnd):
            self.source.unwatch()
        if self._timer is not None:
            self._timer.cancel()

    def _readable(self) -> None:
        source = self.source
        assert isinstance(source, BareEnd)
        try:
            if self.full:
                source.unwatch()
                self._go_on = self.watch
                return
            try:
                unit = source.receive_now(self._at_most)
            except BlockingIOError:
                return
            size = self._take_in(unit)
            if not size:
                source.unwatch()
            elif self._is_for_kernel(size):
                source.unwatch()
                self._connection.start(self._splice_and_watch)
        except Exception as error:
            self._connection.fail(error)

    def _take_in(self, unit: Unit | None) -> int:
        """Take in what the source has sent; return how many bytes that was: with none it is over."""
        connection = self._connection
        if connection.closes_fully and not isinstance(unit, Data):
            unit = Fin()  # also for a socket that we closed ourselves
        if unit is None:
            return 0
        size = len(unit.payload) if isinstance(unit, Data) else 0
        by = isinstance(unit, Data) and self._passes_by(unit)
        if not by:
            connection.observe(self.stream, self.source_side, unit)
            self.pipe.feed(trio.current_time(), unit)
        if not size:
            self.ended = True
            self.pass_on()
            if not self.fin_passed:
                self.tell()  # its writer stays until the end comes out
            connection.finish_if_over()
        elif not by:
            self.pass_on()
        bulk = size >= READ_BYTES and not connection.is_observed and self.pipe.takes_bulk
        self._at_most = BULK_READ_BYTES if bulk else READ_BYTES
        return size

    def _passes_by(self, unit: Data) -> bool:
        """Deliver bytes beside a pipe that does nothing with them; False if it does."""
        connection, payload = self._connection, unit.payload
        if not self._clear():
            return False
        if connection.is_observed:
            if not self.pipe.lets_by(payload):
                return False
            connection.observe_both(self.stream, SIDES[self.stream], unit)
        elif not self.pipe.transparent:
            return False
        taken = self.target.send_now(payload)
        if taken is None:
            connection.lose(self)
        elif taken < len(payload):
            self.left.add_rest(unit, taken)
            self._need_writer()
        return True

    def _clear(self) -> bool:
        """Whether nothing is on its way, and both ends are open."""
        return self._idle and not self.left and not self.source.closed and not self.target.closed

    def _bare(self) -> bool:
        """Whether nobody here needs to see the bytes: not now, and not those on their way."""
        return not self._connection.is_observed and self._clear() and self.pipe.transparent

    def _is_for_kernel(self, size: int) -> bool:
        return (
            AVAILABLE
            and size >= READ_BYTES
            and isinstance(self.source, KernelEnd)
            and isinstance(self.target, KernelEnd)
            and self._bare()
        )

    async def _splice_and_watch(self) -> None:
        await self._splice()
        self.watch()

    async def _splice(self) -> None:
        """Let the kernel move the bytes until somebody needs to see them, or no more come."""
        source, target = self.source, self.target
        assert isinstance(source, KernelEnd)
        assert isinstance(target, KernelEnd)
        stopped = await splice(source, target, go_on=self._bare)
        if stopped is Stopped.SOURCE_LOST:
            source.note_reset()
        elif stopped is Stopped.TARGET_LOST:
            target.note_reset()
            self._connection.lose(self)

    def pass_on(self) -> None:
        """Deliver at once what has left the pipe, as far as the socket takes it; the writer does the rest.

        Most units leave a pipe as they come, and most sockets have room: then no other task need be woken.
        """
        if self._idle:
            self.left.add(self.pipe.advance(trio.current_time()))
            while self.left and self._deliver_now():
                self.left.take()
            self._connection.tell_felt(self)
        if self.left or not self._idle:
            self._need_writer()
        elif (wake_at_s := self.pipe.wake_at()) is not None:
            self._need_at(wake_at_s)

    def _deliver_now(self) -> bool:
        """Deliver the first of what is left without waiting; return False if the writer must go on with it."""
        parcel = self.left.first
        target, unit = self.target, parcel.unit
        if not isinstance(unit, Data):
            self._deliver_end(unit)
            return True
        if target.closed:
            return True
        # recorded before it is sent: the peer may act on it before this task runs again; only once, though this may
        # be tried again before the writer wakes
        if not parcel.observed:
            self._connection.observe(self.stream, self.target_side, unit)
            parcel.observed = True
        payload = parcel.payload
        taken = target.send_now(payload)
        if taken is None:
            self._connection.lose(self)
        elif taken < len(payload):
            self.left.shorten(taken)
            return False
        return True

    def _deliver_end(self, unit: Fin | Rst | Cut) -> None:
        """Deliver what ends the stream, or what cuts it; that never has to wait."""
        connection = self._connection
        if connection.closes_fully and (isinstance(unit, Fin) or unit == Cut()):
            if isinstance(unit, Cut):
                connection.cut_off_other(self)
            connection.close_fully(self)
        elif isinstance(unit, Cut):
            connection.carry_out(self, unit)
        elif self.target.closed:
            return
        elif isinstance(unit, Fin):
            connection.observe(self.stream, self.target_side, unit)
            self.target.send_fin()
            self.fin_passed = True
            connection.finish_if_over()
        else:
            connection.pass_rst(self)

    def tell(self) -> None:
        """Have it look soon what has changed; before the connection runs nobody does."""
        if self._changed is not None:
            self._changed.set()
        elif self._connection.running and self._connection.caller is not None:
            self._connection.caller.soon(self._due)
        else:
            self._need_writer()

    def _need_writer(self) -> None:
        if self._changed is not None:
            self._changed.set()
        elif self._connection.running:
            self._changed = trio.Event()
            self._connection.start(self._write)

    def _need_at(self, wake_at_s: float) -> None:
        """Have what leaves the pipe at a time delivered then."""
        caller = self._connection.caller
        if caller is None:
            self._need_writer()
        elif self._connection.running and (self._timer is None or wake_at_s < self._timer.at_s):
            if self._timer is not None:
                self._timer.cancel()
            self._timer = caller.at(wake_at_s, self._rung)

    def _rung(self) -> None:
        self._timer = None
        self._due()

    def _due(self) -> None:
        """See to what has changed, or whose time has come; the caller calls this."""
        try:
            if self._connection.running:
                self.pass_on()
                self._settle()
        except Exception as error:
            self._connection.fail(error)

    def _settle(self) -> None:
        if self.cut_off:
            self._connection.finish_if_over()
        # not before all is delivered: bulk can then go on beside the pipe
        if self._go_on is not None and not self.held_bytes and not self.pipe.full:
            go_on, self._go_on = self._go_on, None
            go_on()

    async def _write(self) -> None:
        self._idle = False
        while True:
            self._changed = trio.Event()
            self.left.add(self.pipe.advance(trio.current_time()))
            while self.left:
                await self._deliver(self.left.take())
            self._connection.tell_felt(self)
            self._settle()
            wake_at_s = self.pipe.wake_at()
            if wake_at_s is None or wake_at_s > trio.current_time():
                if self._connection.caller is not None and not self._changed.is_set():
                    break
                await self._wait_for_change(wake_at_s)
        self._changed = None
        self._idle = True
        if wake_at_s is not None:
            self._need_at(wake_at_s)

    async def _wait_for_change(self, wake_at_s: float | None) -> None:
        assert self._changed is not None
        self._idle = True
        try:
            if wake_at_s is None:
                await self._changed.wait()
            else:
                with trio.move_on_at(wake_at_s):
                    await self._changed.wait()
        finally:
            self._idle = False

    async def _deliver(self, parcel: Parcel) -> None:
        connection, target, unit = self._connection, self.target, parcel.unit
        if not isinstance(unit, Data):
            self._deliver_end(unit)
        elif not target.closed:
            if not parcel.observed:
                connection.observe(self.stream, self.target_side, unit)
            if not await target.send(parcel.payload):
                connection.lose(self)
