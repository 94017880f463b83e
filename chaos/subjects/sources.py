"""A digest of the source that a run's subjects and checks are made of, without running any of it.

Results are results of code. What counts is the file that a name stands for, or the package that a module is in, with
what they import from folders that hold no libraries, and files that their texts name. Libraries count by their
versions.
"""

from __future__ import annotations

import ast
import hashlib
import re
import sys
from collections.abc import Iterable, Iterator
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path

from chaos.subjects.load import find_file
from chaos.subjects.modules import LIBRARIES

# a larger file is no source, and is not read each time
FILE_MAX = 10 << 20
_NAME = re.compile(r"[A-Za-z_][\w-]*(?:[./][\w-]+){0,9}")


def digest_of_sources(uses: Iterable[str], base: Path | None) -> str:
    """Return a short digest of the files behind these names, such as `my.module:name` and `file.py:name`."""
    files: dict[str, bytes] = {}
    for use in sorted(set(uses)):
        place = use.rpartition(":")[0]
        for file in _files_of(place, base):
            files.setdefault(str(file), _read(file))
    told = hashlib.sha256()
    for content in sorted(files.values()):
        told.update(hashlib.sha256(content).digest())
    return told.hexdigest()[:12] if files else ""


def _files_of(place: str, base: Path | None) -> Iterator[Path]:
    if place.endswith(".py"):
        file = find_file(place, base)
        first = [] if file is None else [file]
    else:
        folders = [Path.cwd(), *([base] if base is not None else []), *_own_folders()]
        first = _found(place.partition(".")[0], folders) or _installed(place.partition(".")[0])
    yield from _with_imports(first, base)


def _own_folders() -> list[Path]:
    """Return the folders that modules are found in and that hold no library."""
    folders = [Path(row or ".").resolve() for row in sys.path]
    return [folder for folder in folders if not str(folder).startswith(LIBRARIES)]


def _found(name: str, folders: Iterable[Path]) -> list[Path]:
    """Return the files of a package or a module of the top level, or a file, in the first folder that has it."""
    if not name or name == "chaos":  # our own code counts by its release
        return []
    for folder in folders:
        with suppress(OSError, ValueError):  # such as a text that is no file's name
            if (folder / name / "__init__.py").is_file() or (
                name.isidentifier() and any((folder / name).glob("*.py"))
            ):
                return sorted((folder / name).rglob("*.py"))
            for file in (folder / f"{name}.py", folder / name):
                if file.is_file() and file.stat().st_size <= FILE_MAX:
                    return [file.resolve()]
    return []


def _installed(name: str) -> list[Path]:
    try:
        spec = find_spec(name)
    except (ImportError, ValueError):
        return []
    if spec is None:
        return []
    files = [
        file
        for root in spec.submodule_search_locations or ()
        for file in sorted(Path(root).rglob("*.py"))
    ]
    return files or [Path(spec.origin)] if spec.origin is not None else files


def _with_imports(first: Iterable[Path], base: Path | None) -> Iterator[Path]:
    """Yield files, and those that they name as modules or as files, directly and through each other."""
    seen, waiting = set[Path](), list(first)
    others = [*([base] if base is not None else []), Path.cwd(), *_own_folders()]
    while waiting:
        file = waiting.pop()
        if file in seen:
            continue
        seen.add(file)
        yield file
        if file.suffix == ".py" and not str(file).startswith(LIBRARIES):
            folders = list(dict.fromkeys([file.parent, file.parent.parent, *others]))
            for name in _named(file):
                waiting += _found(name, folders)


def _named(file: Path) -> set[str]:
    """Return the first parts of the names of the modules that a file imports, wherever in it, and its short texts.

    A text may be the name of a module that is imported by it, or of a file that is read.
    """
    try:
        tree = ast.parse(_read(file))
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return set()
    names = set[str]()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {row.name.partition(".")[0] for row in node.names}
        elif isinstance(node, ast.ImportFrom):
            names |= {(node.module or row.name).partition(".")[0] for row in node.names}
        elif isinstance(node, ast.Constant) and _NAME.fullmatch(str(node.value)):
            names |= {str(node.value), str(node.value).partition(".")[0]}
    return names


def _read(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError:
        return b""
