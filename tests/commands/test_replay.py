"""Runs again from what they left: identical on virtual time, refused under other versions."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from chaos.commands.main import cli, run_cli
from chaos.errors import EXIT_FAILED, EXIT_INVALID, EXIT_PASSED
from chaos.explore.replay import version_mismatches
from chaos.running.environment import environment


def call(*arguments: object) -> int:
    return run_cli(
        lambda: cli.main([str(a) for a in arguments], "trio-chaos", standalone_mode=False)
    )


@pytest.fixture
def recorded(half_open_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Path:
    options = ("--network", "simulated", "--seed", 5, "--out", tmp_path / "out")
    assert call("run", half_open_file, *options) == EXIT_PASSED
    capsys.readouterr()
    return tmp_path / "out" / "half-open"


def rewrite(folder: Path, number: int, change: Callable[[dict[str, object]], None]) -> None:
    file = folder / "trace.jsonl"
    lines = file.read_text().splitlines()
    row = json.loads(lines[number])
    change(row)
    lines[number] = json.dumps(row, separators=(",", ":"))
    file.write_text("\n".join(lines) + "\n")


def test_a_simulated_run_comes_out_identical(
    recorded: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call("replay", recorded, "-v") == EXIT_PASSED
    said = capsys.readouterr().out
    assert "identical" in said
    assert "digest " in said


def test_an_event_that_differs_is_shown(recorded: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def later(row: dict[str, object]) -> None:
        row["at_s"] = 99.5

    rewrite(recorded, 12, later)
    assert call("replay", recorded) == EXIT_FAILED
    said = capsys.readouterr().out
    assert "from event 12 on" in said
    assert '"at_s":99.5' in said


def test_another_seed_is_another_run(recorded: Path) -> None:
    rewrite(recorded, 0, lambda header: header.update(seed=6))
    assert call("replay", recorded) == EXIT_FAILED


def test_other_versions_are_refused_unless_told_otherwise(
    recorded: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def older(header: dict[str, object]) -> None:
        assert isinstance(header["environment"], dict)
        header["environment"]["versions"]["trio"] = "0.1"

    rewrite(recorded, 0, older)
    assert call("replay", recorded) == EXIT_INVALID
    said = capsys.readouterr().err
    assert "trio 0.1, here is" in said
    assert "--anyway" in said
    assert call("replay", recorded, "--anyway") == EXIT_PASSED


def test_only_versions_that_matter_matter() -> None:
    here = environment()
    other = {**here, "pid": 1, "platform": "elsewhere", "python": here["python"] + "9"}
    other["versions"] = {**here["versions"], "toxiproxy-python": "9"}
    assert version_mismatches(other, here) == []
    assert version_mismatches({**here, "python": "3.1.0"}, here)
    for package in ("trio", "trio-websocket", "wsproto", "trio-chaos"):
        versions = {**here["versions"], package: "0"}
        assert len(version_mismatches({**here, "versions": versions}, here)) == 1


def test_a_folder_without_a_trace_is_a_mistake(tmp_path: Path) -> None:
    assert call("replay", tmp_path) == EXIT_INVALID


@pytest.mark.slow
def test_on_a_real_network_only_the_verdict_counts(
    half_open_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = half_open_file.read_text().split("timeline:")[0].replace("duration: 9s", "duration: 3s")
    half_open_file.write_text(text + "expect: [never_sends_before_open]\n")
    assert call("run", half_open_file, "--out", tmp_path / "out") == EXIT_PASSED
    assert call("replay", tmp_path / "out" / "half-open") == EXIT_PASSED
    assert "not compared" in capsys.readouterr().out
