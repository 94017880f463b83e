"""Subjects of the second attack: clients and servers as people write them, and some that are wrong."""

from __future__ import annotations

import json
import random
import sys
from email.utils import formatdate
from pathlib import Path
import time

sys.path.insert(0, str(Path(__file__).parent.parent))

import trio
from rig import (AUTH, FINAL_CODES, LONG_CODES, Client, Peer, Server, client_subject, server_subject)
from rig_wire import BINARY, CLOSE, CONTINUATION, PING, PONG, TEXT, Breach, Frame, Gone, Refused, Wire, pack, parse_head, accept_key

from chaos import report, subject

Right = client_subject(Client)
RightServer = server_subject(Server)


# --- policies -------------------------------------------------------------------------------------
def spans(text):
    found = set()
    for part in text.replace("–", "-").split(","):
        if part.strip():
            low, _, high = part.strip().partition("-")
            found |= set(range(int(low), int(high or low) + 1))
    return found


POLICIES = {
    "pusher": {"now": "4200-4299", "long": "1011,1013", "auth": "3000",
               "never": "1002-1003,1007-1008,1010,1015,3003,4000-4099,4300-4999"},
    "discord": {"long": "1011,1013", "auth": "3000", "never": "1002-1003,1007-1008,1010,1015,3003,4004,4010-4014"},
    "graphql-ws": {"auth": "3000", "never": "1002-1004,1007-1011,1015-1999,3003,4004-4005,4400-4401,4406,4409,4429,4500"},
    "centrifugo": {"long": "1011,1013", "never": "1002-1003,1007-1010,1015,3500-3999,4500-4999"},
    "rfc": {"long": "1011,1013", "auth": "3000,4401", "never": "1002-1003,1007-1008,1010,1015,3003,4000-4099,4403"},
}


class Obeys(Client):
    """Right: does what the named policy says."""

    nows = auths = longs = 0
    exits = False

    def reaction(self):
        policy = self.options["policy"]
        own = policy if isinstance(policy, dict) else {}
        for key, value in own.items():
            if str(self.code) in [part.strip() for part in str(key).split(",")]:
                return value
        table = POLICIES[policy if isinstance(policy, str) else "rfc"]
        for word, text in table.items():
            if self.code in spans(text):
                return word
        return "backoff"

    def delay_s(self, lived_s):
        plan = self.options["backoff"]
        if lived_s >= self.options["stable_after_s"]:
            self.failures = self.nows = self.auths = 0
        if self.code is not None:
            react = self.reaction()
            report("note", text=f"code {self.code}: {react}")
            if react == "never":
                return None
            if react == "now":
                self.nows += 1
                if self.nows == 1:
                    return 0.0
            if react == "auth":
                self.auths += 1
                self.token = "new"
                if self.auths > 1:
                    return None
                return self.rng.uniform(0, plan["initial_s"])
            if react == "long":
                return self.rng.uniform(plan["max_s"] / 2, plan["max_s"])
            self.code = None
        return Client.delay_s(self, 0.0) if self.code is None else self.step()

    def step(self):
        self.code = None
        return Client.delay_s(self, 0.0)


ObeysPolicy = client_subject(Obeys)


@client_subject
class ObeysAndReturns(Obeys):
    """Right: returns after what is final."""

    async def finish(self):
        return


@client_subject
class AlwaysNow(Obeys):
    """Wrong: at once each time."""

    def delay_s(self, lived_s):
        return 0.0 if self.code is not None and self.reaction() == "now" else super().delay_s(lived_s)


@client_subject
class AlwaysBacksOff(Obeys):
    """Wrong where anything is final: it never stays away."""

    def delay_s(self, lived_s):
        self.code = None
        return super().delay_s(lived_s)


# --- clients that close by themselves with codes ---------------------------------------------------
class OwnCode(Client):
    """Right: its heartbeat ends the connection with a code of its own, the echo of which means nothing."""

    own = 4000

    async def converse(self, wire):
        code = await super().converse(wire)
        if wire.said_close and getattr(wire, "mine", False):
            return None
        return code

    async def give_up(self, wire):
        wire.mine = True
        with trio.move_on_after(0.05):
            await wire.say_close(self.own)
        with trio.move_on_after(0.5):
            await trio.sleep_forever()


