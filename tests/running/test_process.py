"""One run after another in one process: what belonged to a run is gone when the next has begun."""

from __future__ import annotations

import gc
import os
import signal
import sys
import weakref
from pathlib import Path
from typing import Any

import pytest
import trio

from chaos.checks.judge import judge
from chaos.checks.verdict import Outcome, Verdict
from chaos.errors import NetworkUnavailable
from chaos.running import process, run
from chaos.running.job import Job, make_job
from chaos.running.run import Run
from chaos.scenario.load import load_text
from chaos.scenario.model import Scenario
from chaos.trace import Trace

SCENARIO = """
version: 1
name: a-few-quiet-seconds
duration: 5s
expect:
  - no_leaks
"""


def test_a_trio_without_its_switches_is_one_line_and_no_group(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delattr(trio._core._run, "_r")
    scenario = load_text(SCENARIO, "quiet.yaml")[0]
    job = make_job(scenario, network="simulated", seed=1)
    with pytest.raises(NetworkUnavailable, match="scheduler"):
        process.run_trace(job)


def test_a_run_does_not_stay_in_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    scenario = load_text(SCENARIO, "quiet.yaml")[0]
    runs: list[weakref.ref[Run]] = []

    def make_run(**settings: Any) -> Run:
        run = Run(**settings)
        runs.append(weakref.ref(run))
        return run

    monkeypatch.setattr(process, "Run", make_run)
    for seed in (1, 2, 3):
        job = make_job(scenario, network="simulated", seed=seed)
        assert process.run_job(job).outcome is Outcome.PASS
    gc.collect()  # what is frozen is not collected, and what it refers to neither
    assert [run() for run in runs] == [None, None, None]


def test_checks_read_the_scenario_of_the_trace_whose_secrets_are_gone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    text = SCENARIO + "client: {headers: {Authorization: Bearer hush}}\n"
    scenario = load_text(text, "quiet.yaml")[0]
    judged: list[tuple[Scenario, Scenario]] = []

    def spy(trace: Trace, *, scenario: Scenario, **settings: Any) -> Verdict:
        judged.append((scenario, Scenario.from_json(trace.header.scenario)))
        return judge(trace, scenario=scenario, **settings)

    monkeypatch.setattr(process, "judge", spy)
    job = make_job(scenario, network="simulated", seed=1)
    assert process.run_job(job).outcome is Outcome.PASS
    [(given, recorded)] = judged
    assert given == recorded
    assert "hush" not in repr(given)


def test_each_seed_of_a_sweep_has_the_subjects_globals_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.path", list(sys.path))
    (tmp_path / "mine.py").write_text(
        "from urllib.parse import urlsplit\nimport trio\nRUNS = []\n"
        "async def client(url):\n"
        "    RUNS.append(url)\n"
        "    assert len(RUNS) == 1, 'of the run before'\n"
        "    async with await trio.open_tcp_stream(urlsplit(url).hostname, urlsplit(url).port):\n"
        "        await trio.sleep_forever()\n"
    )
    text = SCENARIO.replace("no_leaks", "no_leaks: {by: server}") + (
        "steady_state: none\nclient: {use: 'mine.py:client'}\n"
    )
    scenario = load_text(text, str(tmp_path / "quiet.yaml"))[0]
    job = Job(scenario=scenario, network="simulated", seeds=(1, 2, 3))
    assert [row.reason for row in process.run_seeds(job) if row.outcome is not Outcome.PASS] == []


@pytest.mark.parametrize("network", ["simulated", "embedded"])
def test_a_system_task_that_fails_takes_the_run_down_and_not_the_process(
    network: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.path", list(sys.path))
    (tmp_path / "mine.py").write_text(
        "import trio\n"
        "async def fail():\n"
        "    raise ValueError('in a system task')\n"
        "async def client(url):\n"
        "    trio.lowlevel.spawn_system_task(fail)\n"
        "    await trio.sleep_forever()\n"
    )
    text = SCENARIO + "steady_state: none\nclient: {use: 'mine.py:client'}\n"
    scenario = load_text(text, str(tmp_path / "quiet.yaml"))[0]
    verdict, trace = process.run_trace(make_job(scenario, network=network, seed=1))
    assert verdict.outcome is Outcome.INCONCLUSIVE
    assert any("in a system task" in event["text"] for event in trace.select("warning"))


def test_a_trace_that_is_full_ends_the_run_and_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run, "EVENTS_MAX", 40)
    text = SCENARIO + "workload: [{from: server, every: 100ms}]\n"
    scenario = load_text(text, "quiet.yaml")[0]
    verdict, trace = process.run_trace(make_job(scenario, network="simulated", seed=1))
    assert verdict.outcome is Outcome.INCONCLUSIVE
    (event,) = trace.select("interrupted")
    assert "40 events" in event["why"]
    assert len(trace.events) < 60
    assert any(event["why"] in finding.reason for finding in verdict.findings)


def test_what_a_subject_changes_in_its_process_is_put_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.path", list(sys.path))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.py").write_text(
        "import os, signal, sys\n"
        "async def client(url):\n"
        "    os.chdir('/')\n"
        "    os.umask(0o77)\n"
        "    os.environ['CHANGED'] = 'yes'\n"
        "    signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
        "    signal.setitimer(signal.ITIMER_REAL, 60)\n"
        "    sys.path.insert(0, 'there')\n"
        "    sys.setrecursionlimit(5000)\n"
    )

    def state() -> tuple[object, ...]:
        umask = os.umask(0o22)
        os.umask(umask)
        handler, timer = signal.getsignal(signal.SIGTERM), signal.getitimer(signal.ITIMER_REAL)
        return (
            Path.cwd(),
            umask,
            dict(os.environ),
            handler,
            timer,
            list(sys.path),
            sys.getrecursionlimit(),
        )

    before = state()
    text = SCENARIO + "steady_state: none\nclient: {use: 'mine.py:client'}\n"
    scenario = load_text(text, str(tmp_path / "quiet.yaml"))[0]
    job = make_job(scenario, network="simulated", seed=1, out="out")
    process.run_trace(job)
    assert state() == before
    assert (tmp_path / "out" / "verdict.json").exists()
