"""The lists in CONTRIBUTING.md are complete: each file is there, and no other file knows the example."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
SECTIONS = re.split(
    r"^## ", (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8"), flags=re.MULTILINE
)
# by the title of a section: how code names its example
EXAMPLES = {
    "Add a fault": {"delay_frames", "DelayFrames", "DelayFramesMachine"},
    "Add a check": {"herd", "Herd"},
    "Add a network": {"embedded", "EmbeddedNetwork"},
    "Add a kind of subject": {"load_name", "check_abilities", "client_options", "Ledger", "Census"},
}
# who uses what a section is about, without being touched by a new one of its kind
USERS = {
    "Add a network": {"chaos/networks/simulated/network.py", "chaos/networks/alone.py"},
    "Add a kind of subject": {
        "chaos/api.py",
        "chaos/explore/replay.py",
        "chaos/running/process.py",
        "chaos/running/run.py",
        "chaos/running/samples.py",
        "chaos/networks/simulated/hosts.py",
    },
}


def section(title: str) -> str:
    (found,) = [text for text in SECTIONS if text.startswith(title + "\n")]
    return found


def paths_in(text: str) -> set[str]:
    return set(re.findall(r"`((?:chaos|tests|scenarios|tools)/[\w./]*)`", text))


def names_in(path: Path) -> set[str]:
    """Return the names and the whole texts that a file's code uses."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Name):
            found.add(node.id)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            found.add(node.value)
        elif isinstance(node, ast.ClassDef | ast.FunctionDef):
            found.add(node.name)
    return found


@pytest.mark.parametrize("title", EXAMPLES)
def test_each_file_of_a_list_is_there(title: str) -> None:
    paths = paths_in(section(title))
    assert len(paths) >= 3
    assert [path for path in sorted(paths) if not (ROOT / path).exists()] == []


@pytest.mark.parametrize("title", EXAMPLES)
def test_no_file_that_is_not_on_a_list_knows_its_example(title: str) -> None:
    knowing = {
        str(path.relative_to(ROOT))
        for path in (ROOT / "chaos").rglob("*.py")
        if names_in(path) & EXAMPLES[title]
    }
    assert knowing - paths_in(section(title)) - USERS.get(title, set()) == set()
