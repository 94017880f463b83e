"""Leaks belong to whoever made them: right and wrong subjects, through the real command, on two networks."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

MAKERS = Path(__file__).parent / "owners" / "makers.py"
SCENARIO = """\
version: 1
name: {name}
duration: 14s
client:
  use: {client}
  connect_timeout: 2s
  backoff: {{initial: 100ms, max: 200ms}}
server: {{use: {server}}}
workload:
  - {{from: server, every: 200ms}}
timeline:
  - {{at: 3s, every: 1s, times: 9, fault: reset}}
expect:
  - no_leaks: {{by: {by}}}
"""
# the client, the server, whose leaks are judged, and what there must be more of, if anything
CASES: dict[str, tuple[str, str, str, str | None]] = {
    "system-tasks": ("system_tasks", "", "client", "tasks"),
    "shielded-tasks": ("shielded_tasks", "", "client", "tasks"),
    "stdlib-sockets": ("stdlib_sockets", "", "client", "sockets"),
    "pairs": ("pairs", "", "client", "sockets"),
    "anyio-streams": ("anyio_streams", "", "client", "sockets"),
    "closures": ("closures", "", "client", "closed socket objects"),
    "sessions": ("sessions", "", "client", "Session objects"),
    "channels": ("channels", "", "client", "channels"),
    "keeps-clients": ("", "keeps_clients", "server", "WSConnection objects"),
    "anyio-server": ("", "anyio_server", "server", "sockets"),
    "keeps-clients-which-is-not-the-clients": ("", "keeps_clients", "client", None),
    "channels-which-are-not-the-servers": ("channels", "", "server", None),
    "sessions-of-an-unknown-class": ("sessions_unknown", "", "client", None),
    "history": ("history", "", "both", None),
    "in-a-global": ("in_a_global", "", "both", None),
    "pool": ("pool", "", "both", None),
    "cache": ("cache", "", "both", None),
    "shared-global": ("in_a_global", "shared_server", "both", None),
}


@pytest.mark.slow
@pytest.mark.parametrize("network", ["simulated", "embedded"])
def test_a_leak_is_told_of_whoever_made_it(tmp_path: Path, network: str) -> None:
    for name, (client, server, by, _) in CASES.items():
        use = {
            side: f"{MAKERS}:{made}" if made else "reference"
            for side, made in (("client", client), ("server", server))
        }
        (tmp_path / f"{name}.yaml").write_text(SCENARIO.format(name=name, by=by, **use))
    command = [sys.executable, "-m", "chaos", "run", tmp_path, "--network", network, "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=180)
    assert done.stdout, done.stderr
    rows = {Path(row["path"]).stem: row for row in json.loads(done.stdout)["verdicts"]}
    found = {name: _grown(row) for name, row in rows.items()}
    assert found == {name: grown for name, (_, _, _, grown) in CASES.items()}


def _grown(verdict: dict[str, Any]) -> str | None:
    """Return what a failed `no_leaks` measured first of what grew with each cycle; None where all passed."""
    if verdict["outcome"] == "PASS":
        return None
    [finding] = [row for row in verdict["findings"] if row["outcome"] != "PASS"]
    assert (finding["check"], finding["outcome"]) == ("no_leaks", "FAIL"), finding["reason"]
    grown = [name for name in finding["measured"] if name.endswith(" per cycle")]
    return grown[0].removesuffix(" per cycle") if grown else finding["reason"]