Own4000 = client_subject(OwnCode)


@client_subject
class Own1011(OwnCode):
    own = 1011


@client_subject
class Own1008(OwnCode):
    own = 1008


# --- several connections ------------------------------------------------------------------------------
class TwoFeeds(Client):
    """Right: two connections by design, public and private, each with its own series of delays."""

    role = "public"

    async def run(self):
        other = type(self)(self.url.geturl(), self.options)
        other.role = "private"
        other.rng = random.Random(f"{self.options['seed']}/private")
        async with trio.open_nursery() as nursery:
            nursery.start_soon(super().run)
            await trio.sleep(0.05)
            nursery.start_soon(Client.run, other)

    def more_headers(self):
        yield f"X-Feed: {self.role}"

    def tasks(self, wire):
        for task in super().tasks(wire):
            if self.role == "public" or task == self.beat:
                yield task


TwoFeedsClient = client_subject(TwoFeeds)


@server_subject
class TwoFeedsServer(Server):
    """Right: workload on the public feed alone; the private one is for orders."""

    async def talk(self, wire, line):
        if wire.headers.get("x-feed") == "private":
            return
        while True:
            number = self.number_of(wire)
            newest = [row for row in self.wires if row.headers.get("x-feed") != "private" and self.number_of(row) == number][-1:]
            if newest == [wire] and not wire.said_close:
                await self.say(wire, line)
            await trio.sleep(line["every_s"])


@client_subject
class Rotating(Client):
    """Right: every three seconds it opens a new connection, and closes the old one when the new one is open."""

    async def run(self):
        async with trio.open_nursery() as nursery:
            while True:
                await self.online.wait()
                try:
                    with trio.fail_after(self.options["connect_timeout_s"]):
                        wire = await self.open()
                except (Refused, Gone, OSError, trio.TooSlowError):
                    await trio.sleep(self.delay_s(0.0))
                    continue
                over = trio.Event()
                nursery.start_soon(self.use, wire, over)
                with trio.move_on_after(3.0) as lasted:
                    await over.wait()
                if lasted.cancelled_caught:
                    nursery.start_soon(self.retire, wire)
                else:
                    await trio.sleep(self.delay_s(trio.current_time() - wire.opened_s))

    async def use(self, wire, over):
        await self.converse(wire)
        await self.part(wire)
        over.set()

    async def retire(self, wire):
        await trio.sleep(0.2)
        await self.ask_to_close(wire, 1000)


@client_subject
class RotatingPlain(Client):
    """Right: every three seconds it closes with 1000, and opens a new connection by its schedule."""

    async def converse(self, wire):
        with trio.move_on_after(3.0) as scope:
            return await super().converse(wire)
        if scope.cancelled_caught:
            await self.close(wire, 1000)
        return None


# --- application heartbeats -----------------------------------------------------------------------
class Phoenix(Client):
    """Right: an application heartbeat each second; without its reply within two, the connection is given up."""

    async def beat(self, wire):
        plan = self.options["heartbeat"]
        wire.replies = set()
        ref = 0
        while True:
            await trio.sleep(plan["interval_s"])
            ref += 1
            await wire.send(TEXT, json.dumps([None, str(ref), "phoenix", "heartbeat", {}]).encode())
            with trio.move_on_after(plan["timeout_s"]):
                while ref not in wire.replies:
                    await trio.sleep(0.05)
            if ref not in wire.replies:
                with trio.move_on_after(0.05):
                    await wire.say_close(1000)
                raise Gone

    def decode(self, payload):
        row = json.loads(payload)
        if isinstance(row, list) and row[3] == "phx_reply":
            self.wire.replies.add(int(row[1]))
            return None
        return super().decode(payload)


PhoenixClient = client_subject(Phoenix)


