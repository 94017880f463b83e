"""A digest of the source that a run's subjects and checks are made of, without running any of it.

Results are results of code. What counts is the file that a name stands for and what it imports from its own folder,
and of a module the whole package it is in; libraries count by their versions.
"""

from __future__ import annotations

import ast
import hashlib
from collections.abc import Iterable, Iterator
from importlib.util import find_spec
from pathlib import Path

from chaos.subjects.load import find_file


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
        yield from () if file is None else _with_imports(file)
    elif place:
        yield from _files_of_package(place.partition(".")[0], base)


def _files_of_package(name: str, base: Path | None) -> Iterator[Path]:
    """Yield the files of a package or a module of the top level."""
    for folder in (Path.cwd(), *([base] if base is not None else [])):
        if (folder / name).is_dir():
            yield from sorted((folder / name).rglob("*.py"))
            return
        if (folder / f"{name}.py").is_file():
            yield from _with_imports((folder / f"{name}.py").resolve())
            return
    try:
        spec = find_spec(name)
    except (ImportError, ValueError):
        return
    for root in (spec.submodule_search_locations or ()) if spec is not None else ():
        yield from sorted(Path(root).rglob("*.py"))
    if spec is not None and spec.origin is not None and spec.origin.endswith(".py"):
        yield Path(spec.origin)


def _with_imports(first: Path) -> Iterator[Path]:
    """Yield a file, and those of its own folder that it imports, directly and through each other."""
    seen, waiting = set[Path](), [first]
    while waiting:
        file = waiting.pop()
        if file in seen:
            continue
        seen.add(file)
        yield file
        for name in _imported(file):
            package = first.parent / name
            waiting += sorted(package.rglob("*.py")) if package.is_dir() else ()
            beside = first.parent / f"{name}.py"
            waiting += [beside] if beside.is_file() else []


def _imported(file: Path) -> set[str]:
    """Return the first parts of the names of the modules that a file imports, wherever in it."""
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
    return names


def _read(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError:
        return b""
