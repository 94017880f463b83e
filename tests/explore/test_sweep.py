"""Sweeps from the command line down: verdicts, files, resuming, stopping, and what a lost worker costs."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from chaos.api import load_scenarios, read_trace
from chaos.checks.verdict import Outcome
from chaos.commands.main import cli, run_cli
from chaos.errors import (
    EXIT_FAILED,
    EXIT_INCONCLUSIVE,
    EXIT_INTERRUPTED,
    EXIT_INVALID,
    EXIT_PASSED,
    UsageError,
)
from chaos.explore.sweep import Question, Store
from chaos.running.job import Job
from chaos.running.mark import is_ours
from chaos.running.pool.crew import Workers, run_jobs
from chaos.running.process import run_seeds
from chaos.scenario.model import Scenario
from chaos.scenario.vary import Bounds


def call(*arguments: object) -> int:
    return run_cli(
        lambda: cli.main([str(a) for a in arguments], "trio-chaos", standalone_mode=False)
    )


def job(scenario: Scenario, *seeds: int, client: str | None = None) -> Job:
    return Job(scenario=scenario, network="simulated", seeds=seeds, bounds=Bounds(), client=client)


@pytest.mark.slow
def test_the_reference_peers_pass_a_thousand_seeds_with_every_check(half_open: Scenario) -> None:
    jobs = job(half_open, *range(1000)).portions(20)
    rows = [row for some in run_jobs(jobs, Workers(2)) for row in some]
    assert [(row.seed, row.reason) for row in rows if row.outcome is not Outcome.PASS] == []
    assert sorted(row.seed for row in rows) == list(range(1000))
    took_s = [
        time.took_s for row in rows for time in row.times if time.what == "detected by client"
    ]
    assert 1.0 < min(took_s) < 1.1
    assert 1.4 < max(took_s) <= 1.5  # seeds reach close to the bound: what is late by more is found


@pytest.mark.slow
def test_a_client_that_is_ten_percent_late_fails_some_seeds_and_not_all(
    half_open: Scenario, write_client: Callable[[str], str]
) -> None:
    rows = run_seeds(job(half_open, *range(40), client=write_client("late")))
    outcomes = Counter(row.outcome for row in rows)
    assert outcomes[Outcome.FAIL] > 0
    assert outcomes[Outcome.PASS] > 0
    assert all("detects_dead_peer" in row.reason for row in rows if row.outcome is Outcome.FAIL)


LITTERS = """
import decimal, logging, os, signal

import trio_websocket
from chaos import subject
from chaos.reference.client import client as right

seen = []

def left_by_another_run():
    yield "a global", seen
    yield "an attribute of a library", getattr(trio_websocket, "litter", None)
    yield "the environment", os.environ.get("LITTER")
    yield "a handler of logging", any(h.name == "litter" for h in logging.getLogger().handlers)
    yield "a signal's handler", signal.getsignal(signal.SIGUSR1) is not signal.SIG_DFL
    yield "a context of decimal", decimal.DefaultContext.prec == 77

@subject(sends=True)
async def client(url, **options):
    found = [what for what, value in left_by_another_run() if value]
    if found:
        raise RuntimeError(f"another run has left {found}")
    seen.append(url)
    trio_websocket.litter = True
    os.environ["LITTER"] = "1"
    handler = logging.NullHandler()
    handler.name = "litter"
    logging.getLogger().addHandler(handler)
    signal.signal(signal.SIGUSR1, lambda *_: None)
    decimal.DefaultContext.prec = 77
    await right(url, **options)