class PhoenixServ(Server):
    """Right: replies to each heartbeat; no pings; closes what was silent for too long."""

    replies = 10**9

    async def beat(self, wire):
        wire.heard_s = trio.current_time()
        while True:
            await trio.sleep(0.1)
            if trio.current_time() - wire.heard_s > 4.5:
                with trio.move_on_after(0.05):
                    await wire.say_close(1000)
                raise Gone

    async def on_message(self, wire, opcode, payload):
        row = json.loads(payload)
        wire.heard_s = trio.current_time()
        if isinstance(row, list):
            wire.count = getattr(wire, "count", 0) + 1
            if wire.count <= self.replies:
                await wire.send(TEXT, json.dumps([None, row[1], "phoenix", "phx_reply", {"status": "ok"}]).encode())
            return
        await super().on_message(wire, opcode, payload)


PhoenixServer = server_subject(PhoenixServ)


@server_subject
class PhoenixServerStopsReplying(PhoenixServ):
    """Wrong: after two replies no heartbeat of a connection is answered."""

    replies = 6


@client_subject
class PhoenixStopsBeating(Phoenix):
    """Wrong: after two heartbeats it sends none, and answers no pings either."""

    async def beat(self, wire):
        plan = self.options["heartbeat"]
        wire.replies = set()
        for ref in range(1, 7):
            await trio.sleep(plan["interval_s"])
            await wire.send(TEXT, json.dumps([None, str(ref), "phoenix", "heartbeat", {}]).encode())
        await trio.sleep_forever()


class EngineServer(Server):
    """Right: Engine.IO 4: `2` each second, and gives up whoever does not answer `3` in two seconds."""

    async def beat(self, wire):
        wire.answers = 0
        sent = 0
        while True:
            await trio.sleep(1.0)
            sent += 1
            await wire.send(TEXT, b"2")
            with trio.move_on_after(2.0):
                while wire.answers < sent:
                    await trio.sleep(0.05)
            if wire.answers < sent:
                await self.end(wire)
                raise Gone

    async def end(self, wire):
        with trio.move_on_after(0.05):
            await wire.say_close(None)

    async def on_message(self, wire, opcode, payload):
        if payload == b"3":
            wire.answers += 1
            return
        await super().on_message(wire, opcode, payload)


EngineIO = server_subject(EngineServer)


@server_subject
class EngineIOCuts(EngineServer):
    """Right: as above, and ends the TCP connection without a Close."""

    async def end(self, wire):
        await wire.cut()


class EngineCl(Client):
    """Right: answers `2` with `3`; gives up when no `2` came for three seconds."""

    answers = 10**9

    async def beat(self, wire):
        wire.heard_s = trio.current_time()
        wire.done = 0
        while True:
            await trio.sleep(0.05)
            if trio.current_time() - wire.heard_s > 3.5:
                with trio.move_on_after(0.05):
                    await wire.say_close(1000)
                raise Gone

    async def on_message(self, wire, opcode, payload):
        if payload == b"2":
            wire.heard_s = trio.current_time()
            wire.done += 1
            if wire.done <= self.answers:
                await wire.send(TEXT, b"3")
            return
        await super().on_message(wire, opcode, payload)


EngineClient = client_subject(EngineCl)


@client_subject
class EngineClientForgets(EngineCl):
    """Wrong: after two it answers no more."""

    answers = 6


@server_subject
class EngineServerStops(EngineServer):
    """Wrong: its heartbeat ends after two beats of each connection; it goes on sending data."""

    async def beat(self, wire):
        wire.answers = 0
        for _ in range(6):
            await trio.sleep(1.0)
            await wire.send(TEXT, b"2")
        await trio.sleep_forever()


@client_subject
class DataWatch(Client):
    """Right: a feed that is silent for 3.5 s is taken for dead, pings or not."""

    async def beat(self, wire):
        wire.heard_s = trio.current_time()
        while True:
            await trio.sleep(0.05)
            if trio.current_time() - wire.heard_s > 3.5:
                with trio.move_on_after(0.05):
                    await wire.say_close(1000)
                raise Gone

    async def on_message(self, wire, opcode, payload):
        wire.heard_s = trio.current_time()
        await super().on_message(wire, opcode, payload)


