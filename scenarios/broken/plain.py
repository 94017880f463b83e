"""A small client and a small server that are right. Each broken subject here changes one thing about one of them.

They share no code with the project's reference peers and know nothing of its checks: they import `chaos.report`
and `chaos.subject` only, as a subject of anybody's would.
"""

from __future__ import annotations

import json
import random
from collections.abc import Mapping
from typing import Any
from urllib.parse import parse_qs, urlsplit

import trio
from plain_wire import GONE, Ending, Wire, answer, ask
from wsproto import ConnectionType
from wsproto.events import CloseConnection, Ping, Pong, TextMessage
from wsproto.utilities import ProtocolError

from chaos import report

HEARTBEAT_CODE = 4200
FINAL_CODES = {1002, 1003, 1007, 1008, 1010, 3003, *range(4000, 4100), 4401, 4403}
FINAL_STATUSES = set(range(300, 500)) - {408, 425, 429}


class Peer:
    """What both sides do on an open connection: answer, beat, send the workload, and notice the end."""

    side = "client"

    def __init__(self, options: Mapping[str, Any]) -> None:
        self.options = options
        self.beat = options.get("heartbeat")
        self.next_id = 1
        self.to: int | None = None

    async def live(self, wire: Wire) -> None:
        """Use an open connection to its end."""
        async with trio.open_nursery() as nursery:
            if self.beat is not None:
                nursery.start_soon(self.heartbeat, wire, nursery.cancel_scope)
            for line in self.options.get("workload", ()):
                if line["sender"] == self.side:
                    nursery.start_soon(self.talk, wire, line)
            await self.listen(wire)
            nursery.cancel_scope.cancel()

    async def listen(self, wire: Wire) -> None:
        """Read until the connection ends."""
        try:
            while True:
                for event in await wire.receive():
                    if isinstance(event, CloseConnection):
                        wire.code = event.code
                        await wire.send(event.response())
                        return
                    if isinstance(event, Ping):
                        await wire.send(event.response())
                    elif isinstance(event, Pong):
                        wire.pong.set()
                    elif isinstance(event, TextMessage):
                        wire.text += event.data  # wsproto gives a long frame in pieces
                        if event.message_finished:
                            text, wire.text = wire.text, ""
                            await self.take(wire, text)
        except (*GONE, ProtocolError):
            return

    async def take(self, wire: Wire, text: str) -> None:
        """Take one whole text message."""
        row = json.loads(text)
        if "id" in row:
            await self.handle(row)

    async def handle(self, row: Mapping[str, Any]) -> None:
        """Handle one workload message."""
        report("message", id=row["id"], sender=row["sender"])

    async def heartbeat(self, wire: Wire, scope: trio.CancelScope) -> None:
        """Ping, and give the connection up when no pong comes in time."""
        while await self.answers(wire):
            await trio.sleep(self.beat["interval_s"])
        await self.give_up(wire)
        scope.cancel()

    async def answers(self, wire: Wire) -> bool:
        """Send one ping; return whether its pong came in time."""
        wire.pong = trio.Event()
        with trio.move_on_after(self.beat["timeout_s"]):
            try:
                await wire.send(Ping())
            except GONE:
                return True  # whoever listens has noticed
            await wire.pong.wait()
            return True
        return False

    async def give_up(self, wire: Wire) -> None:
        """Part from a peer that is dead."""
        await wire.close(HEARTBEAT_CODE)

    async def talk(self, wire: Wire, line: Mapping[str, Any]) -> None:
        """Send the workload until the connection is lost."""
        try:
            while True:
                await self.say(wire, line["size"])
                await trio.sleep(line["every_s"])
        except GONE:
            return

    async def say(self, wire: Wire, size: int) -> None:
        """Send one workload message."""
        number, self.next_id = self.next_id, self.next_id + 1
        await wire.send(TextMessage(data=self.message(number, size)))
        report("send", id=number, **({} if self.to is None else {"to": self.to}))

    def message(self, number: int, size: int) -> str:
        """Return the text of a workload message."""
        sender = "server" if self.side == "server" else f"client-{self.options.get('number', 1)}"
        row = {"id": number, "sender": sender, "sent_at_s": round(trio.current_time(), 3)}
        return json.dumps(row).ljust(size)