"""


@pytest.mark.slow
def test_no_run_finds_what_another_has_left_in_its_process(
    half_open: Scenario, tmp_path: Path
) -> None:
    (tmp_path / "litters.py").write_text(LITTERS)
    jobs = job(half_open, *range(12), client=f"{tmp_path}/litters.py:client").portions(6)
    rows = [row for some in run_jobs(jobs, Workers(1)) for row in some]
    assert [row.reason for row in rows if row.outcome is not Outcome.PASS] == []
    assert len(rows) == 12


@pytest.mark.slow
def test_failures_are_kept_and_each_line_reproduces_its_run(
    half_open_file: Path,
    tmp_path: Path,
    write_client: Callable[[str], str],
    capsys: pytest.CaptureFixture[str],
) -> None:
    late, out = write_client("late"), tmp_path / "out"
    code = call("sweep", half_open_file, "--seeds", 12, "--client", late, "--out", out, "--jobs", 1)
    said = capsys.readouterr().out
    assert code == EXIT_FAILED
    assert "expected within 1.5 s" in said
    assert "theoretical bound 1.5 s" in said
    kept = list(out.glob("failures/half-open/*"))
    assert kept
    for folder in kept:
        assert f"trio-chaos replay {folder}" in said
        varied = load_scenarios(folder / "scenario.yaml")[0]
        assert varied.timeline[0].at_s != 3.0
    assert call("replay", kept[0]) == EXIT_PASSED
    said = capsys.readouterr().out
    assert "FAIL" in said
    assert "identical" in said
    rows = [json.loads(line) for line in (out / "results.jsonl").read_text().splitlines()]
    assert sorted(row["seed"] for row in rows) == list(range(1, 13))


def test_a_sweep_goes_on_where_it_was_cut_off(
    half_open_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    sweep = ("sweep", half_open_file, "--out", out, "--jobs", 1)
    assert call(*sweep, "--seeds", 2) == EXIT_PASSED
    assert call(*sweep, "--seeds", 3) == EXIT_INVALID
    assert "--resume" in capsys.readouterr().err
    results = out / "results.jsonl"
    results.write_text(results.read_text() + '{"title": "half-open", "se')
    assert call(*sweep, "--seeds", 3, "--resume") == EXIT_PASSED
    assert "2 of 3" in capsys.readouterr().out
    assert [json.loads(line)["seed"] for line in results.read_text().splitlines()] == [1, 2, 3]
    assert call(*sweep, "--seeds", 3, "--resume", "--time-jitter", "5%") == EXIT_INVALID
    assert "another sweep" in capsys.readouterr().err


@pytest.mark.slow
def test_ctrl_c_keeps_what_there_is(half_open_file: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    command = [sys.executable, "-m", "chaos", "sweep", str(half_open_file), "--out", str(out)]
    with subprocess.Popen(
        [*command, "--seeds", "100000"],
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
        # a shell's background job ignores SIGINT, and so would its children
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    ) as process:
        for _ in range(600):
            if (out / "results.jsonl").exists() and (out / "results.jsonl").stat().st_size:
                break
            time.sleep(0.05)
        os.killpg(process.pid, signal.SIGINT)
        said = process.communicate(timeout=20)[0]
    assert process.returncode == EXIT_INTERRUPTED
    assert "interrupted" in said
    rows = [json.loads(line) for line in (out / "results.jsonl").read_text().splitlines()]
    assert rows
    assert f"{len(rows)} runs" in said


def test_it_stops_after_enough_failures(
    half_open_file: Path, write_client: Callable[[str], str], capsys: pytest.CaptureFixture[str]
) -> None:
    late = write_client("late")
    options = ("--seeds", 5000, "--jobs", 1, "--client", late, "--stop-after-failures", 1)
    assert call("sweep", half_open_file, *options, "--json") == EXIT_FAILED
    data = json.loads(capsys.readouterr().out)
    assert data["counts"]["FAIL"] >= 1
    assert data["not_run"] > 4000
    assert "--first-seed" in data["not_passed"][0]["again"]


def test_a_state_that_was_never_reached_is_complained_of(
    half_open_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = half_open_file.read_text()
    half_open_file.write_text(text + "sometimes: [reconnected, reconnected_during_drain]\n")
    assert call("sweep", half_open_file, "--seeds", 1, "--jobs", 1) == EXIT_INCONCLUSIVE
    said = capsys.readouterr().out
    assert "never reached, though `sometimes` names it: reconnected_during_drain" in said
    assert "names it: reconnected (" not in said


def test_shards_share_all_seeds_and_none_twice(half_open: Scenario) -> None:
    parts = [
        Question(scenarios=[half_open], seeds=101, first_seed=7, shard=(number, 8)).seeds_of_shard()
        for number in range(1, 9)
    ]
    assert sorted(seed for part in parts for seed in part) == list(range(7, 108))


def test_dask_that_is_not_installed_is_named_with_the_extra_that_brings_it(
    half_open_file: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "distributed", None)
    assert call("sweep", half_open_file, "--dask", "tcp://127.0.0.1:1") == EXIT_INVALID
    assert "trio-chaos[dask]" in capsys.readouterr().err


@pytest.mark.parametrize("option", ["--shard=9/8", "--shard=x", "--time-jitter=40%", "--budget=5"])
def test_wrong_options_are_refused(half_open_file: Path, option: str) -> None:
    assert call("sweep", half_open_file, option) == EXIT_INVALID


CLIENT = '''\
"""A client of our own, which imports what is beside it."""
from beside import VALUE
from chaos.reference.client import client
assert VALUE
'''


@pytest.fixture
def own_client(half_open_file: Path) -> tuple[Path, Path, Path]:
    """A scenario with a client of its own, the client's file, and a file beside it that it imports."""
    folder = half_open_file.parent
    (folder / "own.py").write_text(CLIENT)
    (folder / "beside.py").write_text("VALUE = 1\n")
    return half_open_file, folder / "own.py", folder / "beside.py"


