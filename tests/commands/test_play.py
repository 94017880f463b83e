"""`trio-chaos play`: one proxy, a timeline, and what is shown of it."""

from __future__ import annotations

import io
import os
import pty
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import trio
from rich.console import Console
from trio.testing import MockClock

from chaos.commands.live import Display, Screen, render
from chaos.commands.play_view import PlayView, show_bytes
from chaos.networks.toxiproxy.process import free_port
from chaos.scenario.load import load_text
from chaos.scenario.plan import make_plan
from chaos.toxiproxy_server.proxy import Proxy, SharedState
from chaos.toxiproxy_server.timeline import ProxyTimeline

YAML = """\
version: 1
name: short
duration: 1200ms
timeline:
  - {at: 300ms, for: 300ms, toxic: latency, name: slow, attributes: {latency: 20}}
  - {at: 800ms, fault: reset}
"""


def command(path: Path, *arguments: str) -> list[str]:
    return [sys.executable, "-m", "chaos", "play", str(path), *arguments]


def started(
    tmp_path: Path, upstream: str, *more: str, text: str = YAML, output: Any = subprocess.PIPE
) -> tuple[subprocess.Popen[str], int]:
    path, port = tmp_path / "short.yaml", free_port()
    path.write_text(text)
    arguments = ("--upstream", upstream, "--listen", f"127.0.0.1:{port}", *more)
    process = subprocess.Popen(
        command(path, *arguments), stdout=output, stderr=subprocess.STDOUT, text=True
    )
    deadline = time.monotonic() + 10
    while True:
        try:
            socket.create_connection(("127.0.0.1", port)).close()
            return process, port
        except OSError:
            assert process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.01)


@pytest.mark.slow
def test_it_plays_against_whatever_connects_and_ends_with_0(
    tmp_path: Path, peers: Any, wire: Any
) -> None:
    process, port = started(tmp_path, peers.address, "--seed", "3")
    peers.accept().close()  # the one that looked whether it listens
    client, _ = peers.warm_pair(port)
    assert wire.end_of(client) == "rst"
    said, _ = process.communicate(timeout=10)
    assert process.returncode == 0
    assert f"playing short on 127.0.0.1:{port} → {peers.address}, seed 3" in said
    lines = [line.strip() for line in said.splitlines()]
    assert lines[1].startswith("0.300 s  slow begins  (1 open; 1 B to the upstream, 1 B from it)")
    assert lines[2].startswith("0.600 s  slow ends")
    assert lines[3].startswith("0.800 s  fault reset happens")
    assert lines[4] == "the timeline is over"
    assert wire.refused(port)


