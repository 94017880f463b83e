"""The reference pages are up to date and name every key."""

from __future__ import annotations

from pathlib import Path

import pytest
from reference_pages import PAGES
from write_docs import FILES, write

from chaos.scenario.describe import keys_of
from chaos.scenario.entries import WORDS
from chaos.scenario.load import top_keys
from chaos.scenario.model import BackoffPlan, Client, Server, Workload
from chaos.vocabulary.checks import CHECKS

FOLDER = Path(__file__).parents[2] / "docs"


@pytest.mark.parametrize("name", FILES)
def test_a_generated_file_is_up_to_date(name: str) -> None:
    text = (FOLDER / name).read_text(encoding="utf-8")
    assert text == FILES[name](), "run: python tools/write_docs.py"


def test_the_files_are_written_where_they_are_asked_for(tmp_path: Path) -> None:
    write(tmp_path / "new")
    names = {str(path.relative_to(tmp_path / "new")) for path in tmp_path.rglob("*.*")}
    assert names == set(FILES)


def test_the_scenario_page_has_every_key() -> None:
    page = PAGES["scenario.md"]()
    models = (Server, Client, BackoffPlan, Workload)
    for key in [*top_keys(), *(key for model in models for key in keys_of(model))]:
        assert f"| `{key}` |" in page


def test_the_other_pages_have_every_word() -> None:
    for kind, words in WORDS.items():
        for word in words:
            assert f"### `{kind}: {word}`" in PAGES["faults.md"]()
    for word in CHECKS:
        assert f"## `{word}`" in PAGES["checks.md"]()


@pytest.mark.parametrize("name", PAGES)
def test_every_row_of_a_table_is_as_wide_as_its_head(name: str) -> None:
    width = 0
    for line in PAGES[name]().splitlines():
        cells = line.replace("\\|", "").count("|")
        if line.startswith("|"):
            width = width or cells
            assert cells == width, line
        else:
            width = 0
