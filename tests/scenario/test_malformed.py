"""Each file in `malformed/` is wrong; its last comments say where and how: `# line:column fragment|fragment`."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from chaos.api import load_scenarios
from chaos.errors import InvalidScenario

FOLDER = Path(__file__).parent / "malformed"
FILES = sorted(FOLDER.glob("*.yaml"))
EXPECTED = re.compile(r"^# (\d+):(\d+) (.+)$", re.MULTILINE)


def test_there_are_many_malformed_files() -> None:
    assert len(FILES) >= 120


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_malformed_file_names_every_mistake_at_its_place(path: Path) -> None:
    expected = [
        ((int(line), int(column)), fragments.split("|"))
        for line, column, fragments in EXPECTED.findall(path.read_text(encoding="utf-8"))
    ]
    assert expected, "a malformed file says what is expected of it"
    with pytest.raises(InvalidScenario) as caught:
        load_scenarios(path, display="file.yaml")
    found = caught.value.mistakes
    assert [(mistake.line, mistake.column) for mistake in found] == [
        place for place, _ in expected
    ], str(caught.value)
    for mistake, (_, fragments) in zip(found, expected, strict=True):
        text = str(mistake)
        assert text.startswith(f"file.yaml:{mistake.line}:{mistake.column}: ")
        for fragment in fragments:
            assert fragment in text
