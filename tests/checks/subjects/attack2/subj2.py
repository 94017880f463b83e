"""More subjects of the second attack: handshakes, frames, envelopes."""

from __future__ import annotations

from subj import *


# --- on demand, resume ------------------------------------------------------------------------------
@client_subject
class OnDemand(Client):
    """Right: after a normal close by the server it comes back when it has something to send, four seconds later."""

    def delay_s(self, lived_s):
        found = super().delay_s(lived_s)
        return 4.0 if self.code in (1000, 1001) else found


@server_subject
class ClosesIdle(Server):
    """Right by its rule: closes with 1001 what was silent for two seconds."""

    def tasks(self, wire):
        yield from super().tasks(wire)
        yield self.watch

    async def watch(self, wire):
        wire.heard_s = trio.current_time()
        while trio.current_time() - wire.heard_s < 2.0:
            await trio.sleep(0.05)
        await self.ask_to_close(wire, 1001)
        raise Gone

    async def on_message(self, wire, opcode, payload):
        wire.heard_s = trio.current_time()
        await super().on_message(wire, opcode, payload)


@server_subject
class Replays(Server):
    """Right: a session: what was sent while the client was away is sent at its return, from the last number that it has."""

    log = 0

    async def talk(self, wire, line):
        number = self.number_of(wire)
        self.have = getattr(self, "have", {})
        while True:
            newest = [row for row in self.wires if self.number_of(row) == number][-1:]
            if newest == [wire] and not wire.said_close:
                due = int(trio.current_time() / line["every_s"]) if False else self.last_id.get(number, 0) + 1
                self.last_id[number] = due
                await wire.send(TEXT, self.encode({"id": due, "sender": "server"}, line["size"]))
                report("send", id=due, to=number)
            await trio.sleep(line["every_s"])

    async def converse(self, wire):
        number = self.number_of(wire)
        last = self.last_id.get(number, 0)
        for old in range(max(1, last - 4), last + 1):
            await wire.send(TEXT, self.encode({"id": old, "sender": "server"}, 64))
        return await super().converse(wire)


@client_subject
class Dedups(Client):
    """Right: a number that it has handled is not handled again."""

    seen = None

    async def handle(self, wire, row):
        self.seen = self.seen if self.seen is not None else set()
        if row["id"] not in self.seen:
            self.seen.add(row["id"])
            await super().handle(wire, row)


# --- handshake -----------------------------------------------------------------------------------------
class Answers(Server):
    more: tuple = ()
    first = "HTTP/1.1 101 Switching Protocols"
    sep = "\r\n"
    upgrade = ("Upgrade: websocket", "Connection: Upgrade")

    def response(self, wire):
        lines = [self.first, *self.upgrade, f"Sec-WebSocket-Accept: {self.accept_for(wire)}", *self.more]
        return self.sep.join([*lines, "", ""]).encode("utf-8", "surrogateescape")


def answers(**over):
    return server_subject(type("A", (Answers,), over))


NoReason = answers(first="HTTP/1.1 101")
OldHttp = answers(first="HTTP/1.0 101 Switching Protocols")
LongHead = answers(more=tuple(f"X-{n}: {'y' * 500}" for n in range(60)))
HugeHead = answers(more=tuple(f"X-{n}: {'y' * 1000}" for n in range(300)))
Utf8Head = answers(more=("X-Name: Grüße ✓", "X-Bytes: \udcff\udcfe"))
ListConn = answers(upgrade=("Upgrade: WebSocket", "Connection: keep-alive, Upgrade"))
NoConn = answers(upgrade=("Upgrade: websocket",))
NoUpgrade = answers(upgrade=("Connection: Upgrade",))
TwoUpgrades = answers(upgrade=("Upgrade: websocket, foo", "Connection: Upgrade"))
Fold = answers(more=("X-Long: a", "  b"))
EmptyProto = answers(more=("Sec-WebSocket-Protocol: ",))
EmptyExt = answers(more=("Sec-WebSocket-Extensions: ",))
ExtNotOffered = answers(more=("Sec-WebSocket-Extensions: permessage-deflate",))
Body101 = answers(more=("Content-Length: 0",))
BadLine = answers(more=("no colon here",))
SpaceName = answers(more=("X Name : a",))
Status1 = answers(first="HTTP/1.1 1 x")
Status999 = answers(first="HTTP/1.1 999 x")
StatusTxt = answers(first="HTTP/1.1 abc x")
Garbage = answers(first="\x00\x01\x02")
Ssh = answers(first="SSH-2.0-OpenSSH_9")
LfOnly = answers(sep="\n")


