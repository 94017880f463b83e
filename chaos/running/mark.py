"""Marks the traces that runs of this machine leave, and knows them again.

To replay a trace is to run the code that it names, so that a trace from elsewhere must not look like one's own. The
mark is an HMAC, made with a key that only this user has, of all that decides which code runs and how: the scenario,
and where its files are. A trace that was moved keeps its mark; one that names other code, or is replayed where its
names mean other files, has none.
"""

from __future__ import annotations

import hmac
import json
import os
import secrets
from contextlib import suppress
from pathlib import Path

from chaos.scenario.model import Scenario
from chaos.subjects.load import code_of
from chaos.trace import Header

KEY_BYTES = 32


def mark_of(header: Header) -> str:
    """Return the mark of a trace with this header; empty where this user has no place for a key."""
    key = _key()
    if key is None:
        return ""
    path = header.scenario.get("path")
    base = Path(path).parent if path else None
    code = code_of(Scenario.from_json(header.scenario), base=base)
    text = json.dumps([header.scenario, code], sort_keys=True)
    return hmac.digest(key, text.encode(), "sha256").hex()


def is_ours(header: Header) -> bool:
    """Tell whether a run on this machine, by this user, left the trace with this header."""
    mark = mark_of(header)
    return bool(mark) and hmac.compare_digest(mark.encode(), header.mark.encode())


def state_folder() -> Path:
    """Return the folder in which this program keeps what it must know again. Raises RuntimeError without a home."""
    given = os.environ.get("XDG_STATE_HOME", "")
    home = Path(given) if Path(given).is_absolute() else Path.home() / ".local" / "state"
    return home / "trio-chaos"


def _key() -> bytes | None:
    """Return this user's key, made at the first call; None where it can be neither read nor written."""
    try:
        file = state_folder() / "key"
        with suppress(FileNotFoundError):
            return _read(file)
        file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        draft = file.with_name(f"key.{os.getpid()}.{secrets.token_hex(4)}")
        with suppress(FileExistsError):  # another run was faster
            try:
                fresh = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
                with os.fdopen(fresh, "wb") as new:
                    new.write(secrets.token_bytes(KEY_BYTES))
                os.link(draft, file)
            finally:
                draft.unlink(missing_ok=True)
        return _read(file)
    except (OSError, RuntimeError):
        return None


def _read(file: Path) -> bytes | None:
    """Return the key in a file; None for one that another user can have written or that is torn."""
    with file.open("rb") as opened:
        owner, key = os.fstat(opened.fileno()).st_uid, opened.read(KEY_BYTES)
    return key if owner == os.geteuid() and len(key) == KEY_BYTES else None
