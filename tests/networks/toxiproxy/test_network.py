"""The Toxiproxy network when Toxiproxy is absent, broken, killed or shared: clear words, and nothing left behind."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import trio

from chaos.errors import (
    EXIT_INCONCLUSIVE,
    EXIT_INVALID,
    EXIT_PASSED,
    NetworkUnavailable,
    UsageError,
)
from chaos.networks import make_network
from chaos.networks.toxiproxy import api
from chaos.networks.toxiproxy import process as toxiproxy_process
from chaos.networks.toxiproxy.api import parse_url, read_version

SCENARIO = """\
version: 1
name: short
duration: 4s
settle: 1s
server: {tls: TLS}
workload: [{from: server, every: 200ms, size: 64}]
timeline:
  - {at: 2s, for: 1s, toxic: latency, attributes: {latency: 100}}
expect: [{delivers: {lost: 0}}, no_leaks]
"""


@pytest.fixture
def scenario_file(tmp_path: Path) -> Path:
    path = tmp_path / "short.yaml"
    path.write_text(SCENARIO.replace("TLS", "false"))
    return path


def command(*arguments: object, **environment: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "chaos", "run", *map(str, arguments), "--network", "toxiproxy"],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=os.environ | environment,
    )


def finish(process: subprocess.Popen[str]) -> tuple[int, str]:
    said, _ = process.communicate(timeout=40)
    # wrapped lines would hide words from a search
    return process.returncode, " ".join(said.split())


def toxiproxies_under(pid: int) -> list[int]:
    """Return the toxiproxy-servers among the descendants of a process."""
    if not Path("/proc/self/stat").exists():
        pytest.skip("needs /proc")
    parents, names = {}, {}
    for entry in Path("/proc").glob("[0-9]*/stat"):
        try:
            head, _, tail = entry.read_text().rpartition(")")
        except OSError:
            continue
        state, parent = tail.split()[:2]
        if state != "Z":
            number, _, name = head.partition(" (")
            parents[int(number)], names[int(number)] = int(parent), name

    def descends(child: int) -> bool:
        while child in parents:
            child = parents[child]
            if child == pid:
                return True
        return False

    return [child for child in parents if names[child].startswith("toxiproxy") and descends(child)]


def wait_for_toxiproxy(pid: int) -> int:
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        if found := toxiproxies_under(pid):
            return found[0]
        time.sleep(0.02)
    raise AssertionError("no toxiproxy-server was started")


@contextmanager
def stub(
    status: int, body: str = "", version: str | None = None, hang: bool = False
) -> Iterator[str]:
    """A tiny HTTP server that answers everything alike, except perhaps the version; gives its URL."""
    release = threading.Event()

    class Handler(BaseHTTPRequestHandler):
        def answer(self) -> None:
            if hang:
                release.wait(20)
            known = version is not None and self.path == "/version"
            text = json.dumps({"version": version}) if known else body
            self.send_response(200 if known else status)
            self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            self.wfile.write(text.encode())

        do_GET = do_POST = do_DELETE = answer  # noqa: N815 - http.server calls them so

        def log_message(self, *_: Any) -> None:
            pass

        def handle(self) -> None:
            try:
                super().handle()
            except OSError:
                pass  # the caller has given up

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        release.set()
        server.shutdown()
        thread.join()
        server.server_close()


async def failure_of(world: Any, wire: Any, url: str | None, body: Any = None) -> str:
    """Return what the network says when it cannot be had, or breaks while `body` is under way."""
    said: list[str] = []
    try:
        async with world("toxiproxy", wire.echo, url=url) as here:
            assert body is not None, "it came up"
            await body(here)
    except* NetworkUnavailable as group:
        error: BaseException = group
        while isinstance(error, BaseExceptionGroup):
            error = error.exceptions[0]
        said.append(str(error))
    [only] = said
    return only


@contextmanager
def shared_toxiproxy() -> Iterator[tuple[subprocess.Popen[bytes], str]]:
    """A Toxiproxy that belongs to somebody else, with a proxy of theirs."""
    port = toxiproxy_process.free_port()
    process = subprocess.Popen(
        ["toxiproxy-server", "-port", str(port)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    url = f"http://127.0.0.1:{port}"
    try:
        deadline = time.monotonic() + 10
        while True:
            try:
                ask(url, "/version")
                break
            except OSError:
                assert time.monotonic() < deadline
                time.sleep(0.02)
        ask(url, "/proxies", {"name": "theirs", "listen": "127.0.0.1:0", "upstream": "localhost:9"})
        yield process, url
    finally:
        process.kill()
        process.wait()


def ask(url: str, path: str, body: dict[str, Any] | None = None) -> Any:
    data = None if body is None else json.dumps(body).encode()
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(urllib.request.Request(url + path, data), timeout=5) as answer:
        return json.loads(answer.read())


# the URL


@pytest.mark.parametrize(
    "url",
    [
        "nonsense",
        "",
        "ftp://localhost:8474",
        "https://localhost:8474",
        "http://",
        "http://localhost:99999",
        "http://localhost:port",
        "http://localhost:8474/proxies",
        "http://me@localhost",
        "http://[::1",
    ],
)
def test_a_malformed_url_is_a_usage_error_that_says_what_is_expected(url: str) -> None:
    with pytest.raises(UsageError, match="http://host:8474"):
        make_network("toxiproxy", url)


def test_a_url_may_leave_the_port_out_and_end_in_a_slash() -> None:
    assert parse_url("http://toxi.example/") == ("toxi.example", 8474)
    assert parse_url("http://[::1]:1") == ("::1", 1)


@pytest.mark.parametrize(
    ("text", "version"),
    [
        ('{"version": "2.12.0"}', "2.12.0"),
        ("2.1.4", "2.1.4"),
        ("git", "git"),
        ("<html>404</html>", None),
        ('{"status": "ok"}', None),
        ("[]", None),
        ("", None),
    ],
)
def test_the_version_tells_a_toxiproxy_from_other_servers(text: str, version: str | None) -> None:
    assert read_version(text) == version


@pytest.mark.slow
def test_a_malformed_url_ends_the_command_with_254(scenario_file: Path) -> None:
    code, said = finish(command(scenario_file, "--toxiproxy", "localhost:8474"))
    assert code == EXIT_INVALID
    assert "expected http://host:8474, got 'localhost:8474'" in said


# nobody there, or somebody else


@pytest.mark.slow
def test_no_toxiproxy_at_the_url_is_inconclusive_and_says_so(scenario_file: Path) -> None:
    port = toxiproxy_process.free_port()
    code, said = finish(command(scenario_file, "--toxiproxy", f"http://127.0.0.1:{port}"))
    assert code == EXIT_INCONCLUSIVE
    assert f"Toxiproxy at 127.0.0.1:{port} failed: version: [Errno" in said
    assert "Connection refused" in said
    assert "Traceback" not in said


@pytest.mark.slow
@pytest.mark.parametrize("status", [200, 404, 500, 503])
async def test_another_http_server_is_told_from_a_toxiproxy(
    status: int, world: Any, wire: Any
) -> None:
    with stub(status, "<html>welcome</html>") as url:
        said = await failure_of(world, wire, url)
    assert said.startswith(f"no Toxiproxy at {url.removeprefix('http://')}: expected its version")
    assert f"got status {status}" in said


@pytest.mark.slow
@pytest.mark.parametrize("status", [500, 503])
@pytest.mark.parametrize("body", ["<html>Timeout</html>", '{"error": "boom", "status": 500}', "[]"])
async def test_a_toxiproxy_that_answers_errors_is_unavailable(
    status: int, body: str, world: Any, wire: Any
) -> None:
    with stub(status, body, version="2.12.0") as url:
        said = await failure_of(world, wire, url)
    assert "create proxy trio-chaos-" in said


@pytest.mark.slow
def test_a_toxiproxy_that_answers_errors_makes_the_command_end_with_2(scenario_file: Path) -> None:
    with stub(503, "<html>Timeout</html>", version="2.12.0") as url:
        code, said = finish(command(scenario_file, "--toxiproxy", url))
    assert code == EXIT_INCONCLUSIVE
    assert "its answer is an error or none of Toxiproxy's" in said
    assert "Traceback" not in said


@pytest.mark.slow
async def test_a_toxiproxy_that_hangs_is_given_up(
    world: Any, wire: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(api, "CALL_S", 0.3)
    with stub(200, hang=True) as url:
        said = await failure_of(world, wire, url)
    assert "0.3 s" in said


async def test_without_a_toxiproxy_server_on_path_it_says_what_to_do(
    world: Any, wire: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "")
    said = await failure_of(world, wire, None)
    assert "no toxiproxy-server on PATH" in said
    assert "--network embedded" in said


@pytest.mark.slow
def test_without_a_toxiproxy_server_the_command_ends_with_2(scenario_file: Path) -> None:
    code, said = finish(command(scenario_file, PATH=""))
    assert code == EXIT_INCONCLUSIVE
    assert "no toxiproxy-server on PATH; install Toxiproxy, give --toxiproxy URL" in said


# a real Toxiproxy


@pytest.mark.slow
@pytest.mark.toxiproxy
async def test_a_port_that_somebody_has_is_left_alone_and_another_is_tried(
    toxiproxy_server: None, world: Any, wire: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    occupied = await trio.open_tcp_listeners(0, host="127.0.0.1")
    taken = occupied[0].socket.getsockname()[1]
    free = toxiproxy_process.free_port
    ports = [taken, taken]
    monkeypatch.setattr(toxiproxy_process, "free_port", lambda: ports.pop() if ports else free())
    async with world("toxiproxy", wire.echo) as here:
        assert await here.connect()
    assert ports == []
    monkeypatch.setattr(toxiproxy_process, "free_port", lambda: taken)
    assert "5 attempts" in await failure_of(world, wire, None)
    await occupied[0].aclose()


@pytest.mark.slow
@pytest.mark.toxiproxy
async def test_nothing_is_left_behind(toxiproxy_server: None, world: Any, wire: Any) -> None:
    async with world("toxiproxy", wire.echo, clients=3) as here:
        await here.connect()
        [process] = toxiproxies_under(os.getpid())
        lanes = list(here.network._lanes.values())
        ports = [*here.ports, *(lane.port for lane in lanes)]
    assert toxiproxies_under(os.getpid()) == []
    with pytest.raises(ProcessLookupError):
        os.kill(process, 0)  # it would still be there if nobody had waited for it
    for port in ports:
        with pytest.raises(OSError, match="connect"):
            await trio.open_tcp_stream("127.0.0.1", port)


@pytest.mark.slow
@pytest.mark.toxiproxy
async def test_a_toxiproxy_that_is_killed_is_named(
    toxiproxy_server: None, world: Any, wire: Any
) -> None:
    async def kill(here: Any) -> None:
        await here.connect()
        os.kill(toxiproxies_under(os.getpid())[0], signal.SIGKILL)
        await trio.sleep(5)

    said = await failure_of(world, wire, None, kill)
    assert said.startswith("toxiproxy-server")
    assert "SIGKILL" in said


@pytest.mark.slow
@pytest.mark.toxiproxy
def test_a_run_whose_toxiproxy_is_killed_is_inconclusive(
    toxiproxy_server: None, scenario_file: Path
) -> None:
    process = command(scenario_file)
    server = wait_for_toxiproxy(process.pid)
    time.sleep(1.0)
    os.kill(server, signal.SIGKILL)
    code, said = finish(process)
    assert code == EXIT_INCONCLUSIVE
    assert "INCONCLUSIVE" in said
    assert "SIGKILL" in said
    assert "FAIL " not in said


@pytest.mark.slow
@pytest.mark.toxiproxy
def test_a_run_whose_shared_toxiproxy_goes_away_is_inconclusive(
    toxiproxy_server: None, scenario_file: Path
) -> None:
    with shared_toxiproxy() as (server, url):
        process = command(scenario_file, "--toxiproxy", url)
        deadline = time.monotonic() + 10
        while len(ask(url, "/proxies")) < 2:
            assert time.monotonic() < deadline
            time.sleep(0.02)
        time.sleep(0.7)
        server.kill()
        code, said = finish(process)
    assert code == EXIT_INCONCLUSIVE
    assert "proxy trio-chaos-" in said
    assert "Traceback" not in said


@pytest.mark.slow
@pytest.mark.toxiproxy
async def test_two_runs_share_a_toxiproxy_and_leave_only_what_others_put_there(
    toxiproxy_server: None, scenario_file: Path
) -> None:
    with shared_toxiproxy() as (_, url):
        before = ask(url, "/proxies")
        runs = [command(scenario_file, "--toxiproxy", url) for _ in range(2)]
        ours: set[str] = set()
        while any(run.poll() is None for run in runs):
            ours |= set(ask(url, "/proxies")) - set(before)
            await trio.sleep(0.05)
        for run in runs:
            assert finish(run)[0] == EXIT_PASSED
        assert len(ours) == 2
        assert ask(url, "/proxies") == before


@pytest.mark.slow
@pytest.mark.toxiproxy
def test_a_run_that_is_interrupted_deletes_its_proxies(
    toxiproxy_server: None, scenario_file: Path
) -> None:
    with shared_toxiproxy() as (_, url):
        process = command(scenario_file, "--toxiproxy", url)
        deadline = time.monotonic() + 10
        while len(ask(url, "/proxies")) < 2:
            assert time.monotonic() < deadline
            time.sleep(0.01)
        process.send_signal(signal.SIGINT)
        code, _ = finish(process)
        assert code == 130
        assert set(ask(url, "/proxies")) == {"theirs"}


@pytest.mark.slow
@pytest.mark.toxiproxy
@pytest.mark.parametrize("after_s", [0.0, 0.005, 0.01, 0.02, 0.04])
async def test_cancelling_during_the_start_leaves_no_proxy(
    toxiproxy_server: None, world: Any, wire: Any, after_s: float
) -> None:
    with shared_toxiproxy() as (_, url):
        with trio.move_on_after(after_s):
            async with world("toxiproxy", wire.echo, clients=10, url=url):
                await trio.sleep(0.01)
        await trio.sleep(0.1)  # a call that was left to its thread would still add one
        assert set(ask(url, "/proxies")) == {"theirs"}


@pytest.mark.slow
@pytest.mark.toxiproxy
def test_wss_runs_behind_toxiproxy_whatever_http_proxy_the_environment_names(
    toxiproxy_server: None, scenario_file: Path
) -> None:
    scenario_file.write_text(SCENARIO.replace("TLS", "true"))
    nobody = f"http://127.0.0.1:{toxiproxy_process.free_port()}"
    code, said = finish(command(scenario_file, HTTP_PROXY=nobody, http_proxy=nobody))
    assert code == EXIT_PASSED, said


def test_the_servers_port_is_none_that_a_link_could_be_given() -> None:
    with socket.socket() as link:
        link.bind(("127.0.0.1", 0))
        ports = {toxiproxy_process.free_port() for _ in range(50)}
        assert len(ports) > 40
        assert max(ports) < 30_000 < link.getsockname()[1]
