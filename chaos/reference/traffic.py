"""What happens on one open connection, on either side: heartbeat, workload, and the loop that reads.

The loop that reads never sends and never waits for anything else. A peer that stops reading stops seeing pongs,
and two peers that send from their reading loops can block each other for ever.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import trio

from chaos.recorder import report
from chaos.reference.connection import Connection, ConnectionLost
from chaos.reference.heartbeat import HEARTBEAT_CODE, HEARTBEAT_REASON, until_dead
from chaos.reference.options import PeerOptions
from chaos.reference.workload import Message, Session, decode
from chaos.scenario.model import Workload

Hook = Callable[[], Awaitable[None]]


@dataclass(slots=True, kw_only=True, eq=False)
class Traffic:
    """The conversation on one connection.

    `converse` runs it. `before` is awaited before any message is sent; `on_message` gets every frame that is not the
    workload's, and must return quickly; `may_send` stops the workload of a connection that a newer one replaced;
    `to` is the client's number where a server speaks; `keep` puts sends that were cut off by the connection's
    death into the session. Afterwards `dead` says whether the heartbeat failed.
    """

    connection: Connection
    session: Session
    options: PeerOptions
    lines: tuple[Workload, ...]
    to: int | None = None
    keep: bool = False
    before: Hook | None = None
    on_message: Callable[[str | bytes], None] | None = None
    may_send: Callable[[], bool] = lambda: True
    _heard_s: float = field(default=0.0, init=False)
    dead: bool = field(default=False, init=False)
    _resume_after: int = field(default=0, init=False)
    _resumed: trio.Event = field(default_factory=trio.Event, init=False)
    _ready: trio.Event = field(default_factory=trio.Event, init=False)
    _acknowledging: bool = field(default=False, init=False)

    @property
    def heard_s(self) -> float:
        """When the peer was last heard of, by a message or a pong; when this began, if it never was."""
        return max(self._heard_s, self.connection.pong_s)

    async def converse(self) -> None:
        """Run until the connection ends, or is to be ended; the caller then calls `finish`."""
        self._heard_s = trio.current_time()
        async with trio.open_nursery() as nursery:
            if self.options.heartbeat is not None:
                nursery.start_soon(self._watch)
            first = self.session.opened()
            is_behind = self.session.resume_out or self.session.kept
            if first is not None or self.before is not None or self.lines or is_behind:
                nursery.start_soon(self._talk, first)
            else:
                self._ready.set()
            await self._listen(nursery)
            nursery.cancel_scope.cancel()

    async def send_one(self, size: int, *, binary: bool) -> None:
        """Send one workload message, once sending is allowed. Raises ConnectionLost."""
        await self._ready.wait()
        if not self.connection.usable:
            raise ConnectionLost
        message = self.session.next_message(trio.current_time(), size, binary=binary)
        if self.session.resume_out:
            # it counts as sent already: if this connection loses it, the next one replays it
            self._report_sent(message)
            await self.connection.send(message.encode())
        else:
            await self._send_once(message)

    async def send_asked(self, parameters: Mapping[str, Any]) -> None:
        """Send the message that an action of the timeline asks for; note it if the connection is lost before."""
        try:
            await self.send_one(parameters.get("size", 64), binary=parameters.get("binary", False))
        except ConnectionLost:
            whom = "" if self.to is None else f" to client {self.to}"
            report("note", text=f"nothing sent{whom}: the connection was lost")

    async def _watch(self) -> None:
        assert self.options.heartbeat is not None, "started with a heartbeat only"
        await until_dead(self.connection.ping, self.options.heartbeat, self.options.misses)
        self.dead = True
        self.connection.give_up(HEARTBEAT_CODE, HEARTBEAT_REASON)

    async def _talk(self, first: str | None) -> None:
        try:
            if first is not None:
                await self.connection.send(first)
            if self.before is not None:
                await self.before()
            await self._catch_up()
            self._ready.set()
            async with trio.open_nursery() as nursery:
                for line in self.lines[1:]:
                    nursery.start_soon(self._send_line, line)
                for line in self.lines[:1]:
                    await self._send_line(line)
        except ConnectionLost:
            return

    async def _catch_up(self) -> None:
        """Send again what the other side has missed, or what was waiting when the last connection died."""
        if self.session.resume_out:
            await self._resumed.wait()
            for message in self.session.resumed(self._resume_after):
                await self.connection.send(message.encode())
        for message in self.session.take_kept():
            await self._send_once(message)

    async def _send_line(self, line: Workload) -> None:
        due_s = trio.current_time()
        while self.connection.usable:
            if self.may_send():
                try:
                    await self.send_one(line.size, binary=line.binary)
                except ConnectionLost:
                    return
            due_s += line.every_s
            if due_s < trio.current_time():
                # a send that had to wait is not followed by a burst of those that it held up
                due_s = trio.current_time() + line.every_s
            await trio.sleep_until(due_s)

    async def _send_once(self, message: Message) -> None:
        sent = False
        try:
            await self.connection.send(message.encode())
            sent = True
        finally:
            if not sent and self.keep:
                self.session.kept.append(message)
        self._report_sent(message)

    def _report_sent(self, message: Message) -> None:
        to = {} if self.to is None else {"to": self.to}
        report("send", id=message.id, **to)

    async def _listen(self, nursery: trio.Nursery) -> None:
        def take(data: str | bytes) -> None:
            self._heard_s = trio.current_time()
            self._handle(data)
            if not self._acknowledging and (ack := self.session.ack_due()) is not None:
                self._acknowledging = True
                nursery.start_soon(self._acknowledge, ack)

        await self.connection.receive_each(take, nursery.cancel_scope)

    def _handle(self, data: str | bytes) -> None:
        row = decode(data)
        if row is not None and isinstance(row.get("id"), int) and "sender" in row:
            if self.session.received(row["id"]):
                report("message", id=row["id"], sender=str(row["sender"]))
        elif row is not None and isinstance(row.get("ack"), int):
            self.session.acknowledged(row["ack"])
        elif row is not None and isinstance(row.get("resume"), int):
            # `_catch_up` waits for the first of a connection, and looks at no other
            self._resume_after = row["resume"]
            self._resumed.set()
        elif self.on_message is not None:
            self.on_message(data)

    async def _acknowledge(self, ack: str) -> None:
        try:
            await self.connection.send(ack)
        except ConnectionLost:
            return
        finally:
            self._acknowledging = False
