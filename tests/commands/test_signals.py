"""What SIGINT, SIGTERM, SIGHUP and SIGKILL do to a command: its exit code, what is kept, and that nothing is left."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform != "linux", reason="processes are found in /proc"),
]

SCENARIO = """
version: 1
name: long
duration: 40s
workload: [{from: server, every: 250ms}]
timeline: [{at: 2s, for: 1s, fault: stall, name: out}]
expect: [no_false_alarm]
"""
PLAY = "version: 1\nname: play\nduration: 30s\ntimeline: [{at: 100ms, for: 20s, fault: down, name: out}]\n"
STOPS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
# by command: its words, and what shows that it is under way
COMMANDS = {
    "run": ("run long.yaml --out out", "out/long/trace.jsonl"),
    "sweep": ("sweep long.yaml --seeds 100000 --jobs 2 --out out", "out/results.jsonl"),
    "verified": ("sweep long.yaml --seeds 100000 --jobs 2 --verify-determinism --out out", None),
    "hunt": ("hunt long.yaml --budget 60s", None),
    "replay": ("replay out/long", None),
    "play": ("play play.yaml --upstream 127.0.0.1:9 --listen 127.0.0.1:{port}", None),
    "server": ("toxiproxy-server --port {port}", None),
}
UNDER_WAY_S = 5.0


def trio_chaos(folder: Path, words: str) -> tuple[subprocess.Popen[str], str]:
    """Start a command; return it, and the tag that its processes have."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    tag = uuid.uuid4().hex
    process = subprocess.Popen(
        [sys.executable, "-m", "chaos", *words.format(port=port).split()],
        cwd=folder,
        env={**os.environ, "RUN_TAG": tag, "TMPDIR": str(folder / "tmp")},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    return process, tag


def processes_of(tag: str) -> Iterator[int]:
    for path in Path("/proc").glob("[0-9]*"):
        try:
            if f"RUN_TAG={tag}".encode() in (path / "environ").read_bytes():
                yield int(path.name)
        except OSError:
            continue


def wait_until(holds: Callable[[], bool], within_s: float) -> None:
    deadline_s = time.monotonic() + within_s
    while not holds():
        assert time.monotonic() < deadline_s
        time.sleep(0.05)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "tmp").mkdir()
    (tmp_path / "long.yaml").write_text(SCENARIO)
    (tmp_path / "play.yaml").write_text(PLAY)
    return tmp_path


def begin(folder: Path, name: str) -> tuple[subprocess.Popen[str], str]:
    """Start a command, and return once it is under way."""
    words, shown = COMMANDS[name]
    if name == "replay":  # of a run on real sockets, which takes its time
        process, _ = trio_chaos(folder, COMMANDS["run"][0])
        wait_until(lambda: (folder / "out/long/trace.jsonl").exists(), 30.0)
        process.send_signal(signal.SIGINT)
        process.communicate()
    process, tag = trio_chaos(folder, words)
    if shown is not None:
        wait_until(lambda: (folder / shown).exists() and (folder / shown).stat().st_size > 0, 30.0)
    else:
        time.sleep(UNDER_WAY_S)
    return process, tag


@pytest.mark.parametrize("number", STOPS)
@pytest.mark.parametrize("name", COMMANDS)
def test_a_signal_ends_a_command_in_order(folder: Path, name: str, number: signal.Signals) -> None:
    process, tag = begin(folder, name)
    process.send_signal(number)
    _, said = process.communicate(timeout=30)
    # the server ends in order like the original, once it serves
    assert process.returncode in ((0, 128 + number) if name == "server" else (128 + number,))
    assert "Traceback" not in said
    assert list(processes_of(tag)) == []
    assert list((folder / "tmp").iterdir()) == []
    if name == "run":
        assert json.loads((folder / "out/long/verdict.json").read_text())["outcome"]
    if name == "replay":
        assert "interrupted" in said


@pytest.mark.parametrize("name", COMMANDS)
def test_a_command_that_is_killed_leaves_nothing(folder: Path, name: str) -> None:
    process, tag = begin(folder, name)
    process.kill()
    process.communicate()
    wait_until(lambda: not list(processes_of(tag)), 2.0)
    assert list((folder / "tmp").iterdir()) == []
    for file in folder.rglob("*.jsonl"):
        for line in file.read_text().split("\n")[:-1]:
            json.loads(line)


def test_a_run_whose_process_is_stopped_is_given_up(folder: Path) -> None:
    process, tag = begin(folder, "run")
    # the workers are the youngest: the command, the fork server and one worker
    *_, worker = sorted(processes_of(tag))
    os.kill(worker, signal.SIGSTOP)
    process.communicate(timeout=30)
    assert process.returncode == 2
    verdict = json.loads((folder / "out/long/verdict.json").read_text())
    assert "not heard of" in verdict["findings"][0]["reason"]
    assert list(processes_of(tag)) == []
