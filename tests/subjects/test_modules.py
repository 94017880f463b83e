"""Each run has the modules of its subjects anew; those of libraries stay."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from chaos.errors import SubjectNotFound
from chaos.subjects.load import load_name
from chaos.subjects.modules import import_anew, modules_anew

COUNTS = "runs = []\ndef count():\n    runs.append(1)\n    return len(runs)\n"


@pytest.fixture(autouse=True)
def forget(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Leave no module and no path behind."""
    monkeypatch.setattr("sys.path", list(sys.path))
    before = set(sys.modules)
    yield
    for name in set(sys.modules) - before:
        del sys.modules[name]


def counted(use: str, base: Path | None = None) -> int:
    """Count in the module of a subject, as one run of it would."""
    with modules_anew([use]):
        count = import_anew(lambda: load_name(use, base=base))
        return int(count())


def test_a_file_and_what_it_imports_begin_anew(tmp_path: Path) -> None:
    (tmp_path / "beside.py").write_text(COUNTS)
    (tmp_path / "mine.py").write_text("from beside import count\n")
    assert [counted("mine.py:count", tmp_path) for _ in range(3)] == [1, 1, 1]
    assert "beside" not in sys.modules


def test_a_module_begins_anew_wherever_it_is_installed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    libraries = tmp_path / "site-packages"
    for name in ("installed_app", "installed_library"):
        (libraries / name).mkdir(parents=True)
        (libraries / name / "__init__.py").write_text(COUNTS)
    (libraries / "installed_app" / "client.py").write_text(
        f"import installed_library\n{COUNTS}    # of the library: it goes on\n"
        "def both():\n    return 10 * installed_library.count() + count()\n"
    )
    monkeypatch.setattr("chaos.subjects.modules.LIBRARIES", (str(libraries),))
    monkeypatch.syspath_prepend(str(libraries))
    assert [counted("installed_app.client:both") for _ in range(3)] == [11, 21, 31]


def test_a_module_that_cannot_be_imported_twice_is_used_again(tmp_path: Path) -> None:
    (tmp_path / "once.py").write_text(
        f"import sys\nif hasattr(sys, 'registered_once'): raise ValueError('twice')\n"
        f"sys.registered_once = True\n{COUNTS}"
    )
    try:
        assert [counted("once.py:count", tmp_path) for _ in range(3)] == [1, 2, 3]
    finally:
        del sys.registered_once  # type: ignore[attr-defined]


def test_what_was_never_imported_is_not_found(tmp_path: Path) -> None:
    with pytest.raises(SubjectNotFound):
        counted("missing.py:count", tmp_path)


def test_what_was_there_before_stays(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(COUNTS)
    load_name("mine.py:count", base=tmp_path)
    assert [counted("mine.py:count", tmp_path) for _ in range(2)] == [1, 2]
