"""Subjects about the workload: what is sent, in which envelope, and what becomes of it."""

from __future__ import annotations

import json
import struct
from typing import Any

import trio
from rig import Client, Row, Server, client_subject, server_subject
from rig_wire import BINARY, TEXT, Gone, Wire

from chaos import report


@client_subject
class FillsGaps(Client):
    """Wrong: what it missed while it was away it marks as handled, without ever having had it."""

    highest = 0

    async def handle(self, wire: Wire, row: Row) -> None:
        for missed in range(self.highest + 1, row["id"]):
            report("message", id=missed, sender=row["sender"])
        self.highest = max(self.highest, row["id"])
        await super().handle(wire, row)


@client_subject
class Reorders(Client):
    """Wrong: each message has a task of its own, and some take longer than others."""

    async def converse(self, wire: Wire) -> int | None:
        async with trio.open_nursery() as self.workers:
            return await super().converse(wire)

    async def handle(self, wire: Wire, row: Row) -> None:
        async def work() -> None:
            await trio.sleep(0.4 if row["id"] % 4 == 0 else 0)
            report("message", id=row["id"], sender=row["sender"])

        self.workers.start_soon(work)


@client_subject
class RepeatsLast(Client):
    """Wrong: after a return it handles the last three messages of before once more."""

    async def converse(self, wire: Wire) -> int | None:
        for row in getattr(self, "last", []):
            report("message", id=row["id"], sender=row["sender"])
        return await super().converse(wire)

    async def handle(self, wire: Wire, row: Row) -> None:
        self.last = [*getattr(self, "last", []), row][-3:]
        await super().handle(wire, row)


@client_subject
class FallsSilent(Client):
    """Wrong: it sends for three seconds, and then nothing more."""

    async def talk(self, wire: Wire, line: Row) -> None:
        self.silent_s = getattr(self, "silent_s", trio.current_time() + 3)
        while trio.current_time() < self.silent_s:
            await self.say(wire, line)
            await trio.sleep(line["every_s"])


@server_subject
class OneTicker(Server):
    """Wrong: one task sends to all clients, and ends with the first of them that is gone."""

    async def run(self, host: str, port: int, task_status: Any) -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self.tick)
            await super().run(host, port, task_status)

    async def talk(self, wire: Wire, line: Row) -> None:
        await trio.sleep_forever()

    async def tick(self) -> None:
        known: list[Wire] = []
        line = self.options["workload"][0]
        while True:
            await trio.sleep(line["every_s"])
            known += [wire for wire in self.wires if wire not in known]
            try:
                for wire in known:
                    await self.say(wire, line)
            except Gone:
                return


@server_subject
class HandlesPerConnection(Server):
    """Wrong: each connection of a client adds a handler, and none is taken away."""

    def __init__(self, options: Row) -> None:
        super().__init__(options)
        self.handlers: dict[int, int] = {}

    async def live(self, wire: Wire) -> None:
        number = self.number_of(wire)
        self.handlers[number] = self.handlers.get(number, 0) + 1
        await super().live(wire)

    async def handle(self, wire: Wire, row: Row) -> None:
        for _ in range(self.handlers[self.number_of(wire)]):
            await super().handle(wire, row)


@server_subject
class LateId(Server):
    """Right: each fourth message is large, and its id stands at its end: JSON objects have no order."""

    def encode(self, row: Row, size: int) -> bytes:
        if row["id"] % 4:
            return super().encode(row, size)
        return json.dumps({"pad": "x" * 6000, **row}).encode()


@server_subject
class LeadingSpace(Server):
    """Right: each second message is pretty-printed and begins with a line break (RFC 8259 section 2)."""

    def encode(self, row: Row, size: int) -> bytes:
        if row["id"] % 2:
            return super().encode(row, size)
        return b"\r\n\t " + json.dumps(row, indent=2).encode() + b"\n"


@server_subject
class EscapedNames(Server):
    """Right: its JSON library escapes what it likes (RFC 8259 section 7)."""

    def encode(self, row: Row, size: int) -> bytes:
        text = json.dumps(row).replace('"id"', '"\\u0069d"').replace('"sender"', '"s\\u0065nder"')
        return text.encode().ljust(size)


def rpc(row: Row) -> bytes:
    """Return a JSON-RPC 2.0 notification that carries a workload message."""
    return json.dumps({"jsonrpc": "2.0", "method": "tick", "params": row}).encode()


@server_subject
class JsonRpcServer(Server):
    """Right: JSON-RPC 2.0. Answers have the id of their request, which is no message of the workload."""

    def encode(self, row: Row, size: int) -> bytes:
        return rpc(row)

    async def on_message(self, wire: Wire, opcode: int, payload: bytes) -> None:
        call = json.loads(payload)
        await wire.send(
            TEXT, json.dumps({"jsonrpc": "2.0", "id": call["id"], "result": 1}).encode()
        )