class Lenient(Client):
    """Takes any 101, and any subprotocol and extension."""

    offers: tuple = ()

    def agree(self, wire):
        pass

    def more_headers(self):
        yield from super().more_headers()
        yield from self.offers


LenientClient = client_subject(Lenient)


def offering(*offers):
    return client_subject(type("L", (Lenient,), {"offers": offers}))


OfferProto = offering("Sec-WebSocket-Protocol: graphql-transport-ws, graphql-ws")
OfferDeflate = offering("Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits, permessage-deflate; server_no_context_takeover, x-webkit-deflate-frame")
OfferDeflate10 = offering("Sec-WebSocket-Extensions: permessage-deflate; server_max_window_bits=10; client_max_window_bits=15")
AnswerProto = answers(more=("Sec-WebSocket-Protocol: graphql-transport-ws",))
AnswerProtoCase = answers(more=("Sec-WebSocket-Protocol: GRAPHQL-TRANSPORT-WS",))
AnswerTwoProto = answers(more=("Sec-WebSocket-Protocol: graphql-transport-ws, graphql-ws",))
for i, ext in enumerate(("permessage-deflate", "permessage-deflate; server_max_window_bits=8", "permessage-deflate; server_max_window_bits=16",
                         "permessage-deflate; server_max_window_bits=7", "permessage-deflate; client_max_window_bits=\"12\"",
                         "permessage-deflate; server_max_window_bits", "permessage-deflate; foo=bar", "x-webkit-deflate-frame", "permessage-deflate, permessage-deflate",
                         "permessage-deflate; client_max_window_bits=010", "permessage-deflate;server_no_context_takeover;client_no_context_takeover", "PERMESSAGE-DEFLATE",
                         "permessage-deflate; server_max_window_bits=²", "permessage-deflate; server_max_window_bits=10; server_max_window_bits=11", "permessage-bzip2", ";;;,,=\"", 'permessage-deflate; client_max_window_bits="1\\2"', "permessage-deflate; server_max_window_bits=" + "9" * 5000)):
    globals()[f"Ext{i}"] = answers(more=(f"Sec-WebSocket-Extensions: {ext}",))


# --- frames ------------------------------------------------------------------------------------------------
class Sends(Server):
    """Sends something odd after two seconds of its first connection."""

    what: tuple = ()
    done = False

    def tasks(self, wire):
        yield from super().tasks(wire)
        if not self.done:
            self.done = True
            yield self.odd

    async def odd(self, wire):
        await trio.sleep(2.0)
        for data in self.what:
            await wire.send_bytes(data)


def sends(*what):
    return server_subject(type("S", (Sends,), {"what": what}))


def f(op, payload=b"", fin=True, rsv=0):
    return pack(Frame(op, payload, fin, rsv), None)