class Client(Peer):
    """Connects, and comes back after a jittered, growing, bounded delay, unless it was told to stay away."""

    def __init__(self, url: str, options: Mapping[str, Any]) -> None:
        super().__init__(options)
        parts = urlsplit(url)
        self.host, self.port = parts.hostname, parts.port
        self.target = f"{parts.path or '/'}?{parts.query}"
        self.plan = options["backoff"]
        self.random = random.Random(f"{options['seed']}/{options['number']}")
        self.failures = 0

    async def run(self) -> None:
        """Run until cancelled."""
        while True:
            delay_s = self.delay_s(await self.attempt())
            if delay_s is None:
                break
            await trio.sleep(delay_s)
        await trio.sleep_forever()

    async def attempt(self) -> Ending:
        """Connect, live, and leave nothing behind."""
        wire: Wire | None = None
        try:
            with trio.move_on_after(self.options["connect_timeout_s"]) as limit:
                wire = await self.dial()
                refused = await self.open(wire)
                limit.deadline = float("inf")
                if refused is not None:
                    return refused
                opened_s = trio.current_time()
                await self.live(wire)
                return Ending(lived_s=trio.current_time() - opened_s, code=wire.code)
        except (*GONE, ProtocolError):
            pass
        finally:
            if wire is not None:
                await self.leave(wire)
        return Ending()

    async def dial(self) -> Wire:
        """Make the TCP connection."""
        return Wire(await trio.open_tcp_stream(self.host, self.port), ConnectionType.CLIENT)

    async def open(self, wire: Wire) -> Ending | None:
        """Do the handshake."""
        return await ask(wire, f"{self.host}:{self.port}", self.target)

    async def leave(self, wire: Wire) -> None:
        """Close the socket of a connection that is over."""
        await wire.aclose()

    def delay_s(self, ending: Ending) -> float | None:
        """Return the wait before the next attempt, or None when there must be none."""
        if ending.code in FINAL_CODES or ending.status in FINAL_STATUSES:
            return None
        if ending.lived_s >= self.options["stable_after_s"]:
            self.failures = 0
        delay_s = self.draw_s(self.failures)
        self.failures += 1
        # Retry-After is a floor, exceeded at random so that not all come back together
        return max(delay_s, ending.retry_after_s * self.random.uniform(1.0, 1.1))

    def draw_s(self, failures: int) -> float:
        """Return a delay by the schedule."""
        cap_s = min(self.plan["max_s"], self.plan["initial_s"] * self.plan["factor"] ** failures)
        low_s = cap_s / 2 if self.plan["jitter"] == "equal" else 0.0
        return self.random.uniform(low_s, cap_s)


class Server:
    """Serves each client with a peer of its own; nothing of a client outlives its connection."""

    def __init__(self, options: Mapping[str, Any]) -> None:
        self.options = options
        self.peers: dict[int, Peer] = {}

    async def run(self, host: str, port: int, task_status: trio.TaskStatus[int]) -> None:
        """Serve until cancelled."""
        listeners = await trio.open_tcp_listeners(port, host=host)
        async with trio.open_nursery() as nursery:
            task_status.started(listeners[0].socket.getsockname()[1])
            await trio.serve_listeners(self.handle, listeners, handler_nursery=nursery)

    async def handle(self, stream: trio.SocketStream) -> None:
        """Serve one client from its first byte to the closed socket."""
        wire = Wire(stream, ConnectionType.SERVER)
        try:
            path = await answer(wire)
            number = int(parse_qs(urlsplit(path).query).get("client", ["1"])[0])
            await self.peer(number).live(wire)
        except (*GONE, ProtocolError):
            pass
        finally:
            await self.leave(wire)

    def peer(self, number: int) -> Peer:
        """Return what talks to this client; its counter of messages goes on over reconnections."""
        if number not in self.peers:
            peer = self.peers[number] = self.make_peer()
            peer.side, peer.to = "server", number
        return self.peers[number]

    def make_peer(self) -> Peer:
        """Return a new peer."""
        return Peer(self.options)

    async def leave(self, wire: Wire) -> None:
        """Close the socket of a connection that is over."""
        await wire.aclose()