@server_subject
class FeedStalls(Server):
    """Wrong: after two seconds of each connection it sends no data; it answers pings."""

    async def talk(self, wire, line):
        with trio.move_on_after(4.0):
            await super().talk(wire, line)
        await trio.sleep_forever()


@client_subject
class PingWatch(Client):
    """Right: the server's pings are its heartbeat; without one for 2.5 s the connection is given up."""

    async def beat(self, wire):
        wire.heard_s = trio.current_time()
        while True:
            await trio.sleep(0.05)
            if trio.current_time() - wire.heard_s > 3.5:
                await self.give_up(wire)
                raise Gone

    async def on_ping(self, wire, payload):
        wire.heard_s = trio.current_time()
        await super().on_ping(wire, payload)


@server_subject
class PingsStop(Server):
    """Wrong: its pings end after two; data goes on."""

    async def beat(self, wire):
        for _ in range(6):
            await trio.sleep(1)
            await self.answered(wire, 2)
        await trio.sleep_forever()


@server_subject
class LatePongs(Server):
    """Wrong: it answers pings after 2.6 s where 2 s are what one may wait."""

    async def converse(self, wire):
        async with trio.open_nursery() as nursery:
            wire.nursery = nursery
            code = await super().converse(wire)
            nursery.cancel_scope.cancel()
        return code

    async def on_ping(self, wire, payload):
        async def later():
            await trio.sleep(2.6)
            try:
                await wire.send(PONG, payload)
            except Gone:
                pass
        wire.nursery.start_soon(later)


@server_subject
class CutsAtRandom(Server):
    """Wrong: it ends TCP without a Close after three seconds of each connection."""

    async def live(self, wire):
        with trio.move_on_after(3.0):
            await super().live(wire)


@client_subject
class CutsItself(Client):
    """Wrong: it ends TCP without a Close after three seconds of each connection."""

    async def converse(self, wire):
        with trio.move_on_after(3.0):
            return await super().converse(wire)
        return None


@client_subject
class BadTextClient(Client):
    """Wrong: its third message is no UTF-8."""

    n = 0

    async def put(self, wire, row, line):
        self.n += 1
        if self.n % 8 == 0:
            await wire.send(TEXT, b"\xff\xfe\xfd")
        await super().put(wire, row, line)


@server_subject
class IdleCloser(Server):
    """Right by its own rule: closes a client that said nothing for two seconds with 1001."""

    async def beat(self, wire):
        wire.heard_s = trio.current_time()
        while True:
            await trio.sleep(0.05)
            if trio.current_time() - wire.heard_s > 2.0:
                await self.ask_to_close(wire, 1001)
                raise Gone

    async def on_message(self, wire, opcode, payload):
        wire.heard_s = trio.current_time()
        await super().on_message(wire, opcode, payload)


# --- silence --------------------------------------------------------------------------------------
@client_subject
class OneOfTenSilent(Client):
    """Wrong: client 10 never sends its workload."""

    async def say(self, wire, line):
        if self.options["number"] != 10:
            await super().say(wire, line)


@client_subject
class OneOfTenStops(Client):
    """Wrong: client 10 sends for a second only."""

    async def talk(self, wire, line):
        if self.options["number"] != 10:
            return await super().talk(wire, line)
        with trio.move_on_after(1.1):
            await super().talk(wire, line)
        await trio.sleep_forever()


@server_subject
class ForgetsTen(Server):
    """Wrong: client 10 gets nothing after its first second."""

    async def talk(self, wire, line):
        if self.number_of(wire) != 10:
            return await super().talk(wire, line)
        with trio.move_on_after(1.1):
            await super().talk(wire, line)
        await trio.sleep_forever()


@client_subject
class HandlesNothingOnTen(Client):
    """Wrong: client 10 handles nothing after its first second."""

    async def handle(self, wire, row):
        if self.options["number"] != 10 or row["id"] < 5:
            await super().handle(wire, row)


@client_subject
class BurstThenSilent(Client):
    """Wrong: the whole workload of ten seconds at once, and then silence."""

    async def talk(self, wire, line):
        for _ in range(40):
            await self.say(wire, line)
        await trio.sleep_forever()