Nested = b"[" * 200000
for i, what in enumerate((
    (f(TEXT, b'{"id": 1e3, "sender": "server"}'),), (f(TEXT, b'{"id": -1, "sender": "server"}'),), (f(TEXT, b'{"id": ' + b"9" * 6000 + b', "sender": "server"}'),),
    (f(TEXT, b'{"id": true, "sender": ["x"]}'),), (f(TEXT, '{"id": "١٢", "sender": "server"}'.encode()),), (f(TEXT, Nested),), (f(TEXT, b'{"id": ' + Nested),),
    (f(TEXT, b'{"a":' * 50000),), (f(TEXT, b'{"id": NaN, "sender": Infinity}'),), (f(TEXT, b'\xef\xbb\xbf{"id": 5, "sender":"server"}'),), (f(TEXT, b'{"id": 5, "id": 6, "sender":"server"}'),),
    (f(TEXT, b'{"id": 5, "sender": "\\ud800"}'),), (f(TEXT, b''),), (f(BINARY, b'\x00' * 2_000_000),), (f(TEXT, b'{"id": 1.0, "sender": "server"}'),), (f(TEXT, b'{"id": 5, "sender": null}'),),
    (f(TEXT, b'"'), f(TEXT, b"\\"), f(TEXT, b'{"id"'), f(TEXT, b'null'), f(TEXT, b'5'), f(TEXT, b'[1]')), (f(TEXT, b'{"id": 5, "sender": "server"', fin=False), f(PING, b"x"), f(CONTINUATION, b"", fin=False), f(CONTINUATION, b"}")),
)):
    globals()[f"Frm{i}"] = sends(*what)
for i, what in enumerate(((f(CLOSE, b"\x03"),), (f(CLOSE, b"\x00\x00"),), (f(CLOSE, b"\x03\xe7"),), (f(CLOSE, b"\xff\xff"),), (f(CLOSE, b"\x03\xe8\xff\xfe"),), (f(CLOSE, b"\x03\xed"),), (f(3, b""),), (f(11, b""),), (f(TEXT, b"a", rsv=4),), (f(TEXT, b"a", fin=False), f(TEXT, b"b")), (b"\x81\x7f" + b"\xff" * 8,), (f(PING, b"a" * 125) + b"\x89\x7e\x00\x80" + b"a" * 128,), (b"HTTP/1.1 400 Bad\r\n\r\n",))):
    globals()[f"Bad{i}"] = sends(*what)


class CSends(Client):
    what: tuple = ()
    done = False

    def tasks(self, wire):
        yield from super().tasks(wire)
        if not self.done:
            self.done = True
            yield self.odd

    async def odd(self, wire):
        await trio.sleep(2.0)
        for frame in self.what:
            await wire.send_bytes(frame if isinstance(frame, bytes) else wire.packed(frame))


for i, what in enumerate(((Frame(CLOSE, b"\x03"),), (Frame(CLOSE, b"\x00\x00"),), (Frame(CLOSE, b"\x03\xe8\xff\xfe"),), (Frame(3),), (Frame(TEXT, b"a", True, 4),), (Frame(TEXT, b"a", False), Frame(TEXT, b"b")), (Frame(CONTINUATION, b"x"),), (Frame(PING, b"x", False),), (Frame(TEXT, b"\xed\xa0\x80"),), (Frame(TEXT, b"\xf0\x9f", False), Frame(CONTINUATION, b"\x98")))):
    globals()[f"CBad{i}"] = client_subject(type("C", (CSends,), {"what": what}))


class StrictText(Server):
    pass


# --- leaving open things -----------------------------------------------------------------------------------
@server_subject
class DataAfterClose(Server):
    """Wrong: sends data after its Close (RFC 6455 section 5.5.1)."""

    async def say(self, wire, line):
        await super().say(wire, line)
        self.k = getattr(self, "k", 0) + 1
        if self.k == 12:
            await wire.send(CLOSE, b"\x03\xe9")
            for _ in range(5):
                await wire.send(TEXT, b"late")


@client_subject
class TimedOpen(Client):
    """Right: three slots, opened one after the other as they are needed (a pool of connections)."""

    async def run(self):
        async with trio.open_nursery() as nursery:
            for n in range(3):
                part = Client(self.url.geturl(), self.options)
                part.rng = random.Random(f"{self.options['seed']}/{n}")
                nursery.start_soon(part.run)
                await trio.sleep(0.2)


@server_subject
class AllWires(Server):
    """Right: a broadcast to every connection."""

    async def talk(self, wire, line):
        while True:
            if not wire.said_close:
                await self.say(wire, line)
            await trio.sleep(line["every_s"])


