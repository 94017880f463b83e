"""One connection through the link: two directions, each with a reader, a pipe and a writer."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from random import Random
from typing import Literal

import trio

from chaos.faults.pipe import Flows, Pipe, Stage
from chaos.faults.units import Cut, Data, Fin, Rst, Unit
from chaos.link.ends import BULK_READ_BYTES, READ_BYTES, End
from chaos.link.outbox import Outbox, Parcel
from chaos.link.splice import AVAILABLE, Stopped, splice
from chaos.link.story import Story
from chaos.recorder import Recorder
from chaos.trace import Side, Stream
from chaos.vocabulary.faults import Blackhole

STREAMS: tuple[Stream, Stream] = ("upstream", "downstream")
_SOURCE: dict[Stream, Side] = {"upstream": "client", "downstream": "server"}
_TARGET: dict[Stream, Side] = {"upstream": "server", "downstream": "client"}
_OTHER: dict[Stream, Stream] = {"upstream": "downstream", "downstream": "upstream"}
# what is read ahead of a target that takes no more: enough to learn soon that a quiet source has ended
BACKLOG_BYTES = 256 * 1024
_GONE = Stage(key="gone", settings=Blackhole())
# What the end of a stream does. `faithful`: a FIN is a half-close, an RST stays one. `toxiproxy`: either becomes the
# full close of the other socket, behind the bytes that are still on their way (toxiproxy 2.12.0, link.go).
EndPolicy = Literal["faithful", "toxiproxy"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Watch:
    """Where a connection's events go: `sides` are those that this link observes."""

    recorder: Recorder
    client: int
    sides: frozenset[Side]
    felt: Callable[[int, Stream, str, str], None]  # connection, stream, stage key, how


