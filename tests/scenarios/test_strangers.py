"""Right subjects that share no code with the reference peers: other libraries, other styles, other seeds.

A failure is a fault in the subject, or in a check.
"""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

FOLDER = Path(__file__).parent / "strangers"
FILES = sorted(FOLDER.glob("*.yaml"))
SEEDS = 20
SWEEP_S_MAX = 240


def sweep(file: Path) -> dict[str, Any]:
    """Run a file over the first seeds, faults moved by each, and return the summary."""
    command = ["sweep", str(file), "--seeds", str(SEEDS), "--json"]
    done = subprocess.run(
        [sys.executable, "-m", "chaos", *command],
        capture_output=True,
        text=True,
        timeout=SWEEP_S_MAX,
        check=False,
    )
    assert done.stdout, done.stderr
    summary: dict[str, Any] = json.loads(done.stdout)
    return summary


@pytest.mark.slow
@pytest.mark.usefixtures("alone")
@pytest.mark.parametrize("file", FILES, ids=[file.stem for file in FILES])
def test_a_stranger_comes_through(file: Path) -> None:
    summary = sweep(file)
    assert [(row["title"], row["seed"], row["reason"]) for row in summary["not_passed"]] == []
    assert summary["counts"]["PASS"] >= SEEDS


@pytest.mark.parametrize("file", sorted(FOLDER.glob("*.py")), ids=lambda file: file.stem)
def test_a_stranger_shares_no_code_with_the_tool(file: Path) -> None:
    """A mistake that the subject shared with the link or the reference peers would be seen by neither."""
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            assert not [name for name in node.names if name.name.split(".")[0] == "chaos"]
        elif isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "chaos":
            assert node.module == "chaos"
            assert {name.name for name in node.names} <= {"report", "subject"}