# --- envelopes ------------------------------------------------------------------------------------------------
class Enveloped:
    @staticmethod
    def wrap(row):
        return b'42["m",' + json.dumps(row).encode() + b"]"

    def encode(self, row, size):
        return self.wrap(row)

    def decode(self, payload):
        if not payload.startswith(b"42"):
            return None
        return json.loads(payload[2:])[1]


SioClient = client_subject(type("C", (Enveloped, Client), {}))
SioServer = server_subject(type("S", (Enveloped, Server), {}))


class SioTwice(Enveloped, Client):
    """Wrong: after a reconnection each message is handled twice."""

    n = 0

    async def converse(self, wire):
        self.n += 1
        return await super().converse(wire)

    async def handle(self, wire, row):
        for _ in range(self.n):
            await super().handle(wire, row)


SioHandlesTwice = client_subject(SioTwice)


class SignalR:
    """Right: JSON hub protocol: records end with 0x1e, several in a message."""

    def encode(self, row, size):
        return json.dumps({"type": 1, "target": "m", "arguments": [row]}).encode() + b"\x1e"

    async def on_message(self, wire, opcode, payload):
        for part in payload.split(b"\x1e"):
            if part:
                row = json.loads(part)
                if row["type"] == 1:
                    await self.handle(wire, row["arguments"][0])


SrClient = client_subject(type("C", (SignalR, Client), {}))
SrServer = server_subject(type("S", (SignalR, Server), {}))


class SrBatchServer(SignalR, Server):
    """Right: two records in each message."""

    async def talk(self, wire, line):
        n = 0
        while True:
            self.last_id[1] = self.last_id.get(1, 0) + 2
            n = self.last_id[1]
            await wire.send(TEXT, self.encode({"id": n - 1, "sender": "server"}, 64) + self.encode({"id": n, "sender": "server"}, 64))
            report("send", id=n - 1, to=1)
            report("send", id=n, to=1)
            await trio.sleep(2 * line["every_s"])


SrBatch = server_subject(SrBatchServer)


class Mqtt:
    """Right: MQTT PUBLISH in binary frames, number in eight bytes behind the topic."""

    def encode(self, row, size):
        body = b"\x00\x01t" + row["id"].to_bytes(8, "big") + row["sender"].encode()
        return bytes([0x30, len(body)]) + body

    async def put(self, wire, row, line):
        await wire.send(BINARY, self.encode(row, 0))

    def decode(self, payload):
        if payload[0] != 0x30:
            return None
        return {"id": int.from_bytes(payload[5:13], "big"), "sender": payload[13:].decode()}


MqClient = client_subject(type("C", (Mqtt, Client), {}))
MqServer = server_subject(type("S", (Mqtt, Server), {}))


class MqTwice(Mqtt, Client):
    n = 0
    converse = SioTwice.converse

    async def converse(self, wire):
        self.n += 1
        return await Client.converse(self, wire)

    async def handle(self, wire, row):
        for _ in range(self.n):
            await Client.handle(self, wire, row)


MqHandlesTwice = client_subject(MqTwice)


@client_subject
class ListId(Client):
    """Right but for one report, whose id is a list."""

    told = False

    async def handle(self, wire, row):
        if not self.told:
            self.told = True
            report("message", id=[1], sender="server")
            return
        await super().handle(wire, row)


@client_subject
class KeepsDeadSocket(Client):
    """Wrong: what its heartbeat found dead is not closed, and stays open beside the new connection."""

    async def give_up(self, wire):
        self.kept = getattr(self, "kept", [])
        self.kept.append(wire)

    async def part(self, wire):
        if wire not in getattr(self, "kept", []):
            await super().part(wire)


class StopsAt(Client):
    """Wrong: falls silent five seconds after its open."""

    async def talk(self, wire, line):
        with trio.move_on_after(5.0):
            await super().talk(wire, line)
        await trio.sleep_forever()


StopsAfterFive = client_subject(StopsAt)


