"""The ground of the planted bugs: the small right client of `../broken/plain.py`, under one name for all of them."""

from __future__ import annotations

import sys
from pathlib import Path

_BROKEN = str(Path(__file__).resolve().parent.parent / "broken")
if _BROKEN not in sys.path:
    # a file finds what stands beside it; `plain.py` stands one folder further
    sys.path.append(_BROKEN)

from plain import Client, Peer, Server  # noqa: E402
from plain_wire import GONE, Ending, Wire  # noqa: E402

__all__ = ("GONE", "Client", "Ending", "Peer", "Server", "Wire")
