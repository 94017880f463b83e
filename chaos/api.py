"""What commands, explorers, the pytest plugin and other programs call: load, select, run and judge.

Everything here can be called from plain, synchronous code. What a run does is decided in `running`; what a trace
means in `checks`.
"""

from __future__ import annotations

from collections.abc import Sequence
from difflib import get_close_matches
from pathlib import Path

from chaos.errors import InvalidScenario, Mistake, UsageError
from chaos.scenario.load import load_text
from chaos.scenario.model import Scenario
from chaos.scenario.read import BYTES_MAX
from chaos.scenario.trace_files import ReadFile

SUFFIXES = (".yaml", ".yml")


def load_scenarios(path: Path, *, display: str | None = None) -> tuple[Scenario, ...]:
    """Return the scenarios of a file, one per matrix cell.

    `display` is the path as messages and reports should show it. Raises InvalidScenario with every mistake of
    the file, and UsageError when it cannot be read.
    """
    shown = display if display is not None else str(path)
    try:
        text = _read_file(path)
    except OSError as error:
        raise UsageError(f"cannot read {shown}: {error.strerror or error}") from error
    if len(text) > BYTES_MAX:
        mistake = Mistake(shown, 1, 1, "the file is too large", None, "at most 1 MiB")
        raise InvalidScenario((mistake,))
    return load_text(text, shown, read_file=reader_in(path.parent))


def reader_in(folder: Path) -> ReadFile:
    """Return what reads the files that a scenario names, counted from this folder; devices are no files."""

    def read(name: str) -> bytes:
        path = folder / name
        if not path.is_file():
            raise FileNotFoundError(name)
        return _read_file(path)

    return read


def _read_file(path: Path) -> bytes:
    """Return the bytes of a file, at most one more than a scenario may have."""
    with path.open("rb") as file:
        return file.read(BYTES_MAX + 1)


def find_files(paths: Sequence[Path], recursive: bool = False) -> list[Path]:
    """Return the scenario files that these paths stand for.

    A folder stands for the `*.yaml` and `*.yml` files directly in it, sorted by name; with `recursive` also for
    those in its subfolders. Raises UsageError for a path that is not there and for a folder without any.
    """
    found: dict[Path, None] = {}
    for path in paths:
        if path.is_dir():
            files = _files_in(path, recursive)
            if not files:
                hint = "" if recursive else "; look into its folders with --recursive"
                raise UsageError(f"no scenario files in {path}, expected *.yaml or *.yml{hint}")
            found.update(dict.fromkeys(files))
        elif path.exists():
            found[path] = None
        else:
            raise UsageError(f"no such file or folder: {path}{_nearest_path(path)}")
    return list(found)


def _files_in(folder: Path, recursive: bool) -> list[Path]:
    try:
        entries = list(folder.rglob("*") if recursive else folder.iterdir())
    except OSError as error:
        raise UsageError(f"cannot read {folder}: {error.strerror or error}") from error
    return sorted(file for file in entries if file.suffix in SUFFIXES and file.is_file())


def _nearest_path(path: Path) -> str:
    try:
        names = [entry.name for entry in path.parent.iterdir()]
    except OSError:
        return ""
    near = get_close_matches(path.name, names, n=1, cutoff=0.5)
    return f" (did you mean {path.parent / near[0]}?)" if near else ""
