"""Subjects about coming back: when, how often, and after what never again."""

from __future__ import annotations

import random

import trio
from rig import Client, Row, Server, client_subject, server_subject
from rig_wire import TEXT, Frame, Gone, Refused, Wire


@client_subject
class Flaps(Client):
    """Wrong: after the first loss it keeps no connection for longer than fifty milliseconds."""

    lost = False

    async def converse(self, wire: Wire) -> int | None:
        if not self.lost:
            self.lost = True
            return await super().converse(wire)
        with trio.move_on_after(0.05):
            await super().converse(wire)
        await self.close(wire, 1000)
        return None


@client_subject
class ComesBackLate(Client):
    """Wrong: it obeys a final code for four seconds, then tries again."""

    def delay_s(self, lived_s: float) -> float | None:
        found = super().delay_s(lived_s)
        return 4.0 if found is None else found


@client_subject
class OnDemand(Client):
    """Comes back only when there is something to send. Right with a workload of its own, wrong without one."""

    def delay_s(self, lived_s: float) -> float | None:
        found = super().delay_s(lived_s)
        sends = any(line["sender"] == "client" for line in self.options["workload"])
        return found if sends else None


@client_subject
class NeverBackedOff(Client):
    """Wrong: Close 1013 says to wait, and it comes back at once each time."""

    def delay_s(self, lived_s: float) -> float | None:
        found = super().delay_s(lived_s)
        return 0.01 if self.code == 1013 else found


@client_subject
class NoGrowth(Client):
    """Wrong: each delay is as long as the first."""

    def delay_s(self, lived_s: float) -> float | None:
        found = super().delay_s(lived_s)
        return None if found is None else float(self.options["backoff"]["initial_s"])


@client_subject
class ZeroAgain(Client):
    """Wrong: retries at once, which the plan allows for the first time only, each time."""

    def draw_s(self, cap_s: float, plan: Row, *, first: bool) -> float:
        return 0.0 if first else 0.01


@client_subject
class BelowInitial(Client):
    """Wrong: decorrelated jitter must not go below `initial`; this one does."""

    def draw_s(self, cap_s: float, plan: Row, *, first: bool) -> float:
        return self.rng.uniform(0, plan["initial_s"] / 5)


@client_subject
class Decorrelated(Client):
    """Right: between `initial` and three times the delay before, at most `max` (the rule of the AWS article)."""

    before_s = 0.0

    def draw_s(self, cap_s: float, plan: Row, *, first: bool) -> float:
        low_s = plan["initial_s"]
        last_s = low_s if first else max(low_s, self.before_s)
        self.before_s = min(plan["max_s"], self.rng.uniform(low_s, last_s * 3))
        return float(self.before_s)


@client_subject
class SideBySide(Client):
    """Wrong: every 400 ms another attempt, while those before still hang; the first that opens is kept."""

    async def open(self) -> Wire:
        won: list[Wire] = []

        async def attempt(scope: trio.CancelScope) -> None:
            try:
                wire = await Client.open(self)
            except (Gone, OSError, Refused):
                return
            won.append(wire)
            scope.cancel()

        async with trio.open_nursery() as nursery:
            for _ in range(5):
                nursery.start_soon(attempt, nursery.cancel_scope)
                await trio.sleep(0.4)
            await trio.sleep_forever()
        for spare in won[1:]:
            await spare.cut()
        return won[0]


@client_subject
class ResetsAtOpen(Client):
    """Wrong: an open connection resets the delays, however short it lives."""

    async def open(self) -> Wire:
        wire = await super().open()
        self.failures = 0
        return wire


@client_subject
class SpareByDesign(Client):
    """Right: a second connection stands by; it answers pings, and takes over when the first is lost."""

    async def run(self) -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self.stand_by)
            await super().run()

    async def stand_by(self) -> None:
        spare = Client(self.url.geturl(), {**self.options, "workload": (), "actions": ()})
        await trio.sleep(0.3)
        await spare.run()


@client_subject
class OverlapsShortly(Client):
    """Right: the old connection is closed in the background, and gone before half a second has passed."""

    async def run(self) -> None:
        async with trio.open_nursery() as self.background:
            await super().run()

    async def part(self, wire: Wire) -> None:
        async def later() -> None:
            with trio.CancelScope(shield=False):
                try:
                    await trio.sleep(0.3)
                finally:
                    await wire.cut()

        self.background.start_soon(later)


