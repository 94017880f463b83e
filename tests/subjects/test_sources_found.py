"""Which files a result's code is made of: what a subject imports that is in no library, and what its texts name."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from chaos.subjects.sources import digest_of_sources


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A client in a package, which takes something from a package beside that, from a text, and from a file."""
    texts = {
        "svc/__init__.py": "",
        "svc/ws/__init__.py": "",
        "svc/ws/client.py": "from shared import conf\nimport importlib\n"
        "late = lambda: importlib.import_module('found_late')\n"
        "table = open('table.json')\nclient = print\n",
        "shared/__init__.py": "",
        "shared/conf.py": "from deeper import ground\n",
        "deeper.py": "",
        "found_late.py": "",
        "table.json": "{}",
        "unrelated.py": "",
    }
    for name, text in texts.items():
        file = tmp_path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    return tmp_path


@pytest.mark.parametrize("use", ["svc.ws.client:client", "svc/ws/client.py:client"])
@pytest.mark.parametrize(
    ("name", "counts"),
    [
        ("svc/ws/client.py", True),
        ("shared/conf.py", True),
        ("deeper.py", True),
        ("found_late.py", True),
        ("table.json", True),
        ("unrelated.py", False),
    ],
)
def test_a_change_of_what_is_used_changes_the_digest(
    project: Path, use: str, name: str, counts: bool
) -> None:
    before = digest_of_sources([use], None)
    assert digest_of_sources([use], None) == before != ""
    with (project / name).open("a") as file:
        file.write("\n")
    assert (digest_of_sources([use], None) != before) is counts
