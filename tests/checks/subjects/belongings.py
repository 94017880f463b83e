"""Subjects about what is left over: tasks, sockets, channels, and who owns them."""

from __future__ import annotations

from collections import deque

import trio
from rig import Client, Server, client_subject, server_subject
from rig_wire import Wire


@server_subject
class KeepsHandlers(Server):
    """Wrong: a task of each connection waits for ever for something that only a living client would bring."""

    async def run(self, host: str, port: int, task_status: trio.TaskStatus[int]) -> None:
        async with trio.open_nursery() as self.kept:
            await super().run(host, port, task_status)

    async def live(self, wire: Wire) -> None:
        self.kept.start_soon(trio.Event().wait)
        await super().live(wire)


@client_subject
class KeepsChannels(Client):
    """Wrong: a memory channel for each connection, and none is let go."""

    async def converse(self, wire: Wire) -> int | None:
        self.__dict__.setdefault("kept", []).append(trio.open_memory_channel[bytes](4))
        return await super().converse(wire)


@client_subject
class KeepsSockets(Client):
    """Wrong: no socket of a connection that the server ended is ever closed."""

    async def part(self, wire: Wire) -> None:
        self.__dict__.setdefault("kept", []).append(wire)


@client_subject
class SystemTask(Client):
    """Wrong: a task outside every nursery, which outlives the client."""

    async def converse(self, wire: Wire) -> int | None:
        trio.lowlevel.spawn_system_task(trio.sleep_forever)
        return await super().converse(wire)


@client_subject
class KeepsThree(Client):
    """Right: it remembers three connections, whose sockets are closed, and has two tasks of its own for good."""

    async def run(self) -> None:
        self.past: deque[Wire] = deque(maxlen=3)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(trio.sleep_forever)
            nursery.start_soon(self.count)
            await super().run()

    async def count(self) -> None:
        while True:
            await trio.sleep(0.5)

    async def part(self, wire: Wire) -> None:
        await super().part(wire)
        self.past.append(wire)


@server_subject
class RemembersClients(Server):
    """Right: something for each client, however often it comes, with a channel that is used again."""

    async def live(self, wire: Wire) -> None:
        inbox = self.__dict__.setdefault("inbox", {})
        if self.number_of(wire) not in inbox:
            inbox[self.number_of(wire)] = trio.open_memory_channel[bytes](4)
        await super().live(wire)


@client_subject
class InCircles(Client):
    """Right: what refers to itself waits for the collector; no socket in it is open."""

    async def part(self, wire: Wire) -> None:
        await super().part(wire)
        circle: list[object] = [wire]
        circle.append(circle)


@client_subject
class Pool(Client):
    """Right: what closes slowly is closed by a task of its own, which is gone soon after."""

    async def run(self) -> None:
        async with trio.open_nursery() as self.closers:
            await super().run()

    async def part(self, wire: Wire) -> None:
        self.closers.start_soon(self.close_later, wire)

    async def close_later(self, wire: Wire) -> None:
        try:
            await trio.sleep(0.2)
        finally:
            await wire.cut()


@client_subject
class KeepsObjects(Client):
    """Wrong: the object of each connection is kept, with all that it has received; sockets are closed."""

    async def part(self, wire: Wire) -> None:
        await super().part(wire)
        self.__dict__.setdefault("kept", []).append(wire)
