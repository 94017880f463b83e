"""The shipped scenarios beside other work: a machine that is busy may keep a run from being judged, never fail it."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from support.verdicts import JUDGED_MIN, was_late

from chaos.running.environment import cores

ROOT = Path(__file__).parents[2]
RUN_S_MAX = 400
pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("alone", "busy")]


@pytest.fixture
def busy() -> Iterator[None]:
    """A busy loop for each core, at the priority of everybody else."""
    with ExitStack() as stack:
        for _ in range(cores()):
            loop = stack.enter_context(subprocess.Popen([sys.executable, "-c", "while True: pass"]))
            stack.callback(loop.kill)
        yield


def run_folder(folder: str) -> list[dict[str, Any]]:
    done = subprocess.run(
        [sys.executable, "-m", "chaos", "run", folder, "--json"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=RUN_S_MAX,
        check=False,
    )
    assert done.stdout, done.stderr
    rows: list[dict[str, Any]] = json.loads(done.stdout)["verdicts"]
    return rows


def test_no_right_subject_fails_and_nearly_all_pass() -> None:
    rows = [row for row in run_folder("scenarios") if row["outcome"] != "SKIPPED"]
    outcomes = Counter(row["outcome"] for row in rows)
    assert outcomes["PASS"] >= JUDGED_MIN * len(rows), outcomes
    rest = [row for row in rows if row["outcome"] != "PASS"]
    assert all(was_late(row) for row in rest), [row["scenario"] for row in rest]


def test_wrong_subjects_fail_all_the_same() -> None:
    rows = run_folder("scenarios/broken")
    outcomes = Counter(row["outcome"] for row in rows)
    assert outcomes["FAIL"] >= JUDGED_MIN * len(rows), outcomes
    rest = [row for row in rows if row["outcome"] != "FAIL"]
    assert all(was_late(row) for row in rest), [row["scenario"] for row in rest]
