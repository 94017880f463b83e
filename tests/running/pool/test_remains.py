"""What a subject leaves in its process: output without end, processes of its own, a process that is broken."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from chaos.running.pool.remains import KEPT_BYTES, SHOWN_BYTES

pytestmark = pytest.mark.slow

SUBJECTS = """
import os, subprocess, sys
import trio

class Mute(Exception):
    def __str__(self):
        raise RuntimeError

def then(do):
    async def client(url, **_):
        await trio.sleep(0.3)
        do()
        await trio.sleep_forever()
    return client

def fail(error):
    raise error

floods = then(lambda: sys.stdout.write("x" * 5_000_000))
spawns = then(lambda: subprocess.Popen(["sleep", "617"]))
exits = then(lambda: sys.exit(3))
interrupts = then(lambda: fail(KeyboardInterrupt()))
is_mute = then(lambda: fail(Mute()))
closes = then(lambda: os.closerange(3, 4096))
"""
SCENARIO = """
version: 1
name: remains
duration: 1500ms
settle: 100ms
timeline: [{at: 1s, toxic: noop}]
expect: [never_sends_before_open]
"""


def run(tmp_path: Path, name: str, *options: object) -> subprocess.CompletedProcess[str]:
    (tmp_path / "mine.py").write_text(SUBJECTS)
    (tmp_path / "remains.yaml").write_text(SCENARIO)
    command = ["run", "remains.yaml", "--client", f"mine.py:{name}", "--json", *options]
    return subprocess.run(
        [sys.executable, "-m", "chaos", *(str(word) for word in command)],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.mark.parametrize("name", ["exits", "interrupts", "is_mute", "closes", "spawns", "floods"])
@pytest.mark.parametrize("network", ["simulated", "embedded"])
def test_a_subject_that_misbehaves_costs_its_run_and_no_more(
    tmp_path: Path, name: str, network: str
) -> None:
    done = run(tmp_path, name, "--network", network)
    (verdict,) = json.loads(done.stdout)["verdicts"]
    assert verdict["outcome"] in ("INCONCLUSIVE", "FAIL")
    assert "Traceback" not in done.stdout + done.stderr
    assert len(done.stderr) < 2 * SHOWN_BYTES
    if name == "spawns":
        assert not any_running("617")


def any_running(argument: str) -> bool:
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if path.read_bytes() == b"sleep\0" + argument.encode() + b"\0":
                return True
        except OSError:
            continue
    return False


def test_what_is_printed_is_kept_in_the_runs_folder_up_to_a_limit(tmp_path: Path) -> None:
    run(tmp_path, "floods", "--network", "simulated", "--out", tmp_path / "out")
    text = (tmp_path / "out" / "remains" / "output.log").read_text()
    assert text.startswith("xxxx")
    assert KEPT_BYTES < len(text) < KEPT_BYTES + 100
    assert "3951424 bytes" in text


FAMILY = """
import subprocess, sys, time
from chaos.running.pool.remains import kill_descendants
subprocess.Popen([sys.executable, "-c", "import subprocess; subprocess.run(['sleep', '619'])"])
time.sleep(1.0)
print(kill_descendants())
"""


def test_descendants_of_descendants_are_killed() -> None:
    done = subprocess.run(
        [sys.executable, "-c", FAMILY], capture_output=True, text=True, timeout=30, check=True
    )
    assert int(done.stdout) >= 2
    assert not any_running("619")


@pytest.mark.parametrize("name", ["uuid", "queue", "json"])
def test_a_file_beside_the_scenario_hides_nothing_of_the_standard_library(
    tmp_path: Path, name: str
) -> None:
    (tmp_path / f"{name}.py").write_text("x = 1")
    (tmp_path / "remains.yaml").write_text(SCENARIO)
    done = subprocess.run(
        [
            Path(sys.executable).with_name("trio-chaos"),
            "run",
            "remains.yaml",
            "--network",
            "simulated",
        ],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
