"""The page of compared times: what two runs of a scenario make of it."""

from __future__ import annotations

import importlib.util
import json
import shutil
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from chaos.api import load_scenarios
from chaos.running.job import make_job
from chaos.running.process import run_job

ROOT = Path(__file__).parent.parent
TITLE = "half-open"


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    spec = importlib.util.spec_from_file_location(
        "compared_times", ROOT / "benchmarks" / "compared_times.py"
    )
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "compared_times", module)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def compared(tmp_path: Path) -> Path:
    """A comparison whose two halves are the same simulated run."""
    [scenario] = load_scenarios(ROOT / "scenarios" / "11-half-open.yaml")
    out = tmp_path / "simulated" / TITLE
    run_job(make_job(scenario, network="simulated", seed=1, out=str(out)))
    shutil.copytree(tmp_path / "simulated", tmp_path / "embedded")
    return tmp_path


def page(
    script: ModuleType, folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: Any
) -> str:
    monkeypatch.setattr(sys, "argv", ["compared_times.py", str(folder)])
    script.main()
    return capsys.readouterr().out


def test_equal_runs_have_no_differences(
    script: ModuleType, compared: Path, capsys: Any, monkeypatch: Any
) -> None:
    text = page(script, compared, capsys, monkeypatch)
    assert "1 of 1 scenarios that run on both have the same verdict on both." in text
    assert "| half-open | client notices `outage` | 4.5 | 3.000 | 3.000 | +0.000 |" in text
    found = text.split("## Differences")[1].split("## Where")[0]
    assert TITLE not in found


def test_a_slower_run_and_another_verdict_are_shown(
    script: ModuleType, compared: Path, capsys: Any, monkeypatch: Any
) -> None:
    file = compared / "embedded" / TITLE / "verdict.json"
    verdict = json.loads(file.read_text())
    verdict["outcome"] = "FAIL"
    for finding in verdict["findings"]:
        if "detected_s" in finding["measured"]:
            finding["measured"]["detected_s"] += 0.25
        if finding["check"] == "reconnects":
            finding["measured"]["remark"] = "the connection survived"
    file.write_text(json.dumps(verdict))
    text = page(script, compared, capsys, monkeypatch)
    assert "0 of 1 scenarios" in text
    assert "| half-open | client notices `outage` | 4.5 | 3.250 | 3.000 | +0.250 |" in text
    assert "| half-open | back after `outage` | 4 | kept |" in text
    found = text.split("## Differences")[1].split("## Where")[0]
    assert found.count(TITLE) == 2
    assert "| half-open | server notices `outage` | +0.250 | 1 and 1 | – | 0.00 |" in found