@server_subject
class Batches500(Server):
    """Right: two messages each 500 ms where one is due each 250 ms."""

    async def talk(self, wire, line):
        while True:
            await self.say(wire, line)
            await self.say(wire, line)
            await trio.sleep(2 * line["every_s"])


@server_subject
class GlobalTicker(Server):
    """Right: one ticker for all, from its start: the first message of a new connection comes with the next tick."""

    async def run(self, host, port, task_status):
        async with trio.open_nursery() as nursery:
            for line in self.options["workload"]:
                if line["sender"] == "server":
                    nursery.start_soon(self.tick, line)
            await super().run(host, port, task_status)

    def tasks(self, wire):
        if self.options.get("heartbeat"):
            yield self.beat

    async def tick(self, line):
        n = 0
        while True:
            n += 1
            for wire in tuple(self.wires):
                try:
                    await wire.send(TEXT, self.encode({"id": n, "sender": "server"}, line["size"]))
                except Gone:
                    pass
            report("send", id=n)
            await trio.sleep(line["every_s"])


@client_subject
class Subscribes(Client):
    """Right: asks for the feed after each open."""

    async def converse(self, wire):
        await wire.send(TEXT, b'{"op":"subscribe"}')
        return await super().converse(wire)


@client_subject
class SubscribesOnce(Client):
    """Wrong: asks for the feed on its first connection only."""

    asked = False

    async def converse(self, wire):
        if not self.asked:
            self.asked = True
            await wire.send(TEXT, b'{"op":"subscribe"}')
        return await super().converse(wire)


@server_subject
class SendsToSubscribers(Server):
    """Right: sends after the subscription, 300 ms later (it looks things up)."""

    async def talk(self, wire, line):
        wire.subscribed = getattr(wire, "subscribed", trio.Event())
        await wire.subscribed.wait()
        await trio.sleep(0.3)
        await super().talk(wire, line)

    async def on_message(self, wire, opcode, payload):
        if json.loads(payload) == {"op": "subscribe"}:
            wire.subscribed = getattr(wire, "subscribed", trio.Event())
            wire.subscribed.set()
            return
        await super().on_message(wire, opcode, payload)


@client_subject
class Echoes(Client):
    """Right: speaks only when spoken to: one answer for each message."""

    def tasks(self, wire):
        if self.options.get("heartbeat"):
            yield self.beat

    async def handle(self, wire, row):
        await super().handle(wire, row)
        line = next(line for line in self.options["workload"] if line["sender"] == "client")
        await self.say(wire, line)


# --- backoff --------------------------------------------------------------------------------------
@client_subject
class ReconnectingWebSocket(Client):
    """Right: pladaria/reconnecting-websocket: min delay, growth 1.3, no jitter, reset after min uptime."""

    def draw_s(self, cap_s, plan, *, first):
        return cap_s


@client_subject
class GrpcLike(Client):
    """Right: the delay counts from the start of the attempt (gRPC)."""

    async def run(self):
        while True:
            started_s = trio.current_time()
            lived_s = await self.once()
            delay_s = self.delay_s(lived_s)
            if delay_s is None:
                await trio.sleep_forever()
            base_s = trio.current_time() if lived_s else started_s
            await trio.sleep(max(0.0, base_s + delay_s - trio.current_time()))


@client_subject
class Decorrelated3(Client):
    """Right: AWS: min(cap, uniform(base, 3 * previous))."""

    previous = None

    def draw_s(self, cap_s, plan, *, first):
        if first or self.previous is None:
            self.previous = plan["initial_s"]
        self.previous = min(plan["max_s"], self.rng.uniform(plan["initial_s"], 3 * self.previous))
        return self.previous


@client_subject
class LeavesAfterMax(Client):
    """Right: returns after `attempts_max` failures in a row."""

    async def finish(self):
        return


