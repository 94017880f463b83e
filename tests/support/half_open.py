"""Scenarios for sweeps: short, half-open, with every check that fits."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from chaos.scenario.load import load_text
from chaos.scenario.model import Scenario

HALF_OPEN = """\
version: 1
name: half-open
duration: 9s
settle: 1s
server: {heartbeat: {interval: 500ms, timeout: 1s}}
client:
  heartbeat: {interval: 500ms, timeout: 1s}
  backoff: {initial: 200ms, factor: 2, max: 500ms, jitter: full}
  connect_timeout: 1s
workload:
  - {from: server, every: 500ms}
  - {from: client, every: 500ms}
timeline:
  - {at: 3s, for: 2500ms, fault: blackhole, name: outage}
expect:
  - detects_dead_peer: {by: client, during: outage, within: 1500ms}
  - detects_dead_peer: {by: server, during: outage, within: 1500ms}
  - reconnects: {after: outage, within: 2s}
  - single_connection
  - single_handler
  - no_false_alarm
  - never_sends_before_open
  - delivers: {duplicated: 0, reordered: 0}
  - no_leaks
"""
# the reference client, but for one thing
_SUBJECT = """\
from chaos import subject
from chaos.reference.client import client as reference
{imports}

@subject(sends=True)
async def client(url, **options):
    {change}
    await reference(url, **options)
"""
CHANGES = {
    # ten percent too patient: it notices, only later than it promises
    "late": ("", "options['heartbeat'] = {**options['heartbeat'], 'timeout_s': 1.1}"),
    # reads what no seed decides
    "random": ("import os, trio", "await trio.sleep(os.urandom(1)[0] / 1000)"),
    # the order of a set of texts depends on the process's hash seed
    "hashed": (
        "import trio",
        "await trio.sleep(0.01 * list({'a', 'b', 'c', 'd', 'e', 'f'}).index('a'))",
    ),
    "killed": ("import os", "os._exit(1)"),
}


@pytest.fixture
def half_open() -> Scenario:
    return load_text(HALF_OPEN, "half-open.yaml")[0]


@pytest.fixture
def half_open_file(tmp_path: Path) -> Path:
    path = tmp_path / "half-open.yaml"
    path.write_text(HALF_OPEN)
    return path


@pytest.fixture
def write_client(tmp_path: Path) -> Callable[[str], str]:
    """Write a client that differs from the reference in one of CHANGES, and return how a scenario names it."""

    def write(change: str) -> str:
        imports, line = CHANGES[change]
        path = tmp_path / f"{change}.py"
        path.write_text(_SUBJECT.replace("{imports}", imports).replace("{change}", line))
        return f"{path}:client"

    return write
