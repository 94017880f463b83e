"""A client and a server that are right by default. A subject is one of them with one thing changed.

`@client_subject` and `@server_subject` turn such a class into the callable that a scenario names.
"""

from __future__ import annotations

import base64
import json
import random
import struct
from collections.abc import Callable, Coroutine, Iterator
from typing import Any
from urllib.parse import parse_qs, urlsplit

import trio
from rig_wire import (
    BAD_TEXT,
    BINARY,
    CLOSE,
    NO_STATUS,
    PING,
    PONG,
    PROTOCOL_ERROR,
    TEXT,
    Breach,
    Gone,
    Refused,
    Wire,
    accept_key,
    parse_head,
)

from chaos import report, subject

Options = dict[str, Any]
Row = dict[str, Any]
Subject = Callable[..., Coroutine[Any, Any, None]]

FINAL_CODES = {1002, 1003, 1007, 1008, 1010, 3003, 4403, *range(4000, 4100)}
LONG_CODES = {1011, 1013}
FINAL_STATUSES = {400, 404, 405, 410, 426, 501, 505}
LONG_STATUSES = {429, 500}
AUTH = {401, 403, 3000, 4401}


def client_subject(kind: type[Client]) -> Subject:
    """Return the callable that runs a client of this kind."""

    @subject(sends=True, actions=("close", "offline", "send"))
    async def client(url: str, **options: Any) -> None:
        await kind(url, options).run_and_obey()

    return client


def server_subject(kind: type[Server]) -> Subject:
    """Return the callable that runs a server of this kind."""

    @subject(sends=True, actions=("close", "reject", "send"))
    async def serve(host: str, port: int, *, task_status: Any, **options: Any) -> None:
        await kind(options).run(host, port, task_status)

    return serve