@client_subject
class LeavesTooEarly(Client):
    """Wrong: returns after one failure less than stated."""

    def delay_s(self, lived_s):
        plan = self.options["backoff"]
        if self.failures >= plan["attempts_max"] - 1:
            return None
        return super().delay_s(lived_s)

    async def finish(self):
        return


class DateServer(Server):
    """Right: refuses with a Retry-After of a date, by a clock that is an hour ahead."""

    skew_s = 3600.0

    async def refuse(self, wire, status):
        now = time.time() if not hasattr(trio, "x") else 0
        now = time.time() + self.skew_s
        lines = [f"HTTP/1.1 {status} Refused", "Content-Length: 0", "Connection: close",
                 f"Date: {formatdate(now, usegmt=True)}", f"Retry-After: {formatdate(now + 3, usegmt=True)}"]
        await wire.send_bytes("\r\n".join([*lines, "", ""]).encode())


SkewedDate = server_subject(DateServer)


@server_subject
class SkewedBack(DateServer):
    skew_s = -3600.0


@client_subject
class WaitsByServersClock(Client):
    """Right: Retry-After less Date."""

    def told_s(self):
        from email.utils import parsedate_to_datetime as read
        told = self.fields.get("retry-after")
        if not told:
            return None
        return (read(told) - read(self.fields["date"])).total_seconds()


class Status(Server):
    """Refuses with a status the second connection and those after it, `times` times."""

    status, times, extra = 429, 2, ()
    seen = 0

    def status_for(self, wire):
        self.seen += 1
        if 1 < self.seen <= 1 + self.times:
            return self.status
        return 101

    async def refuse(self, wire, status):
        lines = [f"HTTP/1.1 {status} Refused", "Content-Length: 0", "Connection: close", *self.extra]
        await wire.send_bytes("\r\n".join([*lines, "", ""]).encode())


def status_server(status, times, *extra):
    return server_subject(type("S", (Status,), {"status": status, "times": times, "extra": extra}))


S429 = status_server(429, 3)
S429Told = status_server(429, 3, "Retry-After: 1")
S503Zero = status_server(503, 3, "Retry-After: 0")
S401 = status_server(401, 9)
S401Once = status_server(401, 1)
S403 = status_server(403, 9)
S404 = status_server(404, 9)
S426 = status_server(426, 9)
S500 = status_server(500, 3)
S502 = status_server(502, 4)
S200 = status_server(200, 3)
S302 = status_server(302, 1, "Location: /next")
S307 = status_server(307, 1, "Location: /next")
S302Loop = status_server(302, 10**6, "Location: /next")
S302Three = status_server(302, 3, "Location: /next")
for odd_i, odd in enumerate(["-1", "1e3", "1.5", "9" * 400, "", "Fri, 31 Feb 2026 10:00:00 GMT", "0x10", "1, 2", "\xb2", " 2 ", "+2", "Fri, 01 Jan 99999 00:00:00 GMT", "Sunday, 06-Nov-94 08:49:37 GMT", "Sun Nov  6 08:49:37 1994", "Sat, 01 Jan 0000 00:00:00 GMT", "١"]):
    globals()[f"Odd{odd_i}"] = server_subject(
        type("S", (Status,), {"status": 503, "times": 3, "extra": (f"Retry-After: {odd}",),
             "refuse": lambda self, wire, status: wire.send_bytes("\r\n".join([f"HTTP/1.1 {status} Refused", "Content-Length: 0", "Connection: close", *self.extra, "", ""]).encode("utf-8", "surrogateescape"))}))


@client_subject
class Follows(Client):
    """Right: follows a redirect at once, up to ten in a row."""

    hops = 0

    def delay_s(self, lived_s):
        if self.status in (301, 302, 303, 307, 308) and self.hops < 10:
            self.hops += 1
            return 0.0
        self.hops = 0
        return super().delay_s(lived_s)


@client_subject
class FollowsForEver(Client):
    """Wrong: follows redirects at once for ever."""

    def delay_s(self, lived_s):
        if self.status in (301, 302, 303, 307, 308):
            return 0.005
        return super().delay_s(lived_s)


@client_subject
class ReturnsOnFinal(Client):
    async def finish(self):
        return


