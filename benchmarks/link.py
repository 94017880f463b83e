"""What the link costs: memory of an idle connection, and the time that it adds to a round trip.

    python benchmarks/link.py

Both sides of each ratio are measured in this run. Memory is the growth of the process's resident set, the plain relay
being the simplest trio program that does the same: two tasks, each with `receive_some` and `send_all`.
"""

from __future__ import annotations

import gc
import statistics
import time
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path
from typing import Any

import trio

from chaos.link.link import ClientLink
from chaos.link.transcript import Journal
from chaos.networks.base import dialer
from chaos.recorder import Recorder

CONNECTIONS = 1_000
ROUND_TRIPS = 2_000
PAYLOAD = b"x" * 64
RELAY_READ_BYTES = 64 * 1024


def resident_bytes() -> int:
    """Return the resident set of this process (Linux)."""
    gc.collect()
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * 4096


async def echo(stream: trio.SocketStream) -> None:
    async for chunk in stream:
        await stream.send_all(chunk)


def relay_to(port: int) -> Callable[[trio.SocketStream], Awaitable[None]]:
    """Return the plain relay."""

    async def copy(source: trio.SocketStream, target: trio.SocketStream) -> None:
        while chunk := await source.receive_some(RELAY_READ_BYTES):
            await target.send_all(chunk)
        await target.send_eof()

    async def handle(client: trio.SocketStream) -> None:
        async with (
            await trio.open_tcp_stream("127.0.0.1", port) as server,
            trio.open_nursery() as nursery,
        ):
            nursery.start_soon(copy, client, server)
            nursery.start_soon(copy, server, client)

    return handle


def make_link(port: int) -> ClientLink:
    journal = Journal(
        recorder=Recorder(trio.current_time),
        client=1,
        sides=frozenset(("client", "server")),
    )
    return ClientLink(seed=1, journal=journal, dial=dialer("127.0.0.1", port, None))


async def memory(port: int) -> float:
    """Return bytes per idle connection through a port, its client's and server's ends included."""
    before = resident_bytes()
    streams = []
    for _ in range(CONNECTIONS):
        stream = await trio.open_tcp_stream("127.0.0.1", port)
        await stream.send_all(b"x")
        await stream.receive_some(1)
        streams.append(stream)
    grown = resident_bytes() - before
    for stream in streams:
        await trio.aclose_forcefully(stream)
    await trio.sleep(0.5)
    return grown / CONNECTIONS


async def round_trip(port: int) -> float:
    """Return the median round trip in seconds."""
    times = []
    async with await trio.open_tcp_stream("127.0.0.1", port) as stream:
        for _ in range(ROUND_TRIPS):
            start = time.perf_counter()
            await stream.send_all(PAYLOAD)
            got = 0
            while got < len(PAYLOAD):
                got += len(await stream.receive_some(4096))
            times.append(time.perf_counter() - start)
    return statistics.median(times)


async def port_of(nursery: trio.Nursery, handler: Any) -> int:
    listeners = await nursery.start(partial(trio.serve_tcp, handler, 0, host="127.0.0.1"))
    return int(listeners[0].socket.getsockname()[1])


async def main() -> None:
    async with trio.open_nursery() as nursery:
        server = await port_of(nursery, echo)
        ports = {
            "direct": server,
            "plain relay": await port_of(nursery, relay_to(server)),
            "link": await make_link(server).open(nursery),
        }
        trips = {name: await round_trip(port) for name, port in ports.items()}
        sizes = {name: await memory(port) for name, port in ports.items()}
        print(f"{'':12} {'round trip':>12} {'idle connection':>18}")
        for name in ports:
            print(f"{name:12} {trips[name] * 1e6:9.0f} µs {sizes[name] / 1000:15.1f} kB")
        added = {name: trips[name] - trips["direct"] for name in ports}
        print(f"added round trip, link to plain relay: {added['link'] / added['plain relay']:.2f}")
        own = {name: sizes[name] - sizes["direct"] for name in ports}
        print(f"memory of its own, link to plain relay: {own['link'] / own['plain relay']:.2f}")
        nursery.cancel_scope.cancel()


if __name__ == "__main__":
    import resource

    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (limit, limit))
    trio.run(main)