class Peer:
    """What both sides do on an open connection."""

    sender = "server"

    def __init__(self, options: Options) -> None:
        self.options = options
        self.rng = random.Random(f"{options.get('seed')}/{self.sender}/{options.get('number')}")
        self.beats = 0
        self.last_id: dict[int, int] = {}

    async def converse(self, wire: Wire) -> int | None:
        """Live on a connection until it ends; return the code with which the peer closed it, if it did."""
        code: int | None = None
        async with trio.open_nursery() as nursery:
            for task in self.tasks(wire):
                nursery.start_soon(self.guarded, task, wire, nursery.cancel_scope)
            try:
                code = await self.listen(wire)
            except Gone:
                pass
            except Breach as breach:
                code = breach.code
                await self.close(wire, code)
            nursery.cancel_scope.cancel()
        return code

    def tasks(self, wire: Wire) -> Iterator[Callable[[Wire], Coroutine[Any, Any, None]]]:
        """Give what runs beside the listening."""
        if self.options.get("heartbeat"):
            yield self.beat
        for line in self.options.get("workload", ()):
            if line["sender"] == self.sender:
                yield lambda wire, line=line: self.talk(wire, line)

    async def guarded(
        self, task: Callable[[Wire], Coroutine[Any, Any, None]], wire: Wire, scope: trio.CancelScope
    ) -> None:
        """Run a task of a connection; its end by `Gone` is the connection's."""
        try:
            await task(wire)
        except* Gone:
            scope.cancel()

    async def listen(self, wire: Wire) -> int | None:
        """Handle what comes until the closing handshake is over; return the peer's close code."""
        parts, opcode = bytearray(), TEXT
        while True:
            frame = await wire.take_frame()
            if frame.opcode == PING:
                await self.on_ping(wire, frame.payload)
            elif frame.opcode == PONG:
                await self.on_pong(wire, frame.payload)
            elif frame.opcode == CLOSE:
                return await self.on_close(wire, frame.payload)
            else:
                opcode = frame.opcode or opcode
                parts += frame.payload
                if frame.fin:
                    payload, parts = bytes(parts), bytearray()
                    await self.on_message(wire, opcode, payload)

    async def on_ping(self, wire: Wire, payload: bytes) -> None:
        """Answer a ping."""
        if not wire.said_close:
            await wire.send(PONG, payload)

    async def on_pong(self, wire: Wire, payload: bytes) -> None:
        """Note a pong."""
        async with wire.ponged:
            wire.pongs.add(payload)
            wire.ponged.notify_all()

    async def on_close(self, wire: Wire, payload: bytes) -> int:
        """Answer a Close frame; return its code."""
        code = struct.unpack("!H", payload[:2])[0] if len(payload) > 1 else NO_STATUS
        if (
            len(payload) == 1
            or code in (1004, 1006, 1015)
            or not 1000 <= code < 5000
            or (code == NO_STATUS and payload)
        ):
            raise Breach(PROTOCOL_ERROR, "a close code that may not be sent")
        await wire.say_close(None if code == NO_STATUS else code)
        return int(code)

    async def on_message(self, wire: Wire, opcode: int, payload: bytes) -> None:
        """Handle a whole message."""
        if opcode == TEXT:
            try:
                payload.decode()
            except ValueError as error:
                raise Breach(BAD_TEXT, "a text that is no UTF-8") from error
        row = self.decode(payload)
        if row is not None:
            await self.handle(wire, row)

    def decode(self, payload: bytes) -> Row | None:
        """Return the workload message in a payload, or None."""
        try:
            row = json.loads(payload)
        except ValueError:
            return None
        return row if isinstance(row, dict) and "sender" in row and "id" in row else None

    async def handle(self, wire: Wire, row: Row) -> None:
        """Handle a workload message."""
        report("message", id=row["id"], sender=row["sender"])

    async def beat(self, wire: Wire) -> None:
        """Send a ping, wait for its pong, rest; end the connection of a peer that does not answer."""
        plan = self.options["heartbeat"]
        while True:
            await trio.sleep(plan["interval_s"])
            if not await self.answered(wire, plan["timeout_s"]):
                await self.give_up(wire)
                raise Gone

    async def answered(self, wire: Wire, timeout_s: float) -> bool:
        """Send a ping and tell whether its own pong came in time."""
        self.beats += 1
        payload = b"%d" % self.beats
        with trio.move_on_after(timeout_s):
            await wire.send(PING, payload)
            async with wire.ponged:
                while payload not in wire.pongs:
                    await wire.ponged.wait()
                wire.pongs.discard(payload)
            return True
        return False

    async def give_up(self, wire: Wire) -> None:
        """Leave a connection whose peer is dead: say so if that can be sent at once."""
        with trio.move_on_after(0.05):
            await wire.say_close(1011)

    async def talk(self, wire: Wire, line: Row) -> None:
        """Send one line of the workload."""
        while True:
            await self.say(wire, line)
            await trio.sleep(line["every_s"])

    async def say(self, wire: Wire, line: Row) -> None:
        """Send the next message of the workload and report it."""
        number = self.number_of(wire)
        self.last_id[number] = self.last_id.get(number, 0) + 1
        row = {"id": self.last_id[number], "sender": self.name(number)}
        await self.put(wire, row, line)
        to = {"to": number} if self.sender == "server" else {}
        report("send", id=row["id"], **to)

    async def put(self, wire: Wire, row: Row, line: Row) -> None:
        """Put a workload message on the wire."""
        await wire.send(BINARY if line["binary"] else TEXT, self.encode(row, line["size"]))

    def encode(self, row: Row, size: int) -> bytes:
        """Return a workload message as bytes."""
        return json.dumps(row).encode().ljust(size)

    def name(self, number: int) -> str:
        """Return who sends."""
        return self.sender if self.sender == "server" else f"client-{number}"

    def number_of(self, wire: Wire) -> int:
        """Return which client this connection belongs to."""
        return int(parse_qs(urlsplit(wire.path).query).get("client", ["1"])[0])

    async def close(self, wire: Wire, code: int | None) -> None:
        """Close with a code, wait for the answer, cut."""
        with trio.move_on_after(self.options.get("close_timeout_s", 1.0)):
            try:
                await wire.say_close(code)
                while (await wire.take_frame()).opcode != CLOSE:
                    pass
            except (Gone, Breach):
                pass

    async def ask_to_close(self, wire: Wire, code: int | None) -> None:
        """Say Close on a connection that another task listens on, and cut it if no answer comes."""
        try:
            await wire.say_close(code)
            await trio.sleep(self.options.get("close_timeout_s", 1.0))
            await wire.cut()
        except Gone:
            pass


