"""Runs the original's own Go tests of its API against this project's server, unchanged, and counts.

`python tests/toxiproxy_server/go_suite.py` downloads Toxiproxy 2.12.0 with Go's own client, compiles its tests once,
and runs each in a process of its own with a fresh server. Its tests start a server of their own on port 8475, whose
failure to listen they ignore: so they speak to whoever has the port.
"""

from __future__ import annotations

import json
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

MODULE = "github.com/Shopify/toxiproxy/v2@v2.12.0"
PORT = 8475
TEST_S = 60


class Unavailable(Exception):
    """The suite cannot be had here; says why."""


def fetch(folder: Path) -> Path:
    """Copy the module's source to a folder and return where it is. Raises Unavailable."""
    go = shutil.which("go")
    if go is None:
        raise Unavailable("no go on PATH")
    done = subprocess.run(
        [go, "mod", "download", "-json", MODULE],
        check=False,
        capture_output=True,
        text=True,
        cwd=folder,
    )
    if done.returncode:
        raise Unavailable(f"go mod download failed: {(done.stdout + done.stderr).strip()[-300:]}")
    source = folder / "source"
    shutil.copytree(json.loads(done.stdout)["Dir"], source)
    for path in (source, *source.rglob("*")):
        path.chmod(path.stat().st_mode | 0o200)  # modules are kept read-only
    return source


def build(source: Path) -> Path:
    """Compile the tests of the module's root package. Raises Unavailable."""
    done = subprocess.run(
        ["go", "test", "-c", "-o", "suite.test", "."],
        check=False,
        capture_output=True,
        text=True,
        cwd=source,
    )
    if done.returncode:
        raise Unavailable(f"go test -c failed: {done.stderr.strip()[-300:]}")
    return source / "suite.test"


def names(source: Path) -> list[str]:
    """Return the tests that speak to the API."""
    return re.findall(r"^func (Test\w+)\(", (source / "api_test.go").read_text(), re.MULTILINE)


@contextmanager
def server(port: int, *arguments: str) -> Iterator[subprocess.Popen[bytes]]:
    """Run this project's server; it is stopped, and must end by itself, when the block ends."""
    process = subprocess.Popen(
        [sys.executable, "-m", "chaos", "toxiproxy-server", "-port", str(port), *arguments],
        stderr=subprocess.PIPE,
    )
    try:
        wait_for(port, process)
        yield process
    finally:
        process.terminate()
        try:
            process.communicate(timeout=10)
        finally:
            process.kill()
            process.wait()


def wait_for(port: int, process: subprocess.Popen[bytes]) -> None:
    """Wait until the server listens."""
    deadline = time.monotonic() + 20
    while True:
        try:
            socket.create_connection(("127.0.0.1", port)).close()
            return
        except OSError:
            assert process.poll() is None, "the server ended by itself"
            assert time.monotonic() < deadline, "the server does not listen"
            time.sleep(0.02)


def run(folder: Path) -> tuple[list[str], dict[str, str]]:
    """Run the suite; return the names of all tests and what each failed one printed. Raises Unavailable."""
    source = fetch(folder)
    program = build(source)
    failures = {}
    for name in names(source):
        with server(PORT, "--api-version", "git"):
            done = subprocess.run(
                [program, "-test.run", f"^{name}$", "-test.v"],
                check=False,
                cwd=source,
                capture_output=True,
                text=True,
                timeout=TEST_S,
            )
        if done.returncode or f"--- PASS: {name}" not in done.stdout:
            failures[name] = done.stdout + done.stderr
    return names(source), failures


def main() -> int:
    with tempfile.TemporaryDirectory() as folder:
        every, failures = run(Path(folder))
    for name, said in failures.items():
        print(f"{name}\n{said}")
    print(f"{len(every) - len(failures)} of {len(every)} tests of {MODULE} passed")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
