"""What a client does to its process costs its own run only: right outcome, one sentence, in time, nothing left."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
import uuid
from pathlib import Path
from typing import Any

import pytest

from chaos.running.pool.remains import SHOWN_BYTES

pytestmark = pytest.mark.slow

SUBJECTS = Path(__file__).parent / "misbehaving"
DURATION_S = 3.0
SCENARIO = f"""
version: 1
name: misbehaving
duration: {DURATION_S:g}s
settle: 100ms
workload: [{{from: server, every: 200ms}}]
timeline: [{{at: 2s, fault: reset, name: cut}}]
expect: [no_false_alarm]
"""
# beyond the scenario: what the promise is, and what starting an interpreter takes on a busy machine
OVERTIME_S, START_S = 10.0, 20.0
SENTENCE_MAX = 400

ANY = ("INCONCLUSIVE", "FAIL", "PASS")
OPEN = {"simulated": ("INCONCLUSIVE", "subject_alive")}  # refused: it would leave the simulation
# by client: the outcome and the guard that says so, on all networks or by network; None says that no guard does
KINDS: dict[str, Any] = {
    "exits": ("INCONCLUSIVE", "subject_alive"),
    "exits_well": ("INCONCLUSIVE", "subject_alive"),
    "interrupts": ("INCONCLUSIVE", "subject_alive"),
    "generator_exit": ("INCONCLUSIVE", "subject_alive"),
    "is_mute": ("INCONCLUSIVE", "run"),
    "leaves": ("INCONCLUSIVE", "run"),
    "kills_itself": ("INCONCLUSIVE", "run"),
    "segfaults": ("INCONCLUSIVE", "run"),
    "stops_itself": ("INCONCLUSIVE", "run"),
    "kills_its_parent": ("FAIL", "subject_alive"),
    "alarms": {"simulated": ("FAIL", "subject_alive"), "embedded": ("INCONCLUSIVE", "run")},
    "ignores_sigterm": ("FAIL", "subject_alive"),
    "closes": ("INCONCLUSIVE", "run"),
    "closes_output": ("FAIL", "subject_alive"),
    "writes_everywhere": ("INCONCLUSIVE", "run"),
    "floods": ("FAIL", "subject_alive"),
    "spawns": OPEN | {"embedded": ("FAIL", "subject_alive")},
    "detaches": OPEN | {"embedded": ("FAIL", "subject_alive")},
    "spawns_stubborn": OPEN | {"embedded": ("FAIL", "subject_alive")},
    # its copy holds the connections, so that an RST is not sent
    "forks": OPEN | {"embedded": (ANY, None)},
    "threads": OPEN | {"embedded": ("FAIL", "subject_alive")},
    "sleeps": OPEN | {"embedded": ("INCONCLUSIVE", "complete")},
    "spins": ("INCONCLUSIVE", "complete"),
    "holds_interpreter": ("INCONCLUSIVE", "run"),
    "changes_folder": ("FAIL", "subject_alive"),
    "recurses": ("INCONCLUSIVE", "subject_alive"),
    "fills_memory": ("FAIL", "subject_alive"),
    "cancels_trio": ("INCONCLUSIVE", "complete"),
    "takes_descriptors": ("FAIL", "subject_alive"),
    "stops_collecting": ("FAIL", "subject_alive"),
    "times_out_sockets": ("FAIL", "subject_alive"),
    "shallow": (ANY, None),
    "shields": ("INCONCLUSIVE", "connected"),
    "swallows": ("PASS", None),
    "creeps": {
        "simulated": ("INCONCLUSIVE", "complete"),
        "embedded": ("INCONCLUSIVE", "connected"),
    },
    "returns": ("INCONCLUSIVE", "subject_alive"),
    "needs_asyncio": ("INCONCLUSIVE", "subject_alive"),
    "takes_nothing": ("INCONCLUSIVE", "subject_alive"),
}


def run(folder: Path, use: str, network: str) -> tuple[dict[str, Any], float]:
    """Return the verdict on a run, and how long it took; nothing is left of it, or this fails."""
    (folder / "tmp").mkdir()
    (folder / "one.yaml").write_text(SCENARIO)
    tag = uuid.uuid4().hex
    began_s = time.monotonic()
    options = ["--network", network, "--client", use, "--json", "--out", "out"]
    done = subprocess.run(
        [sys.executable, "-m", "chaos", "run", "one.yaml", *options],
        cwd=folder,
        env={**os.environ, "RUN_TAG": tag, "TMPDIR": str(folder / "tmp")},
        capture_output=True,
        text=True,
        timeout=90,
        check=False,
    )
    took_s = time.monotonic() - began_s
    assert processes_of(tag) == []
    assert list((folder / "tmp").iterdir()) == []
    assert {path.name for path in folder.iterdir()} == {"tmp", "one.yaml", "out"}
    assert "Traceback" not in done.stdout + done.stderr
    assert len(done.stderr) < 2 * SHOWN_BYTES
    (verdict,) = json.loads(done.stdout)["verdicts"]
    kept = json.loads((folder / "out" / "misbehaving" / "verdict.json").read_text())
    assert kept["outcome"] == verdict["outcome"]
    return verdict, took_s


def processes_of(tag: str) -> list[str]:
    """Return the command lines of the processes that belong to a run."""
    found = []
    for path in Path("/proc").glob("[0-9]*"):
        try:
            if f"RUN_TAG={tag}".encode() in (path / "environ").read_bytes():
                found.append((path / "cmdline").read_text().replace("\0", " "))
        except OSError:
            continue
    return found


@pytest.mark.skipif(sys.platform != "linux", reason="descendants are found on Linux only")
@pytest.mark.parametrize("network", ["simulated", "embedded"])
@pytest.mark.parametrize("name", KINDS)
def test_a_client_that_misbehaves_costs_its_run_and_no_more(
    tmp_path: Path, name: str, network: str
) -> None:
    row = KINDS[name]
    outcomes, guard = row if isinstance(row, tuple) else row[network]
    verdict, took_s = run(tmp_path, f"{SUBJECTS / 'subjects.py'}:{name}", network)
    guards = {
        finding["check"]: finding["reason"]
        for finding in verdict["findings"]
        if finding["guard"] and finding["outcome"] == verdict["outcome"]
    }
    assert verdict["outcome"] in outcomes, guards
    assert verdict["outcome"] == "PASS" or guard is None or guard in guards
    assert all(len(reason) < SENTENCE_MAX for reason in guards.values())
    assert took_s < DURATION_S + OVERTIME_S + START_S


@pytest.mark.skipif(sys.platform != "linux", reason="descendants are found on Linux only")
@pytest.mark.parametrize("name", ["import_sleeps", "import_leaves"])
def test_a_module_that_misbehaves_when_it_is_imported_costs_its_run_and_no_more(
    tmp_path: Path, name: str
) -> None:
    verdict, took_s = run(tmp_path, f"{SUBJECTS / name}.py:client", "embedded")
    assert verdict["outcome"] == "INCONCLUSIVE"
    assert [finding["check"] for finding in verdict["findings"]] == ["run"]
    assert took_s < DURATION_S + OVERTIME_S + START_S
