"""Folders that runs write to: found to be writable before a run, and never written to by two at once."""

from __future__ import annotations

import fcntl
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from chaos.errors import UsageError


@contextmanager
def taken(folder: Path | None) -> Iterator[None]:
    """Make a folder and keep it to this process, whose end frees it, whatever ends it. None stands for no folder.

    Raises:
        UsageError: it cannot be written, or another process has it.
    """
    if folder is None:
        yield
        return
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
        held = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    except OSError as error:
        raise UsageError(f"cannot write {folder}: {error.strerror}") from error
    try:
        fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(held)
        raise UsageError(
            f"another run writes to {folder} right now; expected its end, or another --out"
        ) from error
    try:
        yield
    finally:
        os.close(held)


def require_writable(file: Path | None) -> None:
    """Raise UsageError unless a file can be written; it and its folder are made. None stands for no file."""
    if file is None:
        return
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with file.open("ab"):
            pass
    except OSError as error:
        raise UsageError(f"cannot write {file}: {error.strerror}") from error