class Closer(Server):
    """Closes each connection after a second with `codes` in turn, then lives."""

    codes = (4200,)
    n = 0

    async def live(self, wire):
        if self.n < len(self.codes):
            code = self.codes[self.n]
            self.n += 1
            async with trio.open_nursery() as nursery:
                async def end():
                    await trio.sleep(self.after_s(self.n))
                    await self.ask_to_close(wire, code)
                    nursery.cancel_scope.cancel()
                nursery.start_soon(end)
                await self.converse(wire)
                nursery.cancel_scope.cancel()
            return
        await super().live(wire)

    def after_s(self, n):
        return 2.5 if n == 1 else 0.3


def closer(*codes):
    return server_subject(type("C", (Closer,), {"codes": codes}))


C4200x4 = closer(4200, 4200, 4200, 4200)
C4100 = closer(4100, 4100, 4100)
C4300 = closer(4300)
C4004 = closer(4004)
C4009 = closer(4009, 4009, 4009)
C4000 = closer(4000, 4000, 4000)
C4500 = closer(4500)
C4499 = closer(4499, 4499)
C1011 = closer(1011, 1011)
C1013 = closer(1013, 1013)
C3000 = closer(3000, 3000)
C3000one = closer(3000)
C3500 = closer(3500)
C4401 = closer(4401, 4401)
C4401one = closer(4401)
C1000 = closer(1000, 1000, 1000)
C1012 = closer(1012, 1012)


# --- exits ----------------------------------------------------------------------------------------
class Dies(Client):
    what = SystemExit(0)
    n = 0

    async def once(self):
        self.n += 1
        if self.n > 1:
            await trio.sleep(0.3)
            raise self.what
        return await super().once()


class Own(BaseException):
    pass


SysExit = client_subject(type("D", (Dies,), {"what": SystemExit(0)}))
Interrupts = client_subject(type("D", (Dies,), {"what": KeyboardInterrupt()}))
OwnBase = client_subject(type("D", (Dies,), {"what": Own("own")}))
GenExit = client_subject(type("D", (Dies,), {"what": GeneratorExit()}))
StopIt = client_subject(type("D", (Dies,), {"what": StopAsyncIteration()}))
Group = client_subject(type("D", (Dies,), {"what": BaseExceptionGroup("both", [SystemExit(1), ValueError("\ud800 odd")])}))


@client_subject
class CancelsAll(Client):
    """Wrong: ends by a cancellation of its own after the loss, and so returns."""

    async def once(self):
        lived_s = await super().once()
        return lived_s

    async def run(self):
        with trio.CancelScope() as scope:
            await self.once()
            scope.cancel()
            await trio.lowlevel.checkpoint()


# --- reports ----------------------------------------------------------------------------------------
@client_subject
class OddReports(Client):
    """NOCRASH: reports what it should not."""

    async def handle(self, wire, row):
        for value in (None, "7", 1.5, 10**40, -1, True, [1], {"a": 1}, float("nan"), float("inf"), "\ud800", "", b"x", object()):
            for kind in ("message", "send"):
                try:
                    report(kind, id=value, sender="server-1")
                    report(kind, id=3, sender=value)
                except Exception as error:
                    report("note", text=str(type(error)))
        for kind in ("felt", "open", "attempt", "banana", "", "state"):
            try:
                report(kind, state="banana", connection=7, client=99, at_s=-1)
            except Exception as error:
                report("note", text=f"{kind}: {type(error).__name__}: {error}")
        await super().handle(wire, row)


@client_subject
class FeltByReport(Client):
    """Wrong: claims to be fine by reports of the link's own events."""

    async def once(self):
        for kind in ("open", "frame", "attempt", "closed"):
            try:
                report(kind, client=1, connection=2)
            except Exception:
                pass
        return await super().once()


