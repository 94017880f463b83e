"""What verdicts say, word for word, in one file: `wording.txt` beside this one.

Other tests assert values. When words are meant to change, `python tests/test_wording.py` writes the file anew; read
the difference as a user would.
"""

from __future__ import annotations

import difflib
from pathlib import Path

import pytest

from chaos.api import load
from chaos.reports.terminal import render_verdict
from chaos.running.job import make_job
from chaos.running.process import run_trace

ROOT = Path(__file__).parents[1]
BROKEN = ROOT / "scenarios" / "broken"
FILE = Path(__file__).with_name("wording.txt")


def said() -> str:
    """Return what is said of each broken subject on the simulated network, seed 1."""
    parts = []
    for path in sorted(BROKEN.glob("*.yaml")):
        for scenario in load(path):
            if "simulated" in scenario.networks:
                verdict, _ = run_trace(make_job(scenario, network="simulated", seed=1))
                parts.append(render_verdict(verdict, verbose=True))
    return "\n\n".join(parts).replace(f"{ROOT}/", "") + "\n"


@pytest.mark.slow
def test_verdicts_say_what_the_file_holds() -> None:
    before, now = FILE.read_text(encoding="utf-8"), said()
    changed = difflib.unified_diff(before.splitlines(), now.splitlines(), "wording.txt", "now")
    assert before == now, "\n".join(changed)


if __name__ == "__main__":
    FILE.write_text(said(), encoding="utf-8")
