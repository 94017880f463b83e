"""This project's Toxiproxy server against the original, both measured in one go.

    python benchmarks/toxiproxy.py [rounds]

Needs `toxiproxy-server` on PATH and toxiproxy-python. Nine rounds by default; in each round every figure is taken on
both servers, one right after the other, and the next round begins with the other server. Printed are medians of the
rounds and their ratio, ours to theirs.

* bulk: one connection, from a process that sends to another that reads, until the reader says that it has all;
* round trip: 64 bytes there and back, one at a time, minus the same without a proxy in the same round;
* connections: connect, one byte there and back, close, one after the other;
* memory: growth of a fresh server's resident set with idle connections over which a byte has passed both ways;
* API call: toxiproxy-python's `get_proxy`, `add_toxic` and `destroy_toxic`;
* latency: round trips with a toxic of 20 ms on one stream, minus 20 ms;
* bandwidth: how much longer than planned (or shorter) a transfer of about half a second takes.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import multiprocessing
import selectors
import socket
import statistics
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

# this file bears the name of the client's package, and Python looks beside a script first
sys.path[:] = [path for path in sys.path if Path(path).resolve() != Path(__file__).resolve().parent]
from toxiproxy import Toxiproxy  # noqa: E402
from toxiproxy.api import APIConsumer  # noqa: E402

ROUNDS = 9
MEMORY_ROUNDS = 3
BULK_BYTES = {"plain": 400_000_000, "latency 50 ms": 200_000_000, "five noops": 200_000_000}
TOXICS: dict[str, list[dict[str, Any]]] = {
    "plain": [],
    "latency 50 ms": [{"type": "latency", "attributes": {"latency": 50}}],
    "five noops": [{"type": "noop", "name": f"noop{n}"} for n in range(5)],
}
TRIPS = 1_500
OPENED = 300
IDLE = 1_000
CALLS = 10
LATENCY_MS = 20
DELAYED_TRIPS = 25
# KB/s → bytes: one transfer takes about half a second
RATES = {1: 500, 100: 50_000, 1_000: 500_000, 10_000: 5_000_000, 100_000: 50_000_000}
COMMANDS = {
    "theirs": ["toxiproxy-server"],
    "ours": [sys.executable, "-m", "chaos", "toxiproxy-server"],
}
Samples = dict[str, list[float]]


@dataclass(frozen=True, kw_only=True)
class Figure:
    """How a figure is shown: `scale` makes its unit; `aim` is for the ratio ours/theirs."""

    unit: str
    scale: float
    aim: str


FIGURES = {
    "bulk, plain": Figure(unit="MB/s", scale=1e-6, aim="≥ 2.5"),
    "bulk, latency 50 ms": Figure(unit="MB/s", scale=1e-6, aim="≥ 1.5"),
    "bulk, five noops": Figure(unit="MB/s", scale=1e-6, aim="≥ 1.5"),
    "added round trip, p50": Figure(unit="µs", scale=1e6, aim="≤ 0.8"),
    "added round trip, p99": Figure(unit="µs", scale=1e6, aim="≤ 1.0"),
    "connections": Figure(unit="/s", scale=1, aim="≥ 0.8"),
    "memory of an idle connection": Figure(unit="kB", scale=1e-3, aim="≤ 1.0"),
    "API call": Figure(unit="ms", scale=1e3, aim="≤ 3.0"),
    "latency error, p50": Figure(unit="µs", scale=1e6, aim="≤ 1.0"),
    "latency error, p99": Figure(unit="µs", scale=1e6, aim="≤ 1.0"),
} | {f"bandwidth error, {rate} KB/s": Figure(unit="%", scale=100, aim="≤ 1 %") for rate in RATES}


def serve_peer(tell: Connection) -> None:
    """Run the upstreams: an echo, and a sink that answers once it has as many bytes as its first eight say."""
    chooser = selectors.DefaultSelector()
    for kind in ("echo", "sink"):
        listener = socket.create_server(("127.0.0.1", 0), backlog=4096)
        chooser.register(listener, selectors.EVENT_READ, f"accept {kind}")
        tell.send(listener.getsockname()[1])
    while True:
        for key, _ in chooser.select():
            ready: Any = key.fileobj
            if key.data.startswith("accept"):
                accepted, _ = ready.accept()
                accepted.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                chooser.register(accepted, selectors.EVENT_READ, key.data.removeprefix("accept "))
            elif key.data == "sink":
                chooser.unregister(ready)
                swallow(ready)
            else:
                answer(chooser, ready)


def answer(chooser: selectors.BaseSelector, stream: socket.socket) -> None:
    """Send back what has come; forget a stream that has ended."""
    received = b""
    with contextlib.suppress(OSError):
        received = stream.recv(65536)
        if received:
            stream.sendall(received)
            return
    chooser.unregister(stream)
    stream.close()


def swallow(stream: socket.socket) -> None:
    with stream, contextlib.suppress(OSError):
        left = int.from_bytes(stream.recv(8, socket.MSG_WAITALL), "big")
        buffer = bytearray(1 << 20)
        while left > 0 and (count := stream.recv_into(buffer)):
            left -= count
        stream.sendall(b"k")
        stream.recv(1)


class Server:
    """A Toxiproxy that runs, with a proxy to the echo and one to the sink."""

    def __init__(self, process: subprocess.Popen[bytes], port: int) -> None:
        self.process = process
        self.port = port

    def ask(self, method: str, path: str, body: Any = None) -> Any:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        connection.request(method, path, None if body is None else json.dumps(body))
        response = connection.getresponse()
        text = response.read()
        connection.close()
        assert response.status < 300, text
        return json.loads(text) if text else None

    def create(self, name: str, upstream: int) -> int:
        row = {"name": name, "listen": "127.0.0.1:0", "upstream": f"127.0.0.1:{upstream}"}
        return int(self.ask("POST", "/proxies", row)["listen"].rpartition(":")[2])

    @contextmanager
    def toxics(self, proxy: str, rows: list[dict[str, Any]]) -> Iterator[None]:
        """Have toxics on a proxy's upstream stream."""
        made = [
            self.ask("POST", f"/proxies/{proxy}/toxics", row | {"stream": "upstream"})
            for row in rows
        ]
        yield
        for row in made:
            self.ask("DELETE", f"/proxies/{proxy}/toxics/{row['name']}")

    def resident_bytes(self) -> int:
        pages = int(Path(f"/proc/{self.process.pid}/statm").read_text().split()[1])
        return pages * 4096