@client_subject
class JsonRpcClient(Client):
    """Right: JSON-RPC 2.0. It calls a method twice a second, with request ids of its own."""

    call = 0

    async def beat(self, wire: Wire) -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(super().beat, wire)
            while True:
                await trio.sleep(0.5)
                self.call += 1
                body = {"jsonrpc": "2.0", "id": self.call, "method": "time"}
                await wire.send(TEXT, json.dumps(body).encode())

    def decode(self, payload: bytes) -> Row | None:
        row = json.loads(payload).get("params")
        return row if isinstance(row, dict) else None


@server_subject
class BatchServer(Server):
    """Right: two messages of the workload in one frame, as a JSON array."""

    async def put(self, wire: Wire, row: Row, line: Row) -> None:
        held = self.__dict__.setdefault("held", [])
        held.append(row)
        if len(held) == 2:
            batch = json.dumps(held).encode()
            held.clear()
            await wire.send(TEXT, batch)


@client_subject
class BatchClient(Client):
    """Right: handles each message of a batch."""

    async def on_message(self, wire: Wire, opcode: int, payload: bytes) -> None:
        for row in json.loads(payload):
            await self.handle(wire, row)


@server_subject
class EventStreamServer(Server):
    """Right: messages look like those of server-sent events."""

    def encode(self, row: Row, size: int) -> bytes:
        return f"event: tick\nid: {row['id']}\ndata: {json.dumps(row)}\n\n".encode()


@client_subject
class EventStreamClient(Client):
    """Right: reads the data line of a server-sent event."""

    def decode(self, payload: bytes) -> Row | None:
        lines = payload.decode().splitlines()
        row: Row = json.loads(next(line[6:] for line in lines if line.startswith("data: ")))
        return row


@server_subject
class PacketServer(Server):
    """Right: binary packets as of MQTT: a type, a length, a topic, an id of four bytes."""

    async def put(self, wire: Wire, row: Row, line: Row) -> None:
        body = struct.pack("!H4sI", 4, b"tick", row["id"])
        await wire.send(BINARY, struct.pack("!BB", 0x30, len(body)) + body)


@client_subject
class PacketClient(Client):
    """Right: reads the id of a binary packet."""

    def decode(self, payload: bytes) -> Row | None:
        (number,) = struct.unpack("!8xI", payload)
        return {"id": number, "sender": "server"}


@server_subject
class GraphQlServer(Server):
    """Right: graphql-transport-ws. The `id` of a `next` message is that of the subscription."""

    def encode(self, row: Row, size: int) -> bytes:
        return json.dumps({"id": "1", "type": "next", "payload": {"data": row}}).encode()


@client_subject
class GraphQlClient(Client):
    """Right: reads the data of a `next` message."""

    def decode(self, payload: bytes) -> Row | None:
        row: Row = json.loads(payload)["payload"]["data"]
        return row


@server_subject
class TwoTopics(Server):
    """Right: beside the workload it sends a price of which `id` is the instrument's and `sender` a person's."""

    async def put(self, wire: Wire, row: Row, line: Row) -> None:
        await super().put(wire, row, line)
        other = {"id": 4711, "sender": "alice", "price": row["id"]}
        await wire.send(TEXT, json.dumps(other).encode())


@client_subject
class OnlyTicks(Client):
    """Right: handles the workload, not the prices."""

    def decode(self, payload: bytes) -> Row | None:
        row = super().decode(payload)
        return row if row is not None and "price" not in row else None


@server_subject
class Replays(Server):
    """Right: at least once. A new connection gets the last four messages again, and says so by their ids."""

    def __init__(self, options: Row) -> None:
        super().__init__(options)
        self.recent: list[Row] = []

    async def live(self, wire: Wire) -> None:
        for row in self.recent[-4:]:
            await wire.send(TEXT, self.encode(row, 64))
        await super().live(wire)

    async def put(self, wire: Wire, row: Row, line: Row) -> None:
        self.recent.append(row)
        await super().put(wire, row, line)


@client_subject
class Unhurried(Client):
    """Right: messages wait in a queue, and are handled in order a little later."""

    async def converse(self, wire: Wire) -> int | None:
        sender, receiver = trio.open_memory_channel[Row](1000)
        self.queue = sender
        async with trio.open_nursery() as nursery, sender, receiver:
            nursery.start_soon(self.work, receiver)
            code = await super().converse(wire)
            nursery.cancel_scope.cancel()
        return code

    async def work(self, receiver: trio.MemoryReceiveChannel[Row]) -> None:
        async for row in receiver:
            report("message", id=row["id"], sender=row["sender"])
            await trio.sleep(0.1)

    async def handle(self, wire: Wire, row: Row) -> None:
        await self.queue.send(row)