@client_subject
class KeepsOldSocket(Client):
    """Wrong: it says Close and never ends the old TCP connection."""

    async def part(self, wire: Wire) -> None:
        self.__dict__.setdefault("kept", []).append(wire)
        with trio.move_on_after(0.05):
            try:
                await wire.say_close(1000)
            except Gone:
                pass


@client_subject
class GivesUp503(Client):
    """Wrong: leaves for good at the first 503, which says that the service will be back."""

    async def finish(self) -> None:
        return

    def delay_s(self, lived_s: float) -> float | None:
        return None if self.status == 503 else super().delay_s(lived_s)


@client_subject
class RaisesOnFinal(Client):
    """Wrong: a final code ends the program with an exception, as if it had crashed."""

    async def finish(self) -> None:
        raise ConnectionError(f"closed for good with {self.code or self.status}")


@client_subject
class ReturnsOnFinal(Client):
    """Right: a final code ends the program, with 0."""

    async def finish(self) -> None:
        return


@client_subject
class DiesOn1012(Client):
    """Wrong: 1012 says that the service restarts, and the client raises."""

    def delay_s(self, lived_s: float) -> float | None:
        if self.code == 1012:
            raise ConnectionError("closed with 1012")
        return super().delay_s(lived_s)


@client_subject
class SecondRetryAfter(Client):
    """Wrong: it obeys the Retry-After of the first refusal only."""

    def told_s(self) -> float | None:
        told_s = super().told_s()
        self.times_told = getattr(self, "times_told", 0) + (told_s is not None)
        return told_s if self.times_told <= 1 else None


@client_subject
class NearlyWaits(Client):
    """Wrong: it waits for less than Retry-After says."""

    def told_s(self) -> float | None:
        told_s = super().told_s()
        return None if told_s is None else told_s * 0.85 - 0.2


@client_subject
class SameToken(Client):
    """Wrong: answers each 401 with the token that was refused."""

    def is_final(self) -> bool:
        return self.status not in (401, 403) and super().is_final()


@server_subject
class WantsNewToken(Server):
    """Right: from the fourth second on it takes the new token only."""

    def status_for(self, wire: Wire) -> int:
        old = wire.headers.get("authorization") == "Bearer old"
        self.started_s = getattr(self, "started_s", trio.current_time())
        return 401 if old and trio.current_time() - self.started_s > 2 else super().status_for(wire)


@client_subject
class EarlyOnRetry(Client):
    """Wrong: from the second connection on its first message follows the request without waiting for the 101."""

    async def send_request(self, wire: Wire, head: bytes) -> None:
        again = getattr(self, "again", False)
        self.again = True
        extra = wire.packed(Frame(TEXT, b'{"type": "subscribe"}')) if again else b""
        await wire.send_bytes(head + extra)


@client_subject
class SameSeed(Client):
    """Wrong: all clients draw from one seed, so that they draw the same."""

    def draw_s(self, cap_s: float, plan: Row, *, first: bool) -> float:
        return random.Random(7).uniform(0, cap_s)


@client_subject
class FewReturn(Client):
    """Wrong: of ten clients two come back."""

    def delay_s(self, lived_s: float) -> float | None:
        found = super().delay_s(lived_s)
        return found if self.options["number"] <= 2 else None


@client_subject
class SleepsIn(Client):
    """Wrong: it connects four seconds after it was started."""

    async def run(self) -> None:
        await trio.sleep(4)
        await super().run()


@client_subject
class OneNeverComes(Client):
    """Wrong in client 3 only: it makes no attempt."""

    async def run(self) -> None:
        if self.options["number"] == 3:
            await trio.sleep_forever()
        await super().run()


@client_subject
class FlapsFromStart(Client):
    """Wrong: no connection of it lives for a second."""

    async def converse(self, wire: Wire) -> int | None:
        with trio.move_on_after(0.6):
            await super().converse(wire)
        await self.close(wire, 1000)
        return None

    def delay_s(self, lived_s: float) -> float | None:
        return 0.2


@server_subject
class IgnoresClose(Server):
    """Wrong: it does not do what the timeline asks: to close."""

    async def obey(self, nursery: trio.Nursery) -> None:
        async for _command in self.options["commands"]:
            pass


@client_subject
class ClosesAtSeven(Client):
    """Right: it renews its connection each seven seconds, by its own design, with code 1000."""

    async def converse(self, wire: Wire) -> int | None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self.renew, wire)
            code = await super().converse(wire)
            nursery.cancel_scope.cancel()
        return code

    async def renew(self, wire: Wire) -> None:
        await trio.sleep(6)
        await self.ask_to_close(wire, 1000)