class Client(Peer):
    """Connects, lives, backs off, comes back; stays away after a final refusal."""

    sender = "client"

    def __init__(self, url: str, options: Options) -> None:
        super().__init__(options)
        self.url = urlsplit(url)
        self.failures = self.refreshed = 0
        self.token = "old"
        self.code: int | None = None
        self.status: int | None = None
        self.fields: dict[str, str] = {}
        self.wire: Wire | None = None
        self.online = trio.Event()
        self.online.set()

    async def run_and_obey(self) -> None:
        """Run, and carry out what the timeline asks."""
        if not self.options.get("actions"):
            await self.run()
            return
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self.obey, nursery)
            await self.run()
            nursery.cancel_scope.cancel()

    async def obey(self, nursery: trio.Nursery) -> None:
        """Carry out each command."""
        async for command in self.options["commands"]:
            if command.action == "offline":
                self.online.set() if command.ends else await self.go_offline()
            elif command.action == "close" and self.wire is not None:
                nursery.start_soon(self.ask_to_close, self.wire, command.parameters["code"])
            elif command.action == "send" and self.wire is not None:
                await self.say(self.wire, {"binary": False, **command.parameters})

    async def go_offline(self) -> None:
        """Leave the network until told otherwise."""
        self.online = trio.Event()
        if self.wire is not None:
            await self.wire.cut()

    async def run(self) -> None:
        """Connect again and again until there is a reason to stop."""
        while True:
            await self.online.wait()
            lived_s = await self.once()
            delay_s = self.delay_s(lived_s)
            if delay_s is None:
                await self.finish()
                return
            await trio.sleep(delay_s)

    async def finish(self) -> None:
        """Stay, without a connection."""
        await trio.sleep_forever()

    async def once(self) -> float:
        """Make one connection and live on it; return how long it was open."""
        self.code = self.status = None
        self.fields = {}
        try:
            with trio.fail_after(self.options["connect_timeout_s"]):
                wire = await self.open()
        except Refused as error:
            self.status, self.fields = error.status, error.headers
            return 0.0
        except (Gone, OSError, trio.TooSlowError):
            return 0.0
        self.wire = wire
        try:
            self.code = await self.converse(wire)
        finally:
            self.wire = None
            await self.part(wire)
        return trio.current_time() - wire.opened_s

    async def part(self, wire: Wire) -> None:
        """Let go of a connection that is over."""
        await wire.cut()

    async def open(self) -> Wire:
        """Return an open connection. Raises Refused, Gone or OSError."""
        stream = await trio.open_tcp_stream(self.url.hostname or "", self.url.port or 0)
        wire = Wire(stream, is_client=True, rng=self.rng)
        try:
            await self.shake_hands(wire)
        except BaseException:
            await wire.cut()
            raise
        wire.opened_s = trio.current_time()
        return wire

    async def shake_hands(self, wire: Wire) -> None:
        """Ask for the WebSocket and check the answer (RFC 6455 section 4.1)."""
        key = base64.b64encode(self.rng.randbytes(16)).decode()
        wire.path = f"{self.url.path or '/'}?{self.url.query}"
        await self.send_request(wire, self.request(wire.path, key))
        status = 100
        while 100 <= status < 200 and status != 101:
            first, headers = parse_head(await wire.take_head())
            status = int(first.split()[1])
        wire.headers = headers
        if status != 101:
            raise Refused(status, headers)
        if headers.get("sec-websocket-accept") != accept_key(key):
            raise Gone
        self.agree(wire)

    def agree(self, wire: Wire) -> None:
        """Take what the server has chosen. Raises Gone for what nobody offered."""
        if {"sec-websocket-protocol", "sec-websocket-extensions"} & wire.headers.keys():
            raise Gone

    def request(self, path: str, key: str) -> bytes:
        """Return the request."""
        lines = [
            f"GET {path} HTTP/1.1",
            f"Host: {self.url.netloc}",
            "Upgrade: websocket",
            "Connection: Upgrade",
            f"Sec-WebSocket-Key: {key}",
            "Sec-WebSocket-Version: 13",
            *self.more_headers(),
        ]
        return "\r\n".join([*lines, "", ""]).encode("latin-1")

    def more_headers(self) -> Iterator[str]:
        """Give further header lines."""
        yield f"Authorization: Bearer {self.token}"

    async def send_request(self, wire: Wire, head: bytes) -> None:
        """Send the request."""
        await wire.send_bytes(head)

    def delay_s(self, lived_s: float) -> float | None:
        """Return how long to wait before the next attempt, None for ever."""
        if self.is_final():
            return None
        if lived_s >= self.options["stable_after_s"]:
            self.failures = 0
        plan = self.options["backoff"]
        if plan["attempts_max"] is not None and self.failures >= plan["attempts_max"]:
            return None
        is_long = self.code in LONG_CODES or self.status in LONG_STATUSES
        cap_s = min(plan["max_s"], plan["initial_s"] * plan["factor"] ** min(self.failures, 64))
        first = self.failures == 0
        self.failures += 1
        if is_long:
            return self.rng.uniform(plan["max_s"] / 2, plan["max_s"])
        waited_s = self.draw_s(cap_s, plan, first=first)
        told_s = self.told_s()
        return waited_s if told_s is None else told_s + self.rng.uniform(0, 0.2)

    def is_final(self) -> bool:
        """Tell whether the last ending says: do not come again. New credentials are tried once."""
        if self.code in AUTH or self.status in AUTH:
            self.refreshed += 1
            self.token = "new"
            return self.refreshed > 1
        if self.code is None and self.status is None:
            return False
        self.refreshed = 0
        return self.code in FINAL_CODES or self.status in FINAL_STATUSES

    def draw_s(self, cap_s: float, plan: Row, *, first: bool) -> float:
        """Draw a delay by the plan's jitter."""
        if first and plan["first_delay"] == "none":
            return 0.0
        low_s = {"full": 0.0, "equal": cap_s / 2, "none": cap_s}.get(plan["jitter"], 0.0)
        if first and plan["jitter"] == "none":
            low_s = 0.0
        return self.rng.uniform(low_s, cap_s)

    def told_s(self) -> float | None:
        """Return the seconds of Retry-After, if the refusal had one."""
        told = self.fields.get("retry-after")
        return float(told) if told is not None and told.isdecimal() else None

    def number_of(self, wire: Wire) -> int:
        return int(self.options.get("number", 1))


