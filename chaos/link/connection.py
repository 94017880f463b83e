"""One connection through the link: two directions and the two ends that they share."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from random import Random
from typing import Literal

import trio

from chaos.faults.machine import Flows
from chaos.faults.pipe import Pipe, Stage
from chaos.faults.units import Cut, Data, Rst, Unit
from chaos.link.caller import Caller
from chaos.link.direction import SIDES, Direction
from chaos.link.ends import BareEnd, End
from chaos.link.story import Story
from chaos.recorder import Recorder
from chaos.trace import Side, Stream
from chaos.vocabulary.faults import Blackhole

STREAMS: tuple[Stream, Stream] = ("upstream", "downstream")
_OTHER: dict[Stream, Stream] = {"upstream": "downstream", "downstream": "upstream"}
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
        caller: Caller | None = None,
    ) -> None:
        """Make a connection between two ends. With a `caller` there are tasks only where somebody must wait."""
        self.number = number
        self.closes_fully = ends_are == "toxiproxy"
        self.is_observed = bool(watch.sides)
        self.caller = caller
        self._ends = ends
        self._watch = watch
        self._story = Story(number=number, watch=watch)
        self._directions = self._make_directions(rng_for)
        self.running = False
        self._nursery: trio.Nursery | None = None
        self._tasks: list[Callable[[], Awaitable[None]]] = []  # that wait for it
        self._over = False
        self._wake = trio.Event()  # it is over, or there is a first task
        self._failure: Exception | None = None

    def _make_directions(self, rng_for: Callable[[Stream, str], Random]) -> dict[Stream, Direction]:
        flows = Flows(opened_s=trio.current_time())
        return {
            stream: Direction(
                stream=stream,
                source=self._ends[source],
                target=self._ends[target],
                pipe=Pipe(
                    stream=stream,
                    flows=flows,
                    rng_for=lambda key, stream=stream: rng_for(stream, key),  # type: ignore[misc]
                ),
                connection=self,
            )
            for stream, (source, target) in SIDES.items()
        }

    async def run(self) -> None:
        """Carry bytes until both directions are over. Cancelling closes both sockets."""
        self.running = True
        try:
            for direction in self._directions.values():
                if direction.pipe.wake_at() is not None:
                    direction.tell()
            if not self._over:  # it may have been cut before it ran
                await (self._read_both() if self.caller is None else self._be_called())
        finally:
            self.running = False
            self._nursery = None
            for direction in self._directions.values():
                direction.unwatch()
            for end in self._ends.values():
                end.close()
            self._story.tell("closed")
        if self._failure is not None:
            raise self._failure

    async def _read_both(self) -> None:
        async with trio.open_nursery() as nursery:
            self._open_to_tasks(nursery)
            nursery.start_soon(self._directions["downstream"].read)
            await self._directions["upstream"].read()

    async def _be_called(self) -> None:
        """Wait until it is over: what happens meanwhile is called. Only the first task needs a nursery."""
        for direction in self._directions.values():
            if isinstance(direction.source, BareEnd):
                direction.watch()
            else:
                self.start(direction.read)
        await self._wake.wait()
        if not self._over:
            self._wake = trio.Event()
            async with trio.open_nursery() as nursery:
                self._open_to_tasks(nursery)
                await self._wake.wait()

    def _open_to_tasks(self, nursery: trio.Nursery) -> None:
        self._nursery = nursery
        for task in self._tasks:
            nursery.start_soon(task)
        self._tasks.clear()

    def start(self, task: Callable[[], Awaitable[None]]) -> None:
        """Run a task of one of the directions until the connection is over."""
        if self._nursery is None:
            self._tasks.append(task)
            self._wake.set()
        else:
            self._nursery.start_soon(task)
        if self.caller is not None:
            self.caller.hurry()

    def fail(self, error: Exception) -> None:
        """End it for a mistake of ours, which `run` raises."""
        self._failure = self._failure or error
        self._stop()

    def replace(self, stages: Mapping[Stream, Sequence[Stage]]) -> None:
        """Change the active toxics and faults; takes effect at once, never waits."""
        for stream, direction in self._directions.items():
            direction.pipe.replace(trio.current_time(), stages[stream])
            direction.tell()

    def feed(self, stream: Stream, unit: Unit) -> None:
        """Put a unit into a direction as if its source had sent it now."""
        direction = self._directions[stream]
        direction.pipe.feed(trio.current_time(), unit)
        direction.tell()

    def observe(self, stream: Stream, side: Side, unit: Unit) -> None:
        """Record what a unit is at one side of the link."""
        self._story.observe(stream, side, unit)

    def observe_both(self, stream: Stream, sides: tuple[Side, Side], unit: Data) -> None:
        """Record what bytes are that pass one side of the link and then the other at once."""
        self._story.observe_both(stream, sides, unit)

    def reset(self, side: Literal["both", "client", "server"]) -> None:
        """Send an RST now. Towards one side only, the other is left with a path that swallows everything."""
        if side == "both":
            self._cut(rst=True)
            return
        self._close_end(side, rst=True)
        for direction in self._directions.values():
            direction.pipe.replace(trio.current_time(), [_GONE])
        self.finish_if_over()

    def close(self) -> None:
        """Close both sockets now, with FIN."""
        self._cut(rst=False)

    def active(self, stream: Stream) -> frozenset[str]:
        """Return the keys of the stages that act on a stream of this connection: those that toxicity selected."""
        return self._directions[stream].pipe.active

    def held_bytes(self, stream: Stream) -> int:
        """Return how many bytes have left the pipe of a stream that its target has not taken yet."""
        return self._directions[stream].held_bytes

    def lose(self, direction: Direction) -> None:
        """Note that a peer took no more bytes: its reader tells why, unless that is over."""
        if self.closes_fully:
            self.close_fully(direction)
        elif direction.target.finished:
            # its RST answers what was just sent
            self.feed(_OTHER[direction.stream], Rst())

    def close_fully(self, direction: Direction) -> None:
        """End a stream as Toxiproxy does: its target is closed, which ends the other stream behind its bytes."""
        direction.fin_passed = True
        self._close_end(direction.target_side, rst=False)
        self.finish_if_over()

    def cut_off_other(self, direction: Direction) -> None:
        """Let the other direction end with what is still in its pipe."""
        self._directions[_OTHER[direction.stream]].cut_off = True

    def carry_out(self, direction: Direction, cut: Cut) -> None:
        """Cut what a fault cuts."""
        self.tell_felt(direction)
        if cut.whom == "both":
            self._cut(rst=cut.rst)
            return
        self._close_end(direction.source_side, rst=cut.rst)
        self.finish_if_over()

    def pass_rst(self, direction: Direction) -> None:
        """Pass an RST to the target: the connection is over."""
        self._close_end(direction.target_side, rst=True)
        self.tell_felt(direction)
        self._stop()

    def _cut(self, *, rst: bool) -> None:
        for side in ("client", "server"):
            self._close_end(side, rst=rst)
        self._stop()

    def _close_end(self, side: Side, *, rst: bool) -> None:
        end = self._ends[side]
        if end.closed:
            return
        stream: Stream = "downstream" if side == "client" else "upstream"
        already = self._directions[stream].fin_passed and not rst
        if not already:
            self._story.record("rst" if rst else "fin", stream, side)
        end.finished = True
        if rst:
            end.reset()
        else:
            end.close()

    def finish_if_over(self) -> None:
        """End the connection when nothing can be delivered any more."""
        directions = self._directions.values()
        if (
            any(direction.cut_off and direction.drained for direction in directions)
            or all(direction.fin_passed for direction in directions)
            or (
                all(end.finished for end in self._ends.values())
                and all(direction.fin_passed or direction.pipe.dead for direction in directions)
            )
        ):
            self._stop()

    def _stop(self) -> None:
        """End all tasks. Readers that have met the end do so by themselves, which costs less than a cancellation."""
        self._over = True
        self._wake.set()
        if self.running and self.caller is not None:
            self.caller.hurry()
        if self._nursery is None:
            return
        directions = self._directions.values()
        if self.caller is not None:
            needed = bool(self._nursery.child_tasks)
        else:
            needed = any(d.has_writer for d in directions) or not all(d.ended for d in directions)
        if needed:
            self._nursery.cancel_scope.cancel()

    def tell_felt(self, direction: Direction) -> None:
        """Tell the watch which stages have touched something for the first time."""
        for key, how in direction.pipe.felt():
            if key != _GONE.key:
                self._watch.felt(self.number, direction.stream, key, how)
