"""Subjects about noticing that a path is dead, and about leaving alone one that lives."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Coroutine, Iterator
from typing import Any

import trio
from rig import Client, Row, Server, client_subject, server_subject
from rig_wire import PING, PONG, TEXT, Gone, Wire

from chaos import report


@client_subject
class ProbesBeside(Client):
    """Wrong: no heartbeat; once a second another connection shows that the server is there, and is closed."""

    async def beat(self, wire: Wire) -> None:
        while True:
            await trio.sleep(1)
            try:
                with trio.fail_after(0.5):
                    probe = await self.open()
                await self.close(probe, 1000)
                await probe.cut()
            except (Gone, OSError, trio.TooSlowError):
                pass


@client_subject
class BeatsOnce(Client):
    """Wrong: the heartbeat is started with the first connection, and no other gets one."""

    def tasks(self, wire: Wire) -> Iterator[Callable[[Wire], Coroutine[Any, Any, None]]]:
        for task in super().tasks(wire):
            if task != self.beat or not hasattr(self, "started"):
                yield task
        self.started = True


@client_subject
class SecondIsDeaf(Client):
    """Wrong in client 2 only: it waits for no pong."""

    async def answered(self, wire: Wire, timeout_s: float) -> bool:
        if self.options["number"] != 2:
            return await super().answered(wire, timeout_s)
        await wire.send(PING, b"anybody")
        return True


@client_subject
class SaysSo(Client):
    """Wrong: a status line that changes every second, and no look at the connection."""

    async def beat(self, wire: Wire) -> None:
        while True:
            for state in ("connecting", "open"):
                report("state", state=state)
                await trio.sleep(0.5)


@server_subject
class SendingIsLife(Server):
    """Wrong: as long as `send` returns, the client counts as alive; pongs are not waited for."""

    async def beat(self, wire: Wire) -> None:
        while True:
            await trio.sleep(self.options["heartbeat"]["interval_s"])
            await wire.send(PING, b"life")


@client_subject
class StaleTimer(Client):
    """Wrong: the timer of a connection that died goes off a second later, and takes the next one with it."""

    async def run(self) -> None:
        async with trio.open_nursery() as self.timers:
            await super().run()

    async def give_up(self, wire: Wire) -> None:
        self.timers.start_soon(self.go_off)
        await super().give_up(wire)

    async def go_off(self) -> None:
        await trio.sleep(1)
        if self.wire is not None:
            await self.ask_to_close(self.wire, 1000)


@client_subject
class LeavesWhenTold503(Client):
    """Wrong: it asks beside its connection whether the service is well, and closes a good one when it is not."""

    async def beat(self, wire: Wire) -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(super().beat, wire)
            while True:
                await trio.sleep(1)
                try:
                    with trio.fail_after(0.5):
                        probe = await self.open()
                    await self.close(probe, 1000)
                    await probe.cut()
                except (Gone, OSError, trio.TooSlowError):
                    pass
                except Exception:
                    await self.ask_to_close(wire, 1000)
                    raise Gone from None


@client_subject
class ClosesOnLongPing(Client):
    """Wrong: a ping of 125 bytes, which RFC 6455 section 5.5 allows, is too long for it."""

    async def on_ping(self, wire: Wire, payload: bytes) -> None:
        if len(payload) > 100:
            await self.ask_to_close(wire, 1002)
            raise Gone
        await super().on_ping(wire, payload)


@server_subject
class LongPings(Server):
    """Right: its pings have the 125 bytes that a control frame may have."""

    async def answered(self, wire: Wire, timeout_s: float) -> bool:
        self.beats += 1
        payload = (b"%d" % self.beats).ljust(125, b".")
        with trio.move_on_after(timeout_s):
            await wire.send(PING, payload)
            async with wire.ponged:
                while payload not in wire.pongs:
                    await wire.ponged.wait()
            return True
        return False


@server_subject
class NoUnasked(Server):
    """Wrong: it closes on a pong that it did not ask for, which RFC 6455 section 5.5.3 allows."""

    async def on_pong(self, wire: Wire, payload: bytes) -> None:
        if payload == b"unasked":
            await wire.say_close(1002)
        await super().on_pong(wire, payload)


@client_subject
class OneWay(Client):
    """Right: a pong now and then that nobody asked for, beside its heartbeat (RFC 6455 section 5.5.3)."""

    async def beat(self, wire: Wire) -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(super().beat, wire)
            while True:
                await trio.sleep(0.7)
                await wire.send(PONG, b"unasked")


@client_subject
class NoPongAfterReturn(Client):
    """Wrong: it answers pings on its first connection only."""

    async def on_ping(self, wire: Wire, payload: bytes) -> None:
        first = self.__dict__.setdefault("first", wire)
        if wire is first:
            await super().on_ping(wire, payload)


@client_subject
class CutPongs(Client):
    """Wrong: its pongs carry the first byte of a ping, not all of it (RFC 6455 section 5.5.3)."""

    async def on_ping(self, wire: Wire, payload: bytes) -> None:
        await super().on_ping(wire, payload[:1])


@server_subject
class NamedPings(Server):
    """Right: pings have a name of some length."""

    async def answered(self, wire: Wire, timeout_s: float) -> bool:
        self.beats += 1000
        return await super().answered(wire, timeout_s)


@server_subject
class TwoPings(Server):
    """Right: two pings behind each other; the pong of the second will do (RFC 6455 section 5.5.3)."""

    async def answered(self, wire: Wire, timeout_s: float) -> bool:
        await wire.send(PING, b"early")
        return await super().answered(wire, timeout_s)


@client_subject
class NewestPing(Client):
    """Right: of several pings that wait it answers the newest only, as RFC 6455 section 5.5.3 allows."""

    def tasks(self, wire: Wire) -> Iterator[Callable[[Wire], Coroutine[Any, Any, None]]]:
        yield from super().tasks(wire)
        yield self.answer

    async def on_ping(self, wire: Wire, payload: bytes) -> None:
        self.ping = payload
        self.pinged.set()

    async def answer(self, wire: Wire) -> None:
        self.pinged = trio.Event()
        while True:
            await self.pinged.wait()
            await trio.sleep(0.05)
            self.pinged = trio.Event()
            await wire.send(PONG, self.ping)


@client_subject
class AppBeat(Client):
    """Right: heartbeats are JSON messages with an answer, as browsers must do; pings of the server are answered."""

    async def answered(self, wire: Wire, timeout_s: float) -> bool:
        self.beats += 1
        self.echo = trio.Event()
        with trio.move_on_after(timeout_s):
            await wire.send(TEXT, json.dumps({"type": "ping", "n": self.beats}).encode())
            await self.echo.wait()
            return True
        return False

    async def on_message(self, wire: Wire, opcode: int, payload: bytes) -> None:
        if b'"pong"' in payload:
            self.echo.set()
        await super().on_message(wire, opcode, payload)


@server_subject
class AppEcho(Server):
    """Right: answers JSON pings, sends none, and ends a connection that was silent for three seconds."""

    async def on_message(self, wire: Wire, opcode: int, payload: bytes) -> None:
        wire.opened_s = trio.current_time()
        if b'"ping"' in payload:
            await wire.send(TEXT, payload.replace(b'"ping"', b'"pong"'))
        else:
            await super().on_message(wire, opcode, payload)

    async def beat(self, wire: Wire) -> None:
        wire.opened_s = trio.current_time()
        while trio.current_time() - wire.opened_s < 3:
            await trio.sleep_until(wire.opened_s + 3)
        await self.give_up(wire)
        raise Gone


@client_subject
class NeverReadsAgain(Client):
    """Wrong: after its first return nobody reads, and pongs are not waited for."""

    async def listen(self, wire: Wire) -> int | None:
        if self.__dict__.setdefault("first", wire) is wire:
            return await super().listen(wire)
        await trio.sleep_forever()
        return None

    async def answered(self, wire: Wire, timeout_s: float) -> bool:
        if self.__dict__.setdefault("first", wire) is wire:
            return await super().answered(wire, timeout_s)
        await wire.send(PING, b"x")
        return True


@client_subject
class SlowGoodbye(Client):
    """Right: it finishes what it has before it answers a Close, within the close timeout."""

    async def on_close(self, wire: Wire, payload: bytes) -> int:
        await trio.sleep(0.6)
        return await super().on_close(wire, payload)


@client_subject
class WaitsForFin(Client):
    """Right: after the closing handshake it leaves the end of TCP to the server (RFC 6455 section 7.1.1)."""

    async def part(self, wire: Wire) -> None:
        if wire.said_close:
            with trio.move_on_after(1):
                try:
                    while True:
                        await wire.take_frame()
                except Gone:
                    pass
        await super().part(wire)


@server_subject
class HalfCloses(Server):
    """Right: after the closing handshake it ends its half of TCP and reads until the client has ended the other."""

    async def part(self, wire: Wire) -> None:
        if wire.said_close:
            with trio.move_on_after(1):
                try:
                    await wire.stream.send_eof()  # type: ignore[attr-defined]
                    while await wire.stream.receive_some(4096):
                        pass
                except (trio.BrokenResourceError, trio.ClosedResourceError, OSError):
                    pass
        await super().part(wire)


@server_subject
class Rotates(Server):
    """Right: no connection gets older than four seconds; then it is closed with 1012, and the client comes back."""

    def tasks(self, wire: Wire) -> Iterator[Callable[[Wire], Coroutine[Any, Any, None]]]:
        yield from super().tasks(wire)
        yield self.rotate

    async def rotate(self, wire: Wire) -> None:
        await trio.sleep(4)
        await self.ask_to_close(wire, 1012)


@server_subject
class RotatesWithoutCode(Server):
    """Right: as the one before, with Close frames that have no body, which means 1005 (RFC 6455 section 7.1.5)."""

    def tasks(self, wire: Wire) -> Iterator[Callable[[Wire], Coroutine[Any, Any, None]]]:
        yield from super().tasks(wire)
        yield self.rotate

    async def rotate(self, wire: Wire) -> None:
        await trio.sleep(4)
        await self.ask_to_close(wire, None)


@client_subject
class HastyOnSlowPath(Client):
    """Wrong: it waits a quarter of a second for a pong, whatever its setting says."""

    async def answered(self, wire: Wire, timeout_s: float) -> bool:
        return await super().answered(wire, 0.25)


@client_subject
class CostlyPings(Client):
    """Wrong: a heartbeat of 125 bytes five times a second."""

    async def beat(self, wire: Wire) -> None:
        while True:
            await trio.sleep(0.2)
            await wire.send(PING, bytes(125))


@client_subject
class PongFlood(Client):
    """Wrong: twenty pongs a second that nobody asked for; each wakes the radio of a phone."""

    async def beat(self, wire: Wire) -> None:
        while True:
            await trio.sleep(0.05)
            await wire.send(PONG, b"")


@client_subject
class BlocksTheLoop(Client):
    """Wrong: it computes for a second in the event loop."""

    async def handle(self, wire: Wire, row: Row) -> None:
        await super().handle(wire, row)
        if row["id"] % 16 == 0:
            time.sleep(1.2)  # noqa: ASYNC251 - this is the mistake
