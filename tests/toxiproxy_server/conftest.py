"""Fixtures that these tests share with others."""

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
]
