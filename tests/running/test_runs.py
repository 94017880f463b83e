"""Whole runs through the command, with subjects that behave badly and ends that come early.

Each must give a clear verdict and the right exit code, and leave no process and no listening socket behind.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

SCENARIO = """\
version: 1
name: small
duration: {duration}
server: {{heartbeat: {{interval: 500ms, timeout: 1s}}}}
client:
  heartbeat: {{interval: 500ms, timeout: 1s}}
  backoff: {{initial: 200ms, max: 1s}}
  connect_timeout: 1s
  stable_after: 500ms
workload: [{{from: server, every: 100ms}}]
settle: 500ms
timeline:
  - {{at: 2s, fault: reset, name: cut}}
expect:
  - reconnects: {{after: cut, within: 1s}}
"""

SUBJECTS = """\
import os
import trio

async def crash(url, **_):
    raise ValueError("boom")

async def crash_later(url, **_):
    await trio.sleep(0.5)
    raise RuntimeError("later")

async def never_connects(url, **_):
    await trio.sleep_forever()

async def dies(url, **_):
    os._exit(3)

async def deaf(url, **_):
    with trio.CancelScope(shield=True):
        await trio.sleep_forever()

async def blocks(url, **_):
    await trio.sleep(0.1)
    while True:
        pass

async def serve_hangs(host, port, *, task_status, workload=(), **_):
    await trio.sleep_forever()

async def serve_crashes(host, port, *, task_status, workload=(), **_):
    raise OSError("no address for me")