def seeds_in(out: Path) -> list[int]:
    return [json.loads(line)["seed"] for line in (out / "results.jsonl").read_text().splitlines()]


@pytest.mark.slow
def test_results_of_other_code_are_made_again(
    own_client: tuple[Path, Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file, own, beside = own_client
    out = tmp_path / "out"
    sweep = ("sweep", file, "--client", "own.py:client", "--out", out, "--jobs", 1, "--seeds", 2)
    assert call(*sweep) == EXIT_PASSED
    assert call(*sweep, "--resume") == EXIT_PASSED
    assert "2 of 2 were done before" in capsys.readouterr().out
    for changed in (own, beside, file):
        changed.write_text(changed.read_text() + "\n# changed\n")
        if changed is file:
            file.write_text(
                file.read_text().replace("name: half-open", "name: half-open\ntags: [x]")
            )
        assert call(*sweep, "--resume", "--json") == EXIT_PASSED
        data = json.loads(capsys.readouterr().out)
        assert data["not_taken_over"] == {"outdated": 2, "damaged": 0}
    assert sorted(seeds_in(out)) == [1] * 4 + [2] * 4
    beside.write_text("VALUE = 0\n")
    assert call(*sweep, "--resume") != EXIT_PASSED


def test_results_of_another_release_are_made_again(
    half_open_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    sweep = ("sweep", half_open_file, "--out", out, "--jobs", 1, "--seeds", 1)
    assert call(*sweep) == EXIT_PASSED
    row = json.loads((out / "results.jsonl").read_text())
    for key in ("trio-chaos", "trace", "scenario", "code"):
        older = {**row, "made_by": {**row["made_by"], key: "other"}}
        (out / "results.jsonl").write_text(json.dumps(older) + "\n")
        assert call(*sweep, "--resume") == EXIT_PASSED
        assert "1 results are of another release" in capsys.readouterr().out
    del row["made_by"]
    (out / "results.jsonl").write_text(json.dumps(row) + "\n")
    assert call(*sweep, "--resume", "--json") == EXIT_PASSED
    assert json.loads(capsys.readouterr().out)["not_taken_over"]["outdated"] == 1


def test_damaged_results_are_left_out_and_counted(
    half_open_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    sweep = ("sweep", half_open_file, "--out", out, "--jobs", 1)
    assert call(*sweep, "--seeds", 1) == EXIT_PASSED
    row = json.loads((out / "results.jsonl").read_text())
    capsys.readouterr()
    damaged: list[bytes] = [b"", b"null", b"[]", b"{}", b"{", b"\xff\xfe", b"[" * 100_000, b"x" * 9]
    hostile = (None, 5, -1.5, "x", [], {}, [[]], float("nan"), 2**70, "\ud800")
    for key in row:
        damaged += [
            json.dumps({**row, key: value}).encode()
            for value in hostile
            if type(value) is not type(row[key])
        ]
    lines = [json.dumps({**row, "seed": 2}).encode(), *damaged, json.dumps(row).encode()]
    (out / "results.jsonl").write_bytes(b"\n".join(lines) + b"\n")
    assert call(*sweep, "--seeds", 3, "--resume", "--json") == EXIT_PASSED
    data = json.loads(capsys.readouterr().out)
    assert data["counts"]["PASS"] == 3
    assert data["not_taken_over"]["damaged"] > len(damaged) - 9


def test_a_row_is_written_after_its_evidence(half_open: Scenario, tmp_path: Path) -> None:
    [row] = run_seeds(replace(job(half_open, 1), keep="all"))
    store = Store(tmp_path / "out", resume=False)
    failed = replace(row, outcome=Outcome.FAIL)
    folder = store.run_folder(failed)
    folder.parent.mkdir(parents=True)
    folder.write_text("a file where a folder should be")
    with pytest.raises(UsageError):
        store.add(failed)
    assert (tmp_path / "out" / "results.jsonl").read_bytes() == b""
    folder.unlink()
    store.add(failed)
    assert is_ours(read_trace(folder).header)
    store.add(row)
    assert not (folder / "trace.jsonl").exists()
