"""Subjects are found by their names, and what is wrong with a name is said."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from chaos.errors import SubjectNotFound
from chaos.subjects.load import accepted_options, load, load_name


def test_the_reference_peers_are_found() -> None:
    assert load("reference", "client").__module__ == "chaos.reference.client"
    assert load("reference", "server").__module__ == "chaos.reference.server"


def test_a_file_is_found_beside_its_scenario_and_loaded_once(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text("async def client(url): ...\nother = client\n")
    first = load("mine.py:client", "client", base=tmp_path)
    assert load("mine.py:other", "client", base=tmp_path) is first


def test_a_file_may_import_the_files_beside_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.path", list(sys.path))
    (tmp_path / "beside_the_subject.py").write_text("async def client(url): ...\n")
    (tmp_path / "mine.py").write_text("from beside_the_subject import client\n")
    assert load("mine.py:client", "client", base=tmp_path).__module__ == "beside_the_subject"
    assert sys.path[-1] == str(tmp_path), "last, so that it hides nothing that is installed"


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("mine", "'mine' names no subject; expected reference, my.module:name"),
        (":client", "names no subject"),
        ("mine.py:clint", "did you mean client?"),
        ("mine.py:number", "is not callable"),
        ("missing.py:client", "no file missing.py; looked in"),
        ("no_such_module:client", "cannot import no_such_module"),
        ("broken.py:client", "importing broken.py failed: ZeroDivisionError"),
    ],
)
def test_what_cannot_be_loaded_is_explained(tmp_path: Path, name: str, says: str) -> None:
    (tmp_path / "mine.py").write_text("async def client(url): ...\nnumber = 1\n")
    (tmp_path / "broken.py").write_text("1 / 0\n")
    with pytest.raises(SubjectNotFound) as caught:
        load_name(name, base=tmp_path)
    assert says in str(caught.value)


def test_a_subject_is_given_the_options_that_it_names() -> None:
    async def picky(url: str, *, seed: int) -> None: ...
    async def open_minded(url: str, **options: object) -> None: ...

    options = {"seed": 1, "misses": 2}
    assert accepted_options(picky, options) == {"seed": 1}
    assert accepted_options(open_minded, options) == options