# --- actions ---------------------------------------------------------------------------------------------
@subject(sends=True, actions=("close", "reject", "send"), tells_clients=True)
async def TellsClients(host, port, *, task_status, **options):
    class S(Server):
        async def obey(self, nursery):
            async for command in self.options["commands"]:
                for wire in tuple(self.wires):
                    if command.clients is None or self.number_of(wire) in command.clients:
                        if command.action == "close":
                            nursery.start_soon(self.ask_to_close, wire, command.parameters["code"])
                        elif command.action == "send":
                            await self.say(wire, {"binary": False, **command.parameters})
    await S(options).run(host, port, task_status)


@subject(sends=True, actions=("close", "reject", "send"), tells_clients=True)
async def TellsWrongClients(host, port, *, task_status, **options):
    """Wrong: it closes everybody."""
    class S(Server):
        async def obey(self, nursery):
            async for command in self.options["commands"]:
                for wire in tuple(self.wires):
                    if command.action == "close":
                        nursery.start_soon(self.ask_to_close, wire, command.parameters["code"])
    await S(options).run(host, port, task_status)


# --- those that cannot send or report ---------------------------------------------------------------------
async def plain_client(url, *, heartbeat=None, backoff=None, connect_timeout_s=10.0, **options):
    """Right, and says nothing of itself: no reports, no declaration."""
    class C(Client):
        async def handle(self, wire, row):
            pass
        def tasks(self, wire):
            if heartbeat:
                yield self.beat
    await C(url, {"heartbeat": heartbeat, "backoff": backoff, "connect_timeout_s": connect_timeout_s, **options}).run()


async def plain_server(host, port, *, task_status, heartbeat=None, **options):
    """Right: an echo server; sends nothing by itself."""
    class S(Server):
        def tasks(self, wire):
            if heartbeat:
                yield self.beat
        async def on_message(self, wire, opcode, payload):
            await wire.send(opcode, payload)
    await S({"heartbeat": heartbeat, "workload": (), **options}).run(host, port, task_status)


# --- leaks ---------------------------------------------------------------------------------------------
@client_subject
class AnyioChannels(Client):
    """Wrong: an anyio memory stream of each connection stays."""

    kept = []

    async def converse(self, wire):
        import anyio
        self.kept_here = getattr(self, "kept_here", [])
        self.kept_here.append(anyio.create_memory_object_stream(1))
        return await super().converse(wire)


@client_subject
class StdPairs(Client):
    """Wrong: a socket pair of each connection stays open."""

    async def converse(self, wire):
        import socket
        self.kept_here = getattr(self, "kept_here", [])
        self.kept_here.append(socket.socketpair())
        return await super().converse(wire)


@client_subject
class Threads(Client):
    """Right: a thread's work of each connection ends with it."""

    async def converse(self, wire):
        await trio.to_thread.run_sync(lambda: None)
        return await super().converse(wire)


@server_subject
class KeepsAnyio(Server):
    """Wrong: the server keeps a channel of each connection."""

    async def live(self, wire):
        self.kept = getattr(self, "kept", [])
        self.kept.append(trio.open_memory_channel(1))
        await super().live(wire)


@server_subject
class SystemTasks(Server):
    """Wrong: a system task for each connection stays."""

    async def live(self, wire):
        trio.lowlevel.spawn_system_task(trio.sleep_forever)
        await super().live(wire)


@client_subject
class LeavesEverySecond(Client):
    """Wrong: a task stays for every second connection."""

    n = 0

    async def run(self):
        async with trio.open_nursery() as self.nursery:
            await super().run()

    async def converse(self, wire):
        self.n += 1
        if self.n % 2:
            trio.lowlevel.spawn_system_task(trio.sleep_forever)
        return await super().converse(wire)


@client_subject
class BoundedHistory(Client):
    """Right: the last 5 connections stay in a deque, as for a debug page."""

    async def part(self, wire):
        from collections import deque
        self.history = getattr(self, "history", deque(maxlen=5))
        self.history.append(wire)
        await super().part(wire)


class Twice:
    count = 0

    def status_for(self, wire):
        self.count += 1
        return 503 if 1 < self.count < 4 else 101


SkewedDateTwice = server_subject(type("S", (Twice, DateServer), {}))
SkewedBackTwice = server_subject(type("S", (Twice, DateServer), {"skew_s": -3600.0}))