@server_subject
class ServerStopsAfterFive(Server):
    """Wrong: falls silent five seconds after each open."""

    async def talk(self, wire, line):
        with trio.move_on_after(5.0):
            await super().talk(wire, line)
        await trio.sleep_forever()


from subj import DateServer, Twice
SkewedSome = server_subject(type("S", (Twice, DateServer), {"skew_s": -2.5}))


class Races(Client):
    """Right: RFC 8305: a second TCP connection 250 ms later if the first has not connected; here both at once, one is used."""

    async def open(self):
        spare = await trio.open_tcp_stream(self.url.hostname, self.url.port)
        try:
            return await super().open()
        finally:
            await trio.aclose_forcefully(spare)


RacesClient = client_subject(Races)


@server_subject
class LateAnswer(Server):
    """Right: the 101 takes 1.2 s (it looks up the session)."""

    async def send_response(self, wire, head):
        await trio.sleep(1.2)
        await super().send_response(wire, head)


@client_subject
class RepliesOnly(Client):
    """Right: request and response over the socket: asks, waits for the answer, asks again; ids are its own."""

    async def talk(self, wire, line):
        self.answered_now = trio.Event()
        while True:
            await self.say(wire, line)
            await trio.sleep(line["every_s"])


@client_subject
class RotatesOnNotice(Client):
    """Right: two clients in one: the second connection is opened once, at two seconds, and both live on (two tabs)."""

    async def run(self):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(super().run)
            await trio.sleep(2.5)
            part = Client(self.url.geturl(), self.options)
            part.rng = random.Random(f"{self.options['seed']}/2")
            nursery.start_soon(part.run)


class Lazy(Client):
    """Right: keeps a spare connection that it opens two seconds after each open, and falls back on it at once."""


@server_subject
class ServerOwnBase(Server):
    """Wrong: an exception outside Exception ends the server at the first end of a connection."""

    async def part(self, wire):
        await super().part(wire)
        from subj import Own
        raise Own("server")


@client_subject
class FinBeforeClose(Client):
    """Wrong: it goes away for good after the loss, with a return."""

    async def run(self):
        await self.once()


@client_subject
class OnNotice(Client):
    """Right: on Close 1001 or 1012 the next connection is opened before the echo of the Close (make before break)."""

    async def on_close(self, wire, payload):
        self.next_wire = None
        try:
            with trio.fail_after(2):
                self.next_wire = await self.open()
        except Exception:
            self.next_wire = None
        return await super().on_close(wire, payload)

    async def once(self):
        wire, self.next_wire = getattr(self, "next_wire", None), None
        if wire is None:
            return await super().once()
        self.code = self.status = None
        self.wire = wire
        try:
            self.code = await self.converse(wire)
        finally:
            self.wire = None
            await self.part(wire)
        return trio.current_time() - wire.opened_s

    def delay_s(self, lived_s):
        return 0.0 if getattr(self, "next_wire", None) else super().delay_s(lived_s)


@client_subject
class AlwaysFour(Client):
    """Wrong: four seconds after each ending, where half a second is the cap."""

    def delay_s(self, lived_s):
        return 4.0


def cycling(code, s):
    async def watch(self, wire):
        await trio.sleep(s)
        await self.ask_to_close(wire, code)
        raise Gone
    return server_subject(type("S", (Server,), {"watch": watch, "tasks": lambda self, wire: iter([*Server.tasks(self, wire), self.watch])}))


Every1012 = cycling(1012, 2.5)
Every1001 = cycling(1001, 2.5)
Early1001 = cycling(1001, 1.5)


Every1001at2 = cycling(1001, 2.0)
Every1001at22 = cycling(1001, 2.2)


@server_subject
class ClosesIdle22(Server):
    """As ClosesIdle, at 2.2 s."""

    def tasks(self, wire):
        yield from super().tasks(wire)
        yield self.watch

    async def watch(self, wire):
        await trio.sleep(2.2)
        await self.ask_to_close(wire, 1001)
        raise Gone