"""
PLAIN = """\
version: 1
name: plain
duration: 1500ms
timeline: [{at: 1s, for: 200ms, fault: stall, name: hold}]
settle: 100ms
expect: [single_connection]
"""


def command(*arguments: object) -> list[str]:
    return [sys.executable, "-m", "chaos", *(str(a) for a in arguments)]


def run(*arguments: object, timeout: float = 60) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command(*arguments), capture_output=True, text=True, timeout=timeout, check=False
    )


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "small.yaml").write_text(SCENARIO.format(duration="4s"))
    (tmp_path / "long.yaml").write_text(
        SCENARIO.format(duration="40s").replace("name: small", "name: long")
    )
    (tmp_path / "plain.yaml").write_text(PLAIN)
    (tmp_path / "subjects.py").write_text(SUBJECTS)
    return tmp_path


@pytest.fixture(autouse=True)
def nothing_left_behind(tmp_path: Path) -> Iterator[None]:
    """Fail a test whose run leaves a process: each is marked by the environment that it inherits."""
    os.environ["TRIO_CHAOS_TEST_MARK"] = mark = str(tmp_path)
    yield
    del os.environ["TRIO_CHAOS_TEST_MARK"]
    deadline = time.monotonic() + 5
    while left := marked_processes(mark):
        assert time.monotonic() < deadline, f"left behind: {left}"
        time.sleep(0.05)


def marked_processes(mark: str) -> list[str]:
    found = []
    for place in Path("/proc").glob("[0-9]*"):
        if int(place.name) == os.getpid():
            continue
        try:
            if f"TRIO_CHAOS_TEST_MARK={mark}".encode() in (place / "environ").read_bytes():
                found.append((place / "cmdline").read_bytes().replace(b"\0", b" ").decode())
        except OSError:
            continue
    return found


def test_a_run_passes_keeps_its_results_and_can_be_judged_again(folder: Path) -> None:
    out = folder / "out"
    done = run(
        "run", folder / "small.yaml", "--out", out, "--json", "--junit", folder / "junit.xml"
    )
    assert done.returncode == 0, done.stdout + done.stderr
    verdict = json.loads(done.stdout)["verdicts"][0]
    assert verdict["outcome"] == "PASS"
    assert json.loads((out / "small" / "verdict.json").read_text()) == verdict
    again = run("recheck", out / "small" / "trace.jsonl", "--json")
    assert again.returncode == 0, again.stderr
    assert json.loads(again.stdout)["verdicts"][0] == verdict
    assert "small" in (folder / "junit.xml").read_text()


def test_repeat_gives_each_run_the_next_seed_and_a_folder_of_its_own(folder: Path) -> None:
    done = run("run", folder / "plain.yaml", "--repeat", 3, "--json", "--out", folder / "out")
    rows = json.loads(done.stdout)["verdicts"]
    assert [row["seed"] for row in rows] == [1, 2, 3]
    assert sorted(p.parent.name for p in (folder / "out").rglob("verdict.json")) == ["1", "2", "3"]


def test_a_baseline_runs_first_without_the_faults(folder: Path) -> None:
    done = run("run", folder / "small.yaml", "--baseline", "--json")
    assert done.returncode == 0, done.stdout
    titles = [row["scenario"] for row in json.loads(done.stdout)["verdicts"]]
    assert titles == ["small.baseline", "small"]


@pytest.mark.parametrize(
    ("option", "name", "says"),
    [
        ("--client", "crash", "ValueError: boom"),
        ("--client", "crash_later", "RuntimeError: later"),
        ("--client", "never_connects", "never had a connection open"),
        ("--client", "dies", "exit code 3"),
        ("--client", "deaf", "never had a connection open"),
        ("--server", "serve_hangs", "on which port it listens"),
        ("--server", "serve_crashes", "no address for me"),
    ],
)
def test_a_subject_that_never_works_makes_the_run_inconclusive(
    folder: Path, option: str, name: str, says: str
) -> None:
    done = run("run", folder / "plain.yaml", option, f"{folder / 'subjects.py'}:{name}")
    assert done.returncode == 2, done.stdout + done.stderr
    assert "INCONCLUSIVE" in done.stdout
    assert says in " ".join(done.stdout.split())
    assert "Traceback" not in done.stdout + done.stderr


def test_a_subject_that_is_not_there_is_a_usage_error(folder: Path) -> None:
    done = run("run", folder / "plain.yaml", "--client", f"{folder / 'subjects.py'}:crsh")
    assert done.returncode == 254
    assert "crash?" in done.stdout


def test_what_a_subject_cannot_send_is_left_out(folder: Path) -> None:
    asked = ("--client", f"{folder / 'subjects.py'}:never_connects", "--network", "simulated")
    text = (folder / "small.yaml").read_text()
    (folder / "small.yaml").write_text(text.replace("from: server", "from: client"))
    done = run("run", folder / "small.yaml", *asked, "--json")
    (verdict,) = json.loads(done.stdout)["verdicts"]
    assert any("workload" in text for text in verdict["warnings"])
    assert verdict["outcome"] == "INCONCLUSIVE"


def test_a_scenario_that_asks_for_what_a_subject_cannot_do_is_skipped(folder: Path) -> None:
    timeline = "timeline: [{at: 1s, action: close, by: client}]\nexpect: [no_false_alarm]\n"
    (folder / "asks.yaml").write_text(
        PLAIN.split("expect:", maxsplit=1)[0].split("timeline:", maxsplit=1)[0] + timeline
    )
    client = ("--client", f"{folder / 'subjects.py'}:never_connects")
    done = run("run", folder / "asks.yaml", *client, "--json")
    (verdict,) = json.loads(done.stdout)["verdicts"]
    assert (verdict["outcome"], done.returncode) == ("SKIPPED", 2)
    assert "'close'" in verdict["findings"][0]["reason"]
    done = run("run", folder / "asks.yaml", *client, "--json", "--strict")
    assert json.loads(done.stdout)["verdicts"][0]["outcome"] == "INCONCLUSIVE"


def start(*arguments: object) -> subprocess.Popen[str]:
    return subprocess.Popen(
        command(*arguments),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        # a shell's background job ignores SIGINT, and so would its children
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )


def wait_for_trace(folder: Path, text: str) -> None:
    deadline = time.monotonic() + 20
    path = folder / "trace.jsonl"
    while not (path.exists() and text in path.read_text()):
        assert time.monotonic() < deadline, f"{text} never came"
        time.sleep(0.05)


def test_an_interrupted_run_writes_what_it_has_and_exits_130(folder: Path) -> None:
    out = folder / "out"
    process = start(
        "run",
        folder / "small.yaml",
        folder / "long.yaml",
        "--out",
        out,
        "--junit",
        folder / "j.xml",
    )
    wait_for_trace(out / "long", '"change":"instant"')
    wait_for_trace(out / "small", '"kind":"end"')
    time.sleep(1.5)  # real processes: the other run is judged and handed in meanwhile
    os.killpg(process.pid, signal.SIGINT)  # what a terminal's Ctrl-C does
    said, errors = process.communicate(timeout=20)
    assert process.returncode == 130, said + errors
    assert "interrupted" in errors
    assert "Traceback" not in errors
    assert "PASS          small" in said
    assert "INCONCLUSIVE  long" in said
    assert json.loads((out / "long" / "verdict.json").read_text())["outcome"] == "INCONCLUSIVE"
    assert '"kind":"interrupted"' in (out / "long" / "trace.jsonl").read_text()
    assert "small" in (folder / "j.xml").read_text()


def test_a_second_interruption_kills_at_once_what_does_not_stop(folder: Path) -> None:
    out = folder / "out"
    client = f"{folder / 'subjects.py'}:blocks"
    process = start("run", folder / "plain.yaml", "--out", out, "--client", client)
    wait_for_trace(out / "plain", '"kind":"subject_start"')
    time.sleep(0.5)
    os.killpg(process.pid, signal.SIGINT)
    with pytest.raises(subprocess.TimeoutExpired):  # the run is given some seconds to stop
        process.wait(timeout=1.5)
    started_s = time.monotonic()
    os.killpg(process.pid, signal.SIGINT)
    said, errors = process.communicate(timeout=20)
    assert time.monotonic() - started_s < 4
    assert process.returncode == 130, said + errors
    assert "SIGKILL" in said


def test_with_fail_fast_the_first_failure_stops_the_others(folder: Path) -> None:
    text = (folder / "small.yaml").read_text().partition("expect:")[0]
    bad = text.replace("name: small", "name: bad")
    (folder / "bad.yaml").write_text(bad + "expect: [{never_reconnects: {after: cut}}]\n")
    done = run("run", folder / "bad.yaml", folder / "long.yaml", "--fail-fast", "--json")
    rows = {row["scenario"]: row["outcome"] for row in json.loads(done.stdout)["verdicts"]}
    assert rows == {"bad": "FAIL", "long": "INCONCLUSIVE"}, done.stdout
    assert done.returncode == 1


def test_killing_the_command_stops_its_runs_too(folder: Path) -> None:
    process = start("run", folder / "long.yaml", "--out", folder / "out")
    wait_for_trace(folder / "out" / "long", '"kind":"steady"')
    process.kill()
    process.communicate(timeout=20)  # what is left behind is seen by the fixture


def test_killing_a_run_leaves_its_trace_and_says_how_it_died(folder: Path) -> None:
    out = folder / "out"
    process = start("run", folder / "long.yaml", "--out", out)
    wait_for_trace(out / "long", '"kind":"steady"')
    header, *_ = (out / "long" / "trace.jsonl").read_text().splitlines()
    os.kill(json.loads(header)["environment"]["pid"], signal.SIGKILL)
    said, _ = process.communicate(timeout=20)
    assert process.returncode == 2
    assert "killed by SIGKILL" in said
    again = run("recheck", out / "long" / "trace.jsonl")
    assert again.returncode == 2