@client_subject
class Storms(Client):
    """Wrong: an attempt each two milliseconds."""

    def delay_s(self, lived_s: float) -> float | None:
        return 0.002


@client_subject
class AtOnceFor42xx(Client):
    """Right by Pusher's rule: 4200 to 4299 are tried again at once, and after that with backoff."""

    def delay_s(self, lived_s: float) -> float | None:
        if self.code is not None and 4200 <= self.code < 4300 and lived_s > 1:
            return 0.0
        return super().delay_s(lived_s)


@client_subject
class WrongEcho(Client):
    """Wrong: whatever code it is closed with, it answers 1000."""

    async def on_close(self, wire: Wire, payload: bytes) -> int:
        await wire.say_close(1000)
        return await super().on_close(wire, payload)


@client_subject
class WrongEchoOfSecond(Client):
    """Wrong in client 2 only: told to close, it cuts TCP and sends no Close frame."""

    async def ask_to_close(self, wire: Wire, code: int | None) -> None:
        if self.options["number"] == 2:
            await wire.cut()
        else:
            await super().ask_to_close(wire, code)


@server_subject
class DiesOnReset(Server):
    """Wrong: the end of one connection ends the server."""

    async def serve(self, stream: trio.abc.Stream) -> None:
        await super().serve(stream)
        if self.accepted:
            raise RuntimeError("a handler failed")


@server_subject
class ForgetsAccept(Server):
    """Wrong: when it was started again it answers with the accept key of another request."""

    def __init__(self, options: Row) -> None:
        super().__init__(options)
        self.starts = options["sessions"]["starts"] = options["sessions"].get("starts", 0) + 1

    def accept_for(self, wire: Wire) -> str:
        return super().accept_for(wire) if self.starts == 1 else "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="


@client_subject
class ExitsOnLoss(Client):
    """Wrong: the loss of its connection ends the program, as `sys.exit` does."""

    def delay_s(self, lived_s: float) -> float | None:
        raise SystemExit(3)


@client_subject
class EarlyAndRefused(Client):
    """Wrong: it sends behind its request, without waiting, on attempts after a refusal only."""

    async def send_request(self, wire: Wire, head: bytes) -> None:
        early = getattr(self, "refused", False)
        self.refused = False
        extra = wire.packed(Frame(TEXT, b'{"type": "subscribe"}')) if early else b""
        await wire.send_bytes(head + extra)

    def delay_s(self, lived_s: float) -> float | None:
        self.refused = self.status == 503
        return super().delay_s(lived_s)


@client_subject
class IgnoresBoth(Client):
    """Wrong: told by Retry-After when to come, it comes at once, which no backoff would allow either."""

    def delay_s(self, lived_s: float) -> float | None:
        found = super().delay_s(lived_s)
        return 0.02 if self.status == 503 else found


@client_subject
class AuthStorm(Client):
    """Wrong: each 401 is answered at once with new credentials, for ever."""

    def is_final(self) -> bool:
        return self.status != 401 and super().is_final()

    def delay_s(self, lived_s: float) -> float | None:
        found = super().delay_s(lived_s)
        return 0.02 if self.status == 401 else found


@client_subject
class ClosesTwice(Client):
    """Wrong: told to close, it closes the connection that it has then, and the next one as well."""

    told = False

    async def ask_to_close(self, wire: Wire, code: int | None) -> None:
        self.told = True
        await super().ask_to_close(wire, code)

    async def converse(self, wire: Wire) -> int | None:
        if not self.told:
            return await super().converse(wire)
        self.told = False
        with trio.move_on_after(0.5):
            await super().converse(wire)
        await self.close(wire, 1000)
        return None


@client_subject
class SaysGoodbye(Client):
    """Right: when it is stopped it says Close 1001, as RFC 6455 section 7.4.1 has it, and does not wait for long."""

    async def converse(self, wire: Wire) -> int | None:
        try:
            return await super().converse(wire)
        except trio.Cancelled:
            with trio.CancelScope(shield=True), trio.move_on_after(0.3):
                await self.close(wire, 1001)
            raise


@client_subject
class NeverEnds(Client):
    """Wrong: a task of it cannot be cancelled."""

    async def run(self) -> None:
        try:
            await super().run()
        finally:
            with trio.CancelScope(shield=True):
                await trio.sleep_forever()


@client_subject
class NoPause(Client):
    """Wrong: it tries again at once, for ever."""

    def delay_s(self, lived_s: float) -> float | None:
        return 0.0