class Connection:
    """Carries one connection. `run` returns when nothing more can happen on it; both sockets are closed then."""

    def __init__(
        self,
        *,
        number: int,
        ends: dict[Side, End],
        watch: Watch,
        rng_for: Callable[[Stream, str], Random],
        ends_are: EndPolicy = "faithful",
    ) -> None:
        now = trio.current_time()
        flows = Flows(opened_s=now)
        self.number = number
        self._ends = ends
        self._watch = watch
        self._closes_fully = ends_are == "toxiproxy"
        self._pipes: dict[Stream, Pipe] = {
            stream: Pipe(
                stream=stream,
                flows=flows,
                rng_for=lambda key, stream=stream: rng_for(stream, key),  # type: ignore[misc]
            )
            for stream in STREAMS
        }
        self._story = Story(number=number, watch=watch)
        self._left = {stream: Outbox() for stream in STREAMS}
        self._nursery: trio.Nursery | None = None
        # A writer is started when there is first something to wait for: most connections never need one.
        self._changed: dict[Stream, trio.Event] = {}  # streams that have a writer
        self._idle: set[Stream] = set(STREAMS)  # streams whose writer waits, or is not needed yet
        self._room: dict[Stream, trio.Event] = {}  # what readers wait for that hold back
        self._fins: set[Stream] = set()
        self._ended: set[Stream] = set()  # streams whose reader has met the end
        self._cut_off: set[Stream] = set()  # streams that end with what is still in their pipe
        self._scope = trio.CancelScope()

    async def run(self) -> None:
        """Carry bytes until both directions are over. Cancelling closes both sockets."""
        try:
            with self._scope:
                async with trio.open_nursery() as nursery:
                    self._nursery = nursery
                    for stream in STREAMS:
                        if self._pipes[stream].wake_at() is not None:
                            self._tell(stream)
                    nursery.start_soon(self._read, "downstream")
                    await self._read("upstream")
        finally:
            self._nursery = None
            for end in self._ends.values():
                end.close()
            self._story.tell("closed")

    def replace(self, stages: Mapping[Stream, Sequence[Stage]]) -> None:
        """Change the active toxics and faults; takes effect at once, never waits."""
        for stream in STREAMS:
            self._pipes[stream].replace(trio.current_time(), stages[stream])
            self._tell(stream)

    def feed(self, stream: Stream, unit: Unit) -> None:
        """Put a unit into a direction as if its source had sent it now."""
        self._pipes[stream].feed(trio.current_time(), unit)
        self._tell(stream)

    def observe(self, stream: Stream, side: Side, unit: Unit) -> None:
        """Record what a unit is at one side of the link."""
        self._story.observe(stream, side, unit)

    def reset(self, side: Literal["both", "client", "server"]) -> None:
        """Send an RST now. Towards one side only, the other is left with a path that swallows everything."""
        if side == "both":
            self._cut(rst=True)
            return
        self._close_end(side, rst=True)
        for stream in STREAMS:
            self._pipes[stream].replace(trio.current_time(), [_GONE])
        self._finish_if_over()

    def close(self) -> None:
        """Close both sockets now, with FIN."""
        self._cut(rst=False)

    def active(self, stream: Stream) -> frozenset[str]:
        """Return the keys of the stages that act on a stream of this connection: those that toxicity selected."""
        return self._pipes[stream].active

    async def _read(self, stream: Stream) -> None:
        source, pipe = self._ends[_SOURCE[stream]], self._pipes[stream]
        at_most = READ_BYTES
        while True:
            while self._full(stream):
                self._room[stream] = trio.Event()
                await self._room[stream].wait()
            unit = await source.receive(at_most)
            if self._closes_fully and not isinstance(unit, Data):
                unit = Fin()  # also for a socket that we closed ourselves
            if unit is None:
                return
            size = len(unit.payload) if isinstance(unit, Data) else 0
            rest = self._pass_by(stream, unit)
            if rest is not None:
                self.observe(stream, _SOURCE[stream], rest)
                pipe.feed(trio.current_time(), rest)
            if not size:
                self._ended.add(stream)
                self._pass_on(stream)
                if stream not in self._fins:
                    self._tell(stream)  # its writer stays until the end comes out
                self._finish_if_over()
                return
            if rest is not None:
                self._pass_on(stream)
            if size >= READ_BYTES and self._bare(stream):
                await self._splice(stream)
            bulk = size >= READ_BYTES and not self._watch.sides and pipe.takes_bulk
            at_most = BULK_READ_BYTES if bulk else READ_BYTES

    def _pass_by(self, stream: Stream, unit: Unit) -> Unit | None:
        """Deliver bytes beside a pipe that does nothing; return what is still to be delivered."""
        if not isinstance(unit, Data) or not self._bare(stream):
            return unit
        target = self._ends[_TARGET[stream]]
        taken = target.send_now(unit.payload)
        if taken is None:
            self._lose(stream, target)
        elif taken < len(unit.payload):
            return Data(unit.payload[taken:])
        return None

    def _bare(self, stream: Stream) -> bool:
        """Whether nobody here needs to see the bytes of a stream: not now, and not those on their way."""
        return (
            not self._watch.sides
            and stream in self._idle
            and not self._left[stream]
            and self._pipes[stream].transparent
            and not self._ends["client"].closed
            and not self._ends["server"].closed
        )

    async def _splice(self, stream: Stream) -> None:
        """Let the kernel move the bytes until somebody needs to see them, or no more come."""
        source, target = self._ends[_SOURCE[stream]], self._ends[_TARGET[stream]]
        numbers = source.plain_fileno, target.plain_fileno
        if numbers[0] is None or numbers[1] is None or not AVAILABLE:
            return

        def passed(count: int) -> None:
            source.note_spliced(received=count)
            target.note_spliced(sent=count)

        stopped = await splice(
            numbers[0], numbers[1], go_on=lambda: self._bare(stream), passed=passed
        )
        if stopped is Stopped.SOURCE_LOST:
            source.note_reset()
        elif stopped is Stopped.TARGET_LOST:
            target.note_reset()
            self._lose(stream, target)

    def _pass_on(self, stream: Stream) -> None:
        """Deliver at once what has left the pipe, as far as the socket takes it; the writer does the rest.

        Most units leave a pipe as they come, and most sockets have room: then no other task need be woken.
        """
        pipe, left = self._pipes[stream], self._left[stream]
        if stream in self._idle:
            left.add(pipe.advance(trio.current_time()))
            self._deliver_what_is_taken(stream, left)
            self._tell_felt(stream)
        if left or stream not in self._idle or pipe.wake_at() is not None:
            self._tell(stream)

    def _deliver_what_is_taken(self, stream: Stream, left: Outbox) -> None:
        while left and self._deliver_now(stream, left):
            left.take()

    def _deliver_now(self, stream: Stream, left: Outbox) -> bool:
        """Deliver the first of what is left without waiting; return False if the writer must go on with it."""
        side, parcel = _TARGET[stream], left.first
        target, unit = self._ends[side], parcel.unit
        if isinstance(unit, Fin) and self._closes_fully:
            self._close_fully(stream)
            return True
        if not isinstance(unit, Data):
            return False
        if target.closed:
            return True
        # recorded before it is sent: the peer may act on it before this task runs again; only once, though this may
        # be tried again before the writer wakes
        if not parcel.observed:
            self.observe(stream, side, unit)
            parcel.observed = True
        payload = parcel.payload
        taken = target.send_now(payload)
        if taken is None:
            self._lose(stream, target)
        elif taken < len(payload):
            left.shorten(taken)
            return False
        return True

    def _full(self, stream: Stream) -> bool:
        """Whether the source should be left unread for now (back-pressure)."""
        return self.held_bytes(stream) >= BACKLOG_BYTES or self._pipes[stream].full

    def held_bytes(self, stream: Stream) -> int:
        """Return how many bytes have left the pipe that the target has not taken yet."""
        return self._left[stream].held_bytes + self._pipes[stream].leaving_bytes

    async def _write(self, stream: Stream) -> None:
        pipe, left = self._pipes[stream], self._left[stream]
        self._idle.discard(stream)
        while True:
            self._changed[stream] = trio.Event()
            left.add(pipe.advance(trio.current_time()))
            while left:
                await self._deliver(stream, left.take())
            self._tell_felt(stream)
            if stream in self._cut_off:
                self._finish_if_over()
            # not before all is delivered: bulk can then go on beside the pipe
            if stream in self._room and not self.held_bytes(stream) and not pipe.full:
                self._room.pop(stream).set()
            wake_at = pipe.wake_at()
            if wake_at is None or wake_at > trio.current_time():
                await self._wait_for_change(stream, wake_at)

    async def _wait_for_change(self, stream: Stream, wake_at: float | None) -> None:
        self._idle.add(stream)
        try:
            if wake_at is None:
                await self._changed[stream].wait()
            else:
                with trio.move_on_at(wake_at):
                    await self._changed[stream].wait()
        finally:
            self._idle.discard(stream)

    async def _deliver(self, stream: Stream, left: Parcel) -> None:
        side, unit = _TARGET[stream], left.unit
        target = self._ends[side]
        if self._closes_fully and (isinstance(unit, Fin) or unit == Cut()):
            if isinstance(unit, Cut):
                self._cut_off.add(_OTHER[stream])
            self._close_fully(stream)
        elif isinstance(unit, Cut):
            self._carry_out(stream, unit)
        elif target.closed:
            return
        elif isinstance(unit, Data):
            if not left.observed:
                self.observe(stream, side, unit)
            if not await target.send(left.payload):
                self._lose(stream, target)
        elif isinstance(unit, Fin):
            self.observe(stream, side, unit)
            await target.send_fin()
            self._fins.add(stream)
            self._finish_if_over()
        else:
            self._close_end(side, rst=True)
            self._tell_felt(stream)
            self._stop()

    def _lose(self, stream: Stream, target: End) -> None:
        """Note that a peer took no more bytes: its reader tells why, unless that is over."""
        if self._closes_fully:
            self._close_fully(stream)
        elif target.finished:
            # its RST answers what was just sent
            self.feed(_OTHER[stream], Rst())

    def _close_fully(self, stream: Stream) -> None:
        """End a stream as Toxiproxy does: its target is closed, which ends the other stream behind its bytes."""
        self._fins.add(stream)
        self._close_end(_TARGET[stream], rst=False)
        self._finish_if_over()

    def _carry_out(self, stream: Stream, cut: Cut) -> None:
        self._tell_felt(stream)
        if cut.whom == "both":
            self._cut(rst=cut.rst)
            return
        self._close_end(_SOURCE[stream], rst=cut.rst)
        self._finish_if_over()

    def _cut(self, *, rst: bool) -> None:
        for side in ("client", "server"):
            self._close_end(side, rst=rst)
        self._stop()

    def _close_end(self, side: Literal["client", "server"], *, rst: bool) -> None:
        end = self._ends[side]
        if end.closed:
            return
        stream: Stream = "downstream" if side == "client" else "upstream"
        already = stream in self._fins and not rst
        if not already:
            self._story.record("rst" if rst else "fin", stream, side)
        end.finished = True
        if rst:
            end.reset()
        else:
            end.close()

    def _finish_if_over(self) -> None:
        """End the connection when nothing can be delivered any more."""
        drained = any(
            not self._left[stream] and self._pipes[stream].empty
            for stream in self._cut_off & self._ended - self._fins
        )
        if (
            drained
            or len(self._fins) == len(STREAMS)
            or (
                all(end.finished for end in self._ends.values())
                and all(stream in self._fins or self._pipes[stream].dead for stream in STREAMS)
            )
        ):
            self._stop()

    def _stop(self) -> None:
        """End all tasks. Readers that have met the end do so by themselves, which costs less than a cancellation."""
        if self._changed or len(self._ended) < len(STREAMS):
            self._scope.cancel()

    def _tell(self, stream: Stream) -> None:
        """Wake the writer of a stream; before `run` there is none."""
        if stream in self._changed:
            self._changed[stream].set()
        elif self._nursery is not None:
            self._changed[stream] = trio.Event()
            self._nursery.start_soon(self._write, stream)

    def _tell_felt(self, stream: Stream) -> None:
        for key, how in self._pipes[stream].felt():
            if key != _GONE.key:
                self._watch.felt(self.number, stream, key, how)
