"""Two servers, one suite: what the original does is tested on it and on this project's server alike."""

from __future__ import annotations

import http.client
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.parse
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import pytest

from chaos.networks.toxiproxy.process import free_port

REQUIRE = "TRIO_CHAOS_REQUIRE_TOXIPROXY"
WAIT_S = 5.0
Process = subprocess.Popen[bytes]


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What the API answered."""

    status: int
    type: str | None
    body: bytes
    headers: dict[str, str]

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def error(self) -> str:
        return str(self.json["error"])


@dataclass(frozen=True, kw_only=True)
class Toxi:
    """A Toxiproxy that runs, whoever wrote it."""

    port: int
    process: Process
    ours: bool
    log: IO[bytes]

    def ask(self, method: str, path: str, body: Any = None, **headers: str) -> Answer:
        """Send a request; a body that is no text goes as JSON."""
        text = body if isinstance(body, (str, bytes, type(None))) else json.dumps(body)
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=WAIT_S)
        try:
            named = {name.replace("_", "-"): value for name, value in headers.items()}
            connection.request(
                method, path, text.encode() if isinstance(text, str) else text, named
            )
            answer = connection.getresponse()
            return Answer(
                status=answer.status,
                type=answer.getheader("Content-Type"),
                body=answer.read(),
                headers={name.lower(): value for name, value in answer.getheaders()},
            )
        finally:
            connection.close()

    def get(self, path: str) -> Any:
        answer = self.ask("GET", path)
        assert answer.status == 200, answer
        return answer.json

    def do(self, method: str, path: str, body: Any = None) -> Any:
        """Send a request that must succeed; return its JSON, or None for 204."""
        answer = self.ask(method, path, body)
        assert answer.status in (200, 201, 204), answer
        return answer.json if answer.body else None

    def create(self, upstream: str = "127.0.0.1:9", *, name: str = "p", **more: Any) -> int:
        """Create a proxy and return its port."""
        body = {"name": name, "upstream": upstream, "listen": "127.0.0.1:0"} | more
        return port_of(self.do("POST", "/proxies", body)["listen"])

    def toxic(self, type_: str, *, proxy: str = "p", **more: Any) -> Any:
        """Add a toxic; keys that a toxic has go there, all others are attributes."""
        own = {
            key: more.pop(key)
            for key in ("name", "stream", "toxicity", "attributes")
            if key in more
        }
        body = {"type": type_, "attributes": more} | own
        return self.do("POST", f"/proxies/{proxy}/toxics", body)

    def sockets(self) -> int:
        """Count its sockets in /proc, but for those of its API."""
        names = set()
        for path in Path(f"/proc/{self.process.pid}/fd").iterdir():
            with suppress(FileNotFoundError):  # closed meanwhile
                names.add(str(path.readlink()))
        rows = [row.split() for row in Path("/proc/net/tcp").read_text().splitlines()[1:]]
        api = {f"socket:[{row[9]}]" for row in rows if int(row[1].split(":")[1], 16) == self.port}
        return sum(name.startswith("socket:") for name in names - api)

    def clear(self) -> None:
        for name in self.get("/proxies"):
            if "/" not in name:
                self.do("DELETE", f"/proxies/{urllib.parse.quote(name)}")


def port_of(listen: str) -> int:
    return int(listen.rpartition(":")[2])


@contextmanager
def running(ours: bool, *arguments: str) -> Iterator[Toxi]:
    if not ours:
        see_original()
    port = free_port()
    command = [sys.executable, "-m", "chaos", "toxiproxy-server"] if ours else ["toxiproxy-server"]
    with _running([*command, "-port", str(port), *arguments], port, ours) as toxi:
        yield toxi


@contextmanager
def _running(command: list[str], port: int, ours: bool) -> Iterator[Toxi]:
    # into a file: the original writes a line per call, and would wait for a pipe that nobody reads
    log = tempfile.TemporaryFile()  # noqa: SIM115 - closed below
    process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT)
    try:
        wait_for(port, process)
        yield Toxi(port=port, process=process, ours=ours, log=log)
    finally:
        process.terminate()
        try:
            process.wait(timeout=10)
        finally:
            process.kill()
            process.wait()
            log.close()


def wait_for(port: int, process: Process) -> None:
    deadline = time.monotonic() + 20
    while True:
        try:
            socket.create_connection(("127.0.0.1", port)).close()
            return
        except OSError:
            assert process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.01)


def see_original() -> None:
    """Skip a test that needs the original where there is none; where it is required, fail."""
    if shutil.which("toxiproxy-server") is None:
        reason = "no toxiproxy-server on PATH"
        if os.environ.get(REQUIRE) == "1":
            pytest.fail(reason)
        pytest.skip(reason)


@pytest.fixture(
    scope="module", params=["ours", pytest.param("original", marks=pytest.mark.toxiproxy)]
)
def started(request: pytest.FixtureRequest) -> Iterator[Toxi]:
    if request.param == "original":
        see_original()
    with running(request.param == "ours", "-proxy-metrics") as toxi:
        yield toxi


@pytest.fixture
def toxi(started: Toxi) -> Iterator[Toxi]:
    """Each of the two servers in turn, without a proxy."""
    started.clear()
    yield started
    started.clear()


@pytest.fixture(scope="module")
def started_ours() -> Iterator[Toxi]:
    with running(True, "-proxy-metrics", "-seed", "7") as toxi:
        yield toxi


@pytest.fixture
def ours(started_ours: Toxi) -> Iterator[Toxi]:
    """This project's server, without a proxy."""
    started_ours.clear()
    yield started_ours
    started_ours.clear()