@contextmanager
def running(kind: str) -> Iterator[Server]:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    process = subprocess.Popen(  # noqa: S603 - a constant
        [*COMMANDS[kind], "-port", str(port)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        for _ in range(1_000):
            with contextlib.suppress(OSError):
                socket.create_connection(("127.0.0.1", port)).close()
                break
            time.sleep(0.02)
        yield Server(process, port)
    finally:
        process.terminate()
        process.wait()


def connect(port: int) -> socket.socket:
    stream = socket.create_connection(("127.0.0.1", port), timeout=60)
    stream.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return stream


def send_bulk(port: int, size: int) -> float:
    """Return how many seconds it takes until the sink has it all."""
    piece = memoryview(bytes(256 * 1024))
    with connect(port) as stream:
        stream.sendall(size.to_bytes(8, "big"))
        time.sleep(0.06)  # connected through, and the toxics are done with the first bytes
        start = time.perf_counter()
        left = size
        while left > 0:
            left -= stream.send(piece[: min(left, len(piece))])
        assert stream.recv(1) == b"k"
        return time.perf_counter() - start


def round_trips(port: int, count: int) -> list[float]:
    """Return sorted round trips in seconds."""
    times = []
    with connect(port) as stream:
        for _ in range(count + 20):
            start = time.perf_counter()
            stream.sendall(b"x" * 64)
            assert len(stream.recv(64, socket.MSG_WAITALL)) == 64
            times.append(time.perf_counter() - start)
    return sorted(times[20:])


def per_second(port: int) -> float:
    start = time.perf_counter()
    for _ in range(OPENED):
        with connect(port) as stream:
            stream.sendall(b"x")
            assert stream.recv(1) == b"x"
    return OPENED / (time.perf_counter() - start)


def memory(kind: str, echo: int) -> float:
    with running(kind) as server:
        port = server.create("echo", echo)
        per_second(port)  # what a server allocates once is no connection's
        before = server.resident_bytes()
        streams = [connect(port) for _ in range(IDLE)]
        for stream in streams:
            stream.sendall(b"x")
            assert stream.recv(1) == b"x"
        grown = server.resident_bytes() - before
        for stream in streams:
            stream.close()
    return grown / IDLE


def api_call(port: int) -> float:
    """Return the seconds of a call: the median of three in a row."""
    APIConsumer.host, APIConsumer.port = "127.0.0.1", port
    times = []
    for _ in range(CALLS):
        start = time.perf_counter()
        proxy = Toxiproxy().get_proxy("api")
        proxy.add_toxic(name="t", type="latency")
        proxy.destroy_toxic("t")
        times.append((time.perf_counter() - start) / 3)
    return statistics.median(times)


def share(ordered: list[float], part: float) -> float:
    return ordered[min(len(ordered) - 1, int(len(ordered) * part))]


@dataclass(kw_only=True)
class Bench:
    """A server under measurement, with its proxies, and what was measured."""

    server: Server
    echo: int
    sink: int
    samples: Samples

    def measure(self, direct: list[float]) -> None:
        """Take every figure but memory once. `direct`: round trips without a proxy."""
        self._bulk()
        trips = round_trips(self.echo, TRIPS)
        for name, part in (("p50", 0.5), ("p99", 0.99)):
            self._note(f"added round trip, {name}", share(trips, part) - share(direct, part))
        self._note("connections", per_second(self.echo))
        self._note("API call", api_call(self.server.port))
        latency = {"type": "latency", "attributes": {"latency": LATENCY_MS}}
        with self.server.toxics("echo", [latency]):
            errors = sorted(
                abs(t - LATENCY_MS / 1e3) for t in round_trips(self.echo, DELAYED_TRIPS)
            )
        self._note("latency error, p50", share(errors, 0.5))
        self._note("latency error, p99", share(errors, 0.99))
        self._bandwidth()

    def _bulk(self) -> None:
        for name, rows in TOXICS.items():
            with self.server.toxics("sink", rows):
                size = BULK_BYTES[name]
                self._note(f"bulk, {name}", size / send_bulk(self.sink, size))

    def _bandwidth(self) -> None:
        for rate, size in RATES.items():
            with self.server.toxics("sink", [{"type": "bandwidth", "attributes": {"rate": rate}}]):
                took = send_bulk(self.sink, size)
            self._note(f"bandwidth error, {rate} KB/s", size / took / (rate * 1000) - 1)

    def _note(self, name: str, value: float) -> None:
        self.samples[name].append(value)


def show(rounds: int, samples: dict[str, Samples]) -> None:
    print(f"{rounds} rounds, medians")
    print(f"{'':32} {'theirs':>10} {'ours':>10} {'':5} {'ratio':>6}   aim")
    for name, figure in FIGURES.items():
        theirs, ours = (statistics.median(samples[who][name]) for who in ("theirs", "ours"))
        ratio = "" if figure.unit == "%" else f"{ours / theirs:6.2f}"
        digits = 2 if figure.unit in ("%", "ms") else 0
        print(
            f"{name:32} {theirs * figure.scale:10.{digits}f} {ours * figure.scale:10.{digits}f} "
            f"{figure.unit:5} {ratio:>6}   {figure.aim}"
        )


def main(rounds: int) -> None:
    near, far = multiprocessing.Pipe()
    peer = multiprocessing.get_context("spawn").Process(target=serve_peer, args=(far,), daemon=True)
    peer.start()
    echo, sink = near.recv(), near.recv()
    samples: dict[str, Samples] = {who: defaultdict(list) for who in COMMANDS}
    with running("theirs") as theirs, running("ours") as ours:
        benches = []
        for who, server in (("theirs", theirs), ("ours", ours)):
            server.create("api", echo)
            benches.append(
                Bench(
                    server=server,
                    echo=server.create("echo", echo),
                    sink=server.create("sink", sink),
                    samples=samples[who],
                )
            )
        for number in range(rounds):
            direct = round_trips(echo, TRIPS)
            for bench in benches if number % 2 else benches[::-1]:
                bench.measure(direct)
    for _ in range(min(rounds, MEMORY_ROUNDS)):
        for who in COMMANDS:
            samples[who]["memory of an idle connection"].append(memory(who, echo))
    show(rounds, samples)


if __name__ == "__main__":
    import resource

    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (limit, limit))
    main(int(sys.argv[1]) if len(sys.argv) > 1 else ROUNDS)
