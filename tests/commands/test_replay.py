"""Runs again from what they left: identical on virtual time, refused under other versions."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from chaos.api import read_trace
from chaos.commands.main import cli, run_cli
from chaos.errors import EXIT_FAILED, EXIT_INCONCLUSIVE, EXIT_INVALID, EXIT_PASSED
from chaos.explore.replay import version_mismatches
from chaos.running.environment import environment
from chaos.running.mark import mark_of


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


OWN = """\
version: 1
name: own
duration: 3s
settle: 1s
steady_state: none
client: {use: "mine.py:client"}
expect: [{use: "mine.py:quick", within_s: 9}, never_sends_before_open]
"""
MINE = """\
from os import system
from chaos.checks.verdict import failed, passed
from chaos.reference.client import client
def quick(trace, within_s):
    return passed("quick") if trace.end_s() < within_s else failed("slow")
"""


@pytest.fixture
def own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Path:
    """The folder of a run of a client with a check of our own, made in a working folder."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "own.yaml").write_text(OWN)
    (tmp_path / "mine.py").write_text(MINE)
    assert call("run", "own.yaml", "--network", "simulated", "--out", "out") == EXIT_PASSED
    capsys.readouterr()
    return tmp_path / "out" / "own"


def test_ones_own_run_is_replayed_and_what_it_runs_is_said(
    own: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call("replay", own) == EXIT_PASSED
    said = capsys.readouterr()
    assert f"client: {own.parents[1] / 'mine.py'}:client" in said.err
    assert f"check: {own.parents[1] / 'mine.py'}:quick" in said.err
    assert "identical" in said.out
    own.rename(own.with_name("kept"))
    assert call("replay", own.with_name("kept")) == EXIT_PASSED


def test_a_run_of_another_machine_needs_trust(
    own: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(own.parents[1] / "other"))
    assert call("replay", own) == EXIT_INVALID
    assert "--trust" in capsys.readouterr().err
    assert call("replay", own, "--trust") == EXIT_PASSED


def test_ones_own_trace_where_its_names_mean_other_files_needs_trust(
    own: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "mine.py").write_text(MINE)
    monkeypatch.chdir(elsewhere)
    assert call("replay", own) == EXIT_INVALID


def test_a_scenario_that_was_changed_needs_trust(own: Path) -> None:
    def change(header: dict[str, object]) -> None:
        assert isinstance(header["scenario"], dict)
        header["scenario"]["client"]["options"] = {"path": "elsewhere"}

    rewrite(own, 0, change)
    assert call("replay", own) == EXIT_INVALID


def test_without_a_place_for_a_key_every_trace_needs_trust(
    own: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", "/dev/null/nowhere")
    header = read_trace(own).header
    assert mark_of(header) == ""
    assert call("replay", own) == EXIT_INVALID
    rewrite(own, 0, lambda header: header.pop("mark"))
    assert call("replay", own) == EXIT_INVALID


@pytest.mark.parametrize(
    ("given", "code"),
    [
        ((), EXIT_INCONCLUSIVE),
        (("mine.py",), EXIT_PASSED),
        (("mine.py:quick",), EXIT_PASSED),
        (("mine",), EXIT_PASSED),
        (("mine:quick",), EXIT_PASSED),
        (("mine.py:client",), EXIT_INCONCLUSIVE),
        (("other.py",), EXIT_INCONCLUSIVE),
        (("nowhere.py",), EXIT_INVALID),
        (("mine.py:nothing",), EXIT_INVALID),
    ],
)
def test_a_recheck_judges_ones_own_checks_only_where_they_are_given(
    own: Path, given: tuple[str, ...], code: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(own.parents[1]))
    (own.parents[1] / "other.py").write_text(MINE)
    assert call("recheck", own, *(f"--use={name}" for name in given)) == code


def test_a_given_file_lends_only_what_is_written_there(own: Path) -> None:
    for name in ("system", "passed", "__loader__", "nothing"):
        rewrite(
            own,
            0,
            lambda header, name=name: header["scenario"]["expect"][0].update(use=f"mine.py:{name}"),
        )  # type: ignore[misc,index,union-attr]
        assert call("recheck", own, "--use", "mine.py") == EXIT_INCONCLUSIVE
