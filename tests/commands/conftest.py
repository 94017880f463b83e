"""Fixtures that these tests share with others."""

from support.half_open import half_open, half_open_file, write_client
from support.servers import (
    original,
    ours,
    peers,
    run_paged,
    run_script,
    run_server,
    started,
    started_ours,
    toxi,
    wire,
)

__all__ = [
    "half_open",
    "half_open_file",
    "original",
    "ours",
    "peers",
    "run_paged",
    "run_script",
    "run_server",
    "started",
    "started_ours",
    "toxi",
    "wire",
    "write_client",
]
