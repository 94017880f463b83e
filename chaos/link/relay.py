"""A relay carries one connection: two directions between two ends, and what happens when one of them ends.

What an ending means is not decided here but read from `chaos.link.endings`; this file tells the sides what the table
says. `run` returns when nothing more can happen on the connection, and both sockets are closed then. The other
methods act at once and never wait; they may be called before and after `run`, too.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from random import Random
from typing import Literal

import trio

from chaos.faults.machine import Flows, Key
from chaos.faults.pipe import Pipe, Stage
from chaos.faults.units import Fin, Rst, Unit
from chaos.link.direction import Direction
from chaos.link.endings import OTHER, SIDES, Ending, Endings, EndPolicy, StreamState, Tell, UnderWay
from chaos.link.ends import End, SilentEnd
from chaos.link.poller import Caller, TaskCaller
from chaos.link.transcript import UNOBSERVED, Transcript
from chaos.trace import Side, Stream


class Relay:
    """Carries one connection. Nothing happens before `run`, which may be called once."""

    def __init__(
        self,
        *,
        ends: Mapping[Side, End],
        rng_for: Callable[[Stream, Key], Random],
        transcript: Transcript = UNOBSERVED,
        end_policy: EndPolicy = "faithful",
        caller: Caller | None = None,
        frees_forgotten: bool = False,
    ) -> None:
        """Make a relay between two ends, which it owns.

        Args:
            ends: the ends towards the client and the server.
            rng_for: gives the generator for a stage of a stream.
            transcript: what is told of it.
            end_policy: what the end of a stream does.
            caller: makes calls where a task would have to wait. Without one, two tasks read.
            frees_forgotten: a connection that has met a fault which forgets flows is over once that fault is no
                longer in force and the client has ended. Else it lasts until both sides have ended: a half-open
                connection, of which the server has to find out by itself.
        """
        self.transcript = transcript
        self.caller: Caller | None = None
        self._caller = caller
        self._ends = ends
        silent: list[Side] = [side for side, end in ends.items() if isinstance(end, SilentEnd)]
        self._endings = Endings(end_policy, silent=silent)
        self._directions = self._make_directions(rng_for)
        self._nursery: trio.Nursery | None = None
        self._waiting: list[Callable[[], Awaitable[None]]] = []  # tasks that wait for the nursery
        self._wake = trio.Event()  # it is over, or there is a first task
        self._is_over = False
        self._frees_forgotten = frees_forgotten
        self._failure: Exception | None = None

    def _make_directions(self, rng_for: Callable[[Stream, Key], Random]) -> dict[Stream, Direction]:
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
                transcript=self.transcript,
                owner=self,
            )
            for stream, (source, target) in SIDES.items()
        }

    async def run(self) -> None:
        """Carry bytes until the connection is over. Cancelling closes both sockets."""
        try:
            if not self._is_over:  # it may have been cut before it ran
                await (self._run_by_tasks() if self._caller is None else self._run_by_calls())
        finally:
            self._finish()
            for direction in self._directions.values():
                direction.stop_calls()
            for end in self._ends.values():
                end.close()
            self.transcript.tell("closed")
        if self._failure is not None:
            raise self._failure

    async def _run_by_tasks(self) -> None:
        async with trio.open_nursery() as nursery:
            try:
                self._start_calls(TaskCaller(nursery))
                self._start_tasks(nursery)
                nursery.start_soon(self._directions["downstream"].read)
                await self._directions["upstream"].read()
                if not self._is_over:
                    await self._wake.wait()
            finally:
                self._finish()

    async def _run_by_calls(self) -> None:
        """Wait until it is over: what happens meanwhile is called. Only the first task needs a nursery."""
        assert self._caller is not None
        self._start_calls(self._caller)
        for direction in self._directions.values():
            if not direction.watch(self._caller):
                self.start(direction.read)
        await self._wake.wait()
        if not self._is_over:
            self._wake = trio.Event()
            async with trio.open_nursery() as nursery:
                try:
                    self._start_tasks(nursery)
                    await self._wake.wait()
                finally:
                    self._finish()

    def _finish(self) -> None:
        """Let nothing more be started.

        A nursery takes tasks for as long as its body runs, so every body calls this when it ends.
        """
        self._is_over = True
        self.caller = self._nursery = None

    def _start_calls(self, caller: Caller) -> None:
        self.caller = caller
        for direction in self._directions.values():
            if direction.pipe.wake_at() is not None:
                direction.look_soon()

    def _start_tasks(self, nursery: trio.Nursery) -> None:
        self._nursery = nursery
        for task in self._waiting:
            nursery.start_soon(task)
        self._waiting.clear()

    def start(self, task: Callable[[], Awaitable[None]]) -> None:
        """Run a task until the connection is over, and not at all if it is over; see `Owner`."""
        if self._is_over:
            return
        if self._nursery is None:
            self._waiting.append(task)
            self._wake.set()
        else:
            self._nursery.start_soon(task)
        if self.caller is not None:
            self.caller.let_tasks_run()

    def fail(self, error: Exception) -> None:
        """End the connection for a mistake of ours, which `run` raises."""
        self._failure = self._failure or error
        self._stop()

    def _stop(self) -> None:
        self._is_over = True
        self._wake.set()
        if self.caller is not None:
            self.caller.let_tasks_run()
        if self._nursery is not None:
            self._nursery.cancel_scope.cancel()

    # faults

    def replace(self, stages: Mapping[Stream, Sequence[Stage]]) -> None:
        """Change the active toxics and faults; takes effect at once."""
        for stream, direction in self._directions.items():
            direction.replace(stages[stream])
        if self._frees_forgotten:
            self.end_if_over()

    def feed(self, stream: Stream, unit: Unit) -> None:
        """Put a unit into a direction as if its source had sent it now."""
        self._directions[stream].feed(unit)

    def active(self) -> frozenset[Key]:
        """Return the keys of the stages that act on this connection: those that toxicity selected."""
        upstream, downstream = (one.pipe.active for one in self._directions.values())
        return upstream | downstream

    def held_bytes(self, stream: Stream) -> int:
        """Return how many bytes have left the pipe of a stream that its target has not taken yet."""
        return self._directions[stream].held_bytes

    def close(self) -> None:
        """Close both sockets now, with FIN."""
        self.end("upstream", Ending.CLOSED)

    def reset(self, side: Side | Literal["both"] = "both") -> None:
        """Send an RST now. With one side given, the other is told nothing, and all that it sends is discarded."""
        if side == "both":
            self.end("upstream", Ending.CUT_RST)
            return
        for direction in self._directions.values():
            direction.swallow()
        self.end("upstream" if side == "client" else "downstream", Ending.CUT_SOURCE_RST)

    def forget_resets(self) -> None:
        """Take back what resets of one side have left in force, from the next `replace` on."""
        for direction in self._directions.values():
            direction.swallow_no_more()

    # endings

    def note_read(self, stream: Stream, ending: Ending) -> Fin | Rst | None:
        """Note that a stream's source has ended; see `Owner`."""
        return self._endings.move(stream, ending).enters

    def is_cut_off(self, stream: Stream) -> bool:
        """Return whether the connection is over once nothing of a stream is on its way."""
        return self._endings.is_cut_off(stream)

    def end(self, stream: Stream, ending: Ending) -> None:
        """Do what the table says of an ending."""
        before = self._endings.states
        outcome = self._endings.move(stream, ending)
        for towards, (_, side) in sorted(SIDES.items()):  # the client first
            tell = outcome.target if towards == stream else outcome.source
            self._tell(side, tell, knows_fin=before[towards] is StreamState.ENDED)
        if outcome.other is UnderWay.PASS_AND_RST:
            self.feed(OTHER[stream], Rst())
        self.end_if_over()

    def _tell(self, side: Side, tell: Tell, *, knows_fin: bool) -> None:
        end = self._ends[side]
        if tell is Tell.NOTHING or end.closed:
            return
        if tell is Tell.RST or not knows_fin:
            stream: Stream = "downstream" if side == "client" else "upstream"
            self.transcript.record("rst" if tell is Tell.RST else "fin", stream, side)
        if tell is Tell.FIN:
            end.send_fin()
        elif tell is Tell.CLOSE:
            end.close()
        else:
            end.reset()

    def end_if_over(self) -> None:
        """End the connection if nothing can be delivered any more."""
        ways = self._directions
        if self._endings.check_over(
            empty=lambda stream: ways[stream].is_empty,
            dead=lambda stream: ways[stream].pipe.dead,
            forgotten=lambda stream: self._frees_forgotten and ways[stream].pipe.is_forgotten,
        ):
            self._stop()
