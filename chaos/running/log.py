"""What a run leaves behind: `trace.jsonl`, which grows line by line, and `verdict.json`. Warnings become events."""

from __future__ import annotations

import hashlib
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import quote

from chaos.checks.verdict import Verdict
from chaos.errors import ChaosError
from chaos.running.mark import mark_of
from chaos.trace import Event, Header, dump_event, dump_header

# file systems take 255 bytes; a few are left for what is added to a name
NAME_MAX = 200


def folder_name(title: str) -> str:
    """Return a folder name for a scenario's title: percent-encoded, so that any cell is one segment.

    A name that a file system would refuse is cut, and ends with a digest of the title. No name means another folder.
    """
    name = quote(title, safe="=,-_.") or "%"
    if not name.strip("."):
        name = name.replace(".", "%2E")
    if len(name) <= NAME_MAX:
        return name
    digest = hashlib.sha256(title.encode(errors="surrogatepass")).hexdigest()[:12]
    return f"{name[: NAME_MAX - 13]}~{digest}"


@contextmanager
def trace_file(folder: Path, header: Header) -> Iterator[Callable[[Event], None]]:
    """Open `trace.jsonl` in a folder, and give what writes an event as a line: a killed run leaves what it has.

    Raises:
        ChaosError: it could not be written to its end, as on a disk that is full.
    """
    refused: OSError | None = None

    def write(event: Event) -> None:
        nonlocal refused
        if refused is None:
            try:
                file.write(f"{dump_event(event)}\n".encode())
            except OSError as error:
                refused = error  # who records an event cannot help it

    with _told(folder):
        folder.mkdir(parents=True, exist_ok=True)
        file = (folder / "trace.jsonl").open("wb", buffering=0)
    with file:
        with _told(folder):
            file.write(f"{dump_header(replace(header, mark=mark_of(header)))}\n".encode())
        yield write
    with _told(folder):
        if refused is not None:
            raise refused


@contextmanager
def _told(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise ChaosError(f"cannot write {folder}: {error.strerror}") from error


def write_verdict(folder: Path, verdict: Verdict) -> None:
    """Write `verdict.json` into a run's folder: whole, or not at all if this process is killed meanwhile.

    Raises:
        ChaosError: that cannot be done.
    """
    import json  # noqa: PLC0415 - only runs that keep results need it

    text = json.dumps(verdict.to_json(), indent=2, ensure_ascii=False)
    with _told(folder):
        folder.mkdir(parents=True, exist_ok=True)
        unfinished = folder / "verdict.json.part"
        unfinished.write_text(text + "\n", encoding="utf-8")
        unfinished.replace(folder / "verdict.json")


@contextmanager
def warnings_told(tell: Callable[[str], None]) -> Iterator[None]:
    """Tell of each of Python's warnings, and of what destructors raise, instead of printing it."""

    def show(message: Warning | str, category: type[Warning], *_: Any, **__: Any) -> None:
        tell(f"{category.__name__}: {message}")

    shown, hook = warnings.showwarning, sys.unraisablehook
    warnings.simplefilter("always", ResourceWarning)
    warnings.showwarning = show
    sys.unraisablehook = lambda args: tell(f"{args.err_msg or ''} {args.exc_value!r}".strip())
    try:
        yield
    finally:
        warnings.showwarning, sys.unraisablehook = shown, hook