@pytest.mark.slow
@pytest.mark.parametrize("signal_", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_it_cleanly(
    tmp_path: Path, peers: Any, wire: Any, signal_: signal.Signals
) -> None:
    process, port = started(tmp_path, peers.address, "--loop")
    peers.accept().close()
    time.sleep(1.4)  # into the second time
    client, _ = peers.warm_pair(port)
    process.send_signal(signal_)
    said, _ = process.communicate(timeout=10)
    assert process.returncode == 128 + signal_
    assert "again" in said
    assert "Traceback" not in said
    assert wire.end_of(client) == "fin"


@pytest.mark.slow
def test_on_a_terminal_it_shows_a_table(tmp_path: Path, peers: Any) -> None:
    ours, theirs = pty.openpty()
    process, _ = started(tmp_path, peers.address, output=theirs)
    os.close(theirs)
    seen = b""
    try:
        while part := os.read(ours, 65536):
            seen += part
    except OSError:
        pass  # the other end has gone
    finally:
        os.close(ours)
    assert process.wait(10) == 0
    for word in (b"in force", b"coming", b"over", b"of 1.2 s", b"the timeline is over"):
        assert word in seen


@pytest.mark.slow
@pytest.mark.parametrize(
    ("text", "arguments", "told"),
    [
        (YAML, {"--upstream": "nowhere"}, "cannot use --upstream nowhere"),
        (YAML, {"--upstream": "127.0.0.1:0"}, "expected HOST:PORT"),
        (YAML, {"--listen": "nowhere"}, "cannot listen on nowhere"),
        (YAML, {"--cell": "a=1"}, "has no matrix"),
        ("version: 1\n", {}, "bad.yaml:1:1: "),
        (
            (
                "version: 1\nname: m\nduration: 9s\nmatrix: {w: [1s, 2s]}\n"
                'timeline: [{at: "${w}", for: 1s, fault: stall}]\n'
            ),
            {},
            "expected --cell to be one of its cells (w=1s, w=2s), got none",
        ),
        (
            "version: 1\nname: m\nduration: 9s\ntimeline:\n  - {at: 1s, action: drain, by: server}\n",
            {},
            "bad.yaml:5:14: a proxy cannot play an action",
        ),
        (None, {}, "cannot read"),
    ],
)
def test_what_cannot_be_played_is_254_and_a_sentence(
    tmp_path: Path, text: str | None, arguments: dict[str, str], told: str
) -> None:
    path = tmp_path / "bad.yaml"
    if text is not None:
        path.write_text(text)
    given = {"--upstream": "127.0.0.1:9", "--listen": "127.0.0.1:0"} | arguments
    options = [word for pair in given.items() for word in pair]
    done = subprocess.run(
        command(path, *options), check=False, capture_output=True, text=True, timeout=20
    )
    assert done.returncode == 254, done
    assert told in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.slow
def test_it_ends_quietly_when_nobody_reads_its_output(tmp_path: Path) -> None:
    path = tmp_path / "short.yaml"
    path.write_text(YAML)
    options = ("--upstream", "127.0.0.1:9", "--listen", "127.0.0.1:0")
    with subprocess.Popen(
        command(path, *options), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.readline().startswith("playing short")
        process.stdout.close()
        said = process.stderr.read()
    assert process.returncode != 255
    assert "Traceback" not in said


@pytest.mark.slow
def test_help_imports_nothing_heavy() -> None:
    code = (
        "import sys; from chaos.commands.main import cli; cli.main(['play', '--help'], standalone_mode=False)\n"
        "print(sorted({'trio', 'pydantic', 'rich', 'starlette'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout.splitlines()[-1] == "[]"


async def test_the_views_follow_the_timeline(autojump_clock: MockClock) -> None:
    [scenario] = load_text(YAML, "short.yaml")
    lines: list[str] = []
    async with trio.open_nursery() as nursery:
        shared = SharedState(nursery=nursery, seed=1)
        proxy = Proxy(name="p", listen="127.0.0.1:0", upstream="127.0.0.1:9", shared=shared)
        timeline = ProxyTimeline(plan=make_plan(scenario, 1), proxy=proxy)
        plain = PlayView(timeline.timeline, shared, Display(Screen, write=lines.append))
        timeline.told = plain.stepped
        states: list[list[str]] = []
        nursery.start_soon(timeline.run)
        for _ in range(4):  # at 0.1, 0.4, 0.7 and 1 s
            await trio.sleep(0.1 if not states else 0.3)
            states.append([plain.state(entry) for entry in (0, 1)])
        out = io.StringIO()
        Console(file=out, width=80).print(render(plain.screen(), 80))
    assert states == [
        ["coming", "coming"],
        ["in force", "coming"],
        ["over", "coming"],
        ["over", "over"],
    ]
    assert "1.0 s of 1.2 s; 0 open" in out.getvalue()
    assert "0.3 to 0.6 s" in out.getvalue()
    assert [line.split("  ")[1] for line in map(str.strip, lines)] == [
        "slow begins",
        "slow ends",
        "fault reset happens",
    ]
    assert proxy.toxics() == []


async def test_a_cancelled_timeline_leaves_nothing_behind(autojump_clock: MockClock) -> None:
    [scenario] = load_text(YAML, "short.yaml")
    async with trio.open_nursery() as nursery:
        shared = SharedState(nursery=nursery, seed=1)
        proxy = Proxy(name="p", listen="127.0.0.1:0", upstream="127.0.0.1:9", shared=shared)
        timeline = ProxyTimeline(plan=make_plan(scenario, 1), proxy=proxy)
        nursery.start_soon(timeline.run)
        await trio.sleep(0.4)
        assert [toxic.name for toxic in proxy.toxics()] == ["timeline:1:slow"]
        nursery.cancel_scope.cancel()
    assert proxy.toxics() == []


def test_bytes_are_shown_in_the_unit_that_fits() -> None:
    shown = [show_bytes(size) for size in (0, 999, 1000, 2_500_000, 5e12)]
    assert shown == ["0 B", "999 B", "1.0 kB", "2.5 MB", "5000.0 GB"]


@pytest.mark.slow
def test_ctrl_c_while_the_proxy_is_down_is_answered_in_silence(tmp_path: Path, peers: Any) -> None:
    text = YAML.partition("timeline:")[0].replace("1200ms", "30s")
    text += "timeline: [{at: 300ms, for: 20s, fault: down, name: out}]\n"
    for wait_s in (0.6, 0.9, 1.2):
        process, _ = started(tmp_path, peers.address, text=text)
        time.sleep(wait_s)
        process.send_signal(signal.SIGINT)
        said, _ = process.communicate(timeout=10)
        assert process.returncode == 130
        assert "Traceback" not in said