class Server(Peer):
    """Serves each client on its newest connection."""

    def __init__(self, options: Options) -> None:
        super().__init__(options)
        self.wires: list[Wire] = []
        self.rejecting: Row | None = None
        self.accepted = 0

    async def run(self, host: str, port: int, task_status: Any) -> None:
        """Listen until cancelled."""
        listeners = await trio.open_tcp_listeners(port, host=host)
        async with trio.open_nursery() as nursery:
            if self.options.get("actions"):
                nursery.start_soon(self.obey, nursery)
            task_status.started(listeners[0].socket.getsockname()[1])
            await trio.serve_listeners(self.serve, listeners, handler_nursery=nursery)

    async def obey(self, nursery: trio.Nursery) -> None:
        """Carry out each command."""
        async for command in self.options["commands"]:
            if command.action == "reject":
                self.rejecting = None if command.ends else dict(command.parameters)
            elif command.action == "close":
                for wire in tuple(self.wires):
                    nursery.start_soon(self.ask_to_close, wire, command.parameters["code"])
            elif command.action == "send":
                for wire in tuple(self.wires):
                    await self.say(wire, {"binary": False, **command.parameters})

    async def serve(self, stream: trio.abc.Stream) -> None:
        """Serve one connection from its first byte to the closed socket."""
        wire = Wire(stream, is_client=False, rng=self.rng)
        try:
            if await self.welcome(wire):
                self.wires.append(wire)
                await self.live(wire)
        except Gone:
            pass
        finally:
            if wire in self.wires:
                self.wires.remove(wire)
            await self.part(wire)

    async def live(self, wire: Wire) -> None:
        """Live on an open connection."""
        code = None if self.rejecting is None else self.rejecting.get("code")
        if code is not None:
            await self.close(wire, code)
        else:
            await self.converse(wire)

    async def part(self, wire: Wire) -> None:
        """Let go of a connection that is over."""
        await wire.cut()

    async def welcome(self, wire: Wire) -> bool:
        """Answer the handshake; tell whether the connection is open."""
        first, headers = parse_head(await wire.take_head())
        wire.path, wire.headers = first.split()[1], headers
        status = self.status_for(wire)
        if status != 101:
            await self.refuse(wire, status)
            return False
        self.accepted += 1
        await self.send_response(wire, self.response(wire))
        return True

    def status_for(self, wire: Wire) -> int:
        """Return the status of the answer."""
        if self.rejecting is not None and self.rejecting.get("code") is None:
            return int(self.rejecting.get("status") or 503)
        return 101

    async def refuse(self, wire: Wire, status: int) -> None:
        """Answer with a status, and read to the end so that the answer arrives."""
        lines = [f"HTTP/1.1 {status} Refused", "Content-Length: 0", "Connection: close"]
        retry_s = (self.rejecting or {}).get("retry_after_s")
        if retry_s is not None:
            lines.append(f"Retry-After: {retry_s:.0f}")
        await wire.send_bytes("\r\n".join([*lines, "", ""]).encode())

    def response(self, wire: Wire) -> bytes:
        """Return the 101."""
        lines = [
            "HTTP/1.1 101 Switching Protocols",
            "Upgrade: websocket",
            "Connection: Upgrade",
            f"Sec-WebSocket-Accept: {self.accept_for(wire)}",
            *self.more_headers(wire),
        ]
        return "\r\n".join([*lines, "", ""]).encode("latin-1")

    def accept_for(self, wire: Wire) -> str:
        """Return the Sec-WebSocket-Accept."""
        return accept_key(wire.headers["sec-websocket-key"])

    def more_headers(self, wire: Wire) -> Iterator[str]:
        """Give further header lines."""
        return iter(())

    async def send_response(self, wire: Wire, head: bytes) -> None:
        """Send the 101."""
        await wire.send_bytes(head)

    async def talk(self, wire: Wire, line: Row) -> None:
        """Send one line of the workload, on the newest connection of each client only."""
        number = self.number_of(wire)
        while True:
            newest = [row for row in self.wires if self.number_of(row) == number][-1:]
            if newest == [wire] and not wire.said_close:
                await self.say(wire, line)
            await trio.sleep(line["every_s"])


Right = client_subject(Client)
RightServer = server_subject(Server)