@pytest.fixture
def original() -> Iterator[Toxi]:
    """An original of the test's own: the test may kill it."""
    see_original()
    with running(False) as toxi:
        yield toxi


@pytest.fixture
def run_server() -> Callable[..., Any]:
    """Start a server with arguments of its own."""
    return running


@pytest.fixture(scope="module")
def run_paged() -> Callable[..., Any]:
    """Start a server for a whole module, with arguments of its own."""
    return running


@pytest.fixture(scope="module")
def run_script() -> Callable[[Path], Any]:
    """Start a script that serves the API on the port that it is given."""

    def run(script: Path) -> Any:
        port = free_port()
        return _running([sys.executable, str(script), str(port)], port, True)

    return run


@contextmanager
def an_echo() -> Iterator[str]:
    """Give the address of a server that echoes for as long as the block lasts."""
    listener = socket.create_server(("127.0.0.1", 0), backlog=1000)

    def echo(peer: socket.socket) -> None:
        with suppress(OSError), peer:
            peer.settimeout(1)
            while chunk := peer.recv(65536):
                peer.sendall(chunk)

    def accept() -> None:
        with suppress(OSError):
            while True:
                threading.Thread(target=echo, args=(listener.accept()[0],), daemon=True).start()

    thread = threading.Thread(target=accept, daemon=True)
    thread.start()
    try:
        yield f"127.0.0.1:{listener.getsockname()[1]}"
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join()


class Peers:
    """A server's listening socket, and what connects to it through a proxy."""

    def __init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._listener.settimeout(WAIT_S)
        self._open: list[socket.socket] = [self._listener]
        self.address = f"127.0.0.1:{self._listener.getsockname()[1]}"

    def connect(self, port: int) -> socket.socket:
        client = socket.create_connection(("127.0.0.1", port), timeout=WAIT_S)
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._open.append(client)
        return client

    def accept(self) -> socket.socket:
        server, _ = self._listener.accept()
        server.settimeout(WAIT_S)
        self._open.append(server)
        return server

    def pair(self, port: int) -> tuple[socket.socket, socket.socket]:
        """Return a client and the server's side of its connection."""
        client = self.connect(port)
        return client, self.accept()

    def warm_pair(self, port: int) -> tuple[socket.socket, socket.socket]:
        """Return a pair over which a byte has passed both ways."""
        client, server = self.pair(port)
        client.sendall(b"a")
        assert server.recv(1) == b"a"
        server.sendall(b"b")
        assert client.recv(1) == b"b"
        return client, server

    def close(self) -> None:
        for each in self._open:
            each.close()


@pytest.fixture
def peers() -> Iterator[Peers]:
    made = Peers()
    yield made
    made.close()


class Bystander(threading.Thread):
    """Sends a byte through a proxy again and again, and back."""

    def __init__(self, client: socket.socket, server: socket.socket) -> None:
        super().__init__()
        self.took_s: list[float] = []
        self._client = client
        self._server = server
        self._is_over = threading.Event()

    def run(self) -> None:
        while not self._is_over.wait(0.002):
            start = time.perf_counter()
            self._client.sendall(b"?")
            self._server.recv(1)
            self._server.sendall(b"!")
            self._client.recv(1)
            self.took_s.append(time.perf_counter() - start)

    def observe(self, something: Callable[[], None]) -> list[float]:
        """Return how many seconds each round trip took while something was done, sorted."""
        self.start()
        try:
            something()
        finally:
            self._is_over.set()
            self.join()
        return sorted(self.took_s)


def end_of(stream: socket.socket) -> str:
    """Wait for the end of a stream; return `fin` or `rst`."""
    try:
        while stream.recv(65536):
            pass
    except ConnectionResetError:
        return "rst"
    return "fin"


def read_all(stream: socket.socket, size: int) -> bytes:
    parts = b""
    while len(parts) < size:
        part = stream.recv(min(65536, size - len(parts)))
        assert part, f"the stream ended after {len(parts)} of {size} bytes"
        parts += part
    return parts


@dataclass(frozen=True)
class Wire:
    """What tests do with sockets."""

    end_of = staticmethod(end_of)
    read_all = staticmethod(read_all)
    port_of = staticmethod(port_of)

    @staticmethod
    def silent(stream: socket.socket, for_s: float) -> bool:
        """Return whether neither a byte nor an end comes for so long."""
        stream.settimeout(for_s)
        try:
            stream.recv(1)
        except TimeoutError:
            return True
        finally:
            stream.settimeout(WAIT_S)
        return False

    @staticmethod
    def took(function: Callable[[], Any]) -> float:
        start = time.monotonic()
        function()
        return time.monotonic() - start

    @staticmethod
    def refused(port: int) -> bool:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=WAIT_S).close()
        except ConnectionRefusedError:
            return True
        return False


@pytest.fixture
def wire() -> Wire:
    return Wire()
