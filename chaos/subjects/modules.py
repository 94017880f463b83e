"""Gives each job the modules of its subjects anew, as a process of its own would have them.

One process does many jobs of a sweep or a hunt. So the modules that a job imports, and that are the subject's rather
than a library's, are forgotten after it. Where a module cannot be imported twice (it has registered itself
somewhere), that of the job before is used again: it was imported, and nothing of it has run, since each run of a
subject that is not shipped is made in a fork (`chaos.running.process.run_seeds`).
"""

from __future__ import annotations

import site
import sys
import sysconfig
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import TypeVar

from chaos.errors import SubjectNotFound

T = TypeVar("T")

_FOLDERS = [sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib")]
LIBRARIES = tuple(str(Path(row).resolve()) for row in (*_FOLDERS, site.getusersitepackages()))
_OURS = "chaos"
_SHIPPED = {
    _OURS,
    "reference",
}  # the first parts of the names of subjects that keep nothing in globals
# modules of the last run, in case that they cannot be imported again; once they were, they are kept no more
_last: dict[str, ModuleType] = {}
_renewable: set[str] = set()
_staying: set[str] = set()  # those that cannot


def is_shipped(use: str) -> bool:
    """Tell whether a subject's name means a reference peer, which keeps nothing in its process from run to run."""
    return ".py:" not in use and use.partition(":")[0].partition(".")[0] in _SHIPPED


@contextmanager
def modules_anew(uses: Iterable[str]) -> Iterator[None]:
    """Forget afterwards the modules of subjects that are imported inside. `uses` are the subjects' names."""
    named = list(uses)
    if all(is_shipped(use) for use in named):
        yield
        return
    own = {use.partition(":")[0].partition(".")[0] for use in named if ".py:" not in use}
    before = set(sys.modules)
    try:
        yield
    finally:
        found = {
            name: module
            for name, module in list(sys.modules.items())
            if name not in before and name not in _staying and _is_subjects(name, module, own)
        }
        for name, module in found.items():
            del sys.modules[name]
            if name not in _renewable:
                _last[name] = module


def import_anew(load: Callable[[], T]) -> T:
    """Return what `load` does, which imports subjects; with the modules of the last run where it fails with new ones.

    Raises:
        SubjectNotFound: as `load` does, where it has not been loaded before.
    """
    try:
        loaded = load()
    except SubjectNotFound:
        if not _last:
            raise
        sys.modules.update(_last)
        try:
            loaded = load()
        except SubjectNotFound:
            for name in _last:
                del sys.modules[name]
            raise
        _staying.update(_last)
        _last.clear()
        return loaded
    again = _last.keys() & sys.modules.keys()
    _renewable.update(again)
    for name in again:
        del _last[name]
    return loaded


def _is_subjects(name: str, module: ModuleType, own: set[str]) -> bool:
    """Tell whether a module is a subject's: it is in the package that was named, or in no library."""
    top = name.partition(".")[0]
    if top == _OURS:
        return False
    if top in own:
        return True
    file = getattr(module, "__file__", None)
    return file is not None and not str(Path(file).resolve()).startswith(LIBRARIES)
