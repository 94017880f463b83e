"""`trio-chaos toxiproxy-server` as a process: flags, signals, its config file, and nothing left behind."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.slow


def call(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "chaos", "toxiproxy-server", *arguments],
        check=False,
        capture_output=True,
        text=True,
        timeout=20,
    )


@pytest.mark.parametrize("flag", ["-version", "--version", "-version=true"])
def test_the_version_is_printed_as_the_original_prints_it(flag: str) -> None:
    done = call(flag)
    assert (done.returncode, done.stdout) == (0, "toxiproxy-server version 2.12.0\n")


@pytest.mark.parametrize("signal_", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_at_once_with_code_0_whatever_is_open(
    run_server: Any, peers: Any, wire: Any, signal_: signal.Signals
) -> None:
    with run_server(True) as toxi:
        client, server = peers.warm_pair(toxi.create(peers.address))
        toxi.toxic("latency", latency=60_000)
        kept = socket.create_connection(("127.0.0.1", toxi.port))
        kept.sendall(b"GET /version HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert kept.recv(1000)
        start = time.monotonic()
        toxi.process.send_signal(signal_)
        assert toxi.process.wait(10) == 0
        assert time.monotonic() - start < 4
        assert (wire.end_of(client), wire.end_of(server)) == ("fin", "fin")
        kept.close()
        toxi.log.seek(0)
        said = toxi.log.read().decode()
    assert said == f"serving Toxiproxy's API on http://127.0.0.1:{toxi.port}\n"


def test_a_port_that_is_taken_is_a_usage_error() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        done = call("-port", str(taken.getsockname()[1]))
    assert done.returncode == 254
    assert "address already in use" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("port", ["99999", "x", "-1"])
def test_a_port_that_is_none_is_a_usage_error(port: str) -> None:
    done = call(f"-port={port}")
    assert done.returncode == 254
    assert "Traceback" not in done.stderr


def test_other_addresses_than_loopback_are_warned_of(run_server: Any) -> None:
    with run_server(True, "-host=0.0.0.0") as toxi:
        toxi.get("/proxies")
        deadline = time.monotonic() + 5
        while b"can be reached from other machines" not in said(toxi):
            assert time.monotonic() < deadline
            time.sleep(0.02)


def said(toxi: Any) -> bytes:
    toxi.log.seek(0)
    return bytes(toxi.log.read())


def test_the_api_version_is_what_it_is_told(run_server: Any) -> None:
    with run_server(True, "--api-version", "git") as toxi:
        assert toxi.get("/version") == {"version": "git"}


def test_the_default_version_is_the_originals(ours: Any) -> None:
    assert ours.get("/version") == {"version": "2.12.0"}


@pytest.mark.parametrize("text", [None, "no json", '[{"name":"a"}]', "{}"])
def test_a_config_file_that_is_wrong_is_logged_and_the_server_starts(
    run_server: Any, tmp_path: Path, text: str | None
) -> None:
    path = tmp_path / "config.json"
    if text is not None:
        path.write_text(text)
    with run_server(True, "-config", str(path)) as toxi:
        assert toxi.get("/proxies") == {}
        assert b"config.json" in said(toxi)


@pytest.mark.parametrize("ours", [True, pytest.param(False, marks=pytest.mark.toxiproxy)])
def test_a_config_file_creates_proxies(run_server: Any, tmp_path: Path, ours: bool) -> None:
    path = tmp_path / "config.json"
    rows = [
        {"name": "a", "listen": "127.0.0.1:0", "upstream": "u:1"},
        {"name": "b", "listen": "x", "upstream": "u:1", "enabled": False},
    ]
    path.write_text(json.dumps(rows))
    with run_server(ours, f"-config={path}") as toxi:
        found = toxi.get("/proxies")
    assert [(row["name"], row["enabled"]) for row in found.values()] == [("a", True), ("b", False)]


@pytest.mark.parametrize("ours", [True, pytest.param(False, marks=pytest.mark.toxiproxy)])
@pytest.mark.parametrize("flags", [(), ("-proxy-metrics=false",), ("-runtime-metrics",)])
def test_metrics_are_there_when_asked_for(run_server: Any, ours: bool, flags: Any) -> None:
    with run_server(ours, *flags) as toxi:
        for method in ("GET", "POST", "DELETE"):
            answer = toxi.ask(method, "/metrics")
            assert answer.status == (200 if "-runtime-metrics" in flags else 404)
        if answer.status == 200:
            assert b"\nprocess_open_fds " in answer.body
            assert b"toxiproxy_proxy" not in answer.body
