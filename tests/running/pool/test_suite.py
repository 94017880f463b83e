"""Which runs go side by side: as many as the machine carries, heavy ones alone, what was late once more."""

from __future__ import annotations

from concurrent.futures import Future
from dataclasses import replace
from typing import Any

import pytest

from chaos.checks.verdict import LATE, Finding, Outcome, Verdict
from chaos.running.job import Job
from chaos.running.pool import pressure, suite
from chaos.running.pool.pressure import STARTS_PER_CORE, Pressure
from chaos.running.pool.suite import AGAIN, HEAVY_CLIENTS, Suite, order
from chaos.scenario.load import load_text
from chaos.scenario.vary import Bounds


def job(name: str, duration: str = "5s", clients: int = 1, network: str = "embedded") -> Job:
    text = f"version: 1\nname: {name}\nduration: {duration}\nclient: {{count: {clients}}}\n"
    text += "expect: [no_leaks]\ntimeline: [{at: 1s, toxic: noop}]\n"
    (scenario,) = load_text(text, f"{name}.yaml")
    return Job(scenario=scenario, network=network, seeds=(1,), bounds=Bounds())  # type: ignore[arg-type]


class Log:
    """An account of runs that keeps what it is told."""

    def __init__(self) -> None:
        self.told: list[tuple[str, str]] = []

    def started(self, job: Job) -> None:
        self.told.append(("started", job.title))

    def progress(self, job: Job, at_s: float, what: str, opens: int) -> None:
        """Keep nothing of it."""

    def finished(self, job: Job, verdict: Verdict) -> None:
        self.told.append((verdict.outcome.value, job.title))

    def postponed(self, job: Job) -> None:
        self.told.append(("postponed", job.title))


def verdict_of(job: Job, outcome: Outcome, late: bool = False) -> Verdict:
    measured = {LATE: 1.0} if late else {}
    finding = Finding(check="reconnects", outcome=outcome, reason="", measured=measured)
    return Verdict(
        scenario=job.title,
        path="",
        network=job.network,
        seed=1,
        outcome=outcome,
        findings=(finding,),
    )


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> dict[str, list[Verdict]]:
    """Runs that come at once to what stands here: for each title its verdicts, one per run."""
    answers: dict[str, list[Verdict]] = {}

    def run_one(self: Suite, job: Job, worker: Any) -> Verdict:
        return answers[job.title].pop(0)

    monkeypatch.setattr(Suite, "_run_one", run_one)
    return answers


def test_a_run_that_the_machine_was_too_busy_for_is_run_again_alone_and_says_so(made):
    jobs = [job("one"), job("two"), job("three")]
    late = verdict_of(jobs[0], Outcome.INCONCLUSIVE, late=True)
    made["one"] = [late, verdict_of(jobs[0], Outcome.PASS)]
    made["two"] = [verdict_of(jobs[1], Outcome.INCONCLUSIVE)]  # not for that reason
    made["three"] = [verdict_of(jobs[2], Outcome.FAIL)]
    log = Log()
    run = Suite(jobs, log, slots=9)
    run.run()
    assert {n: row.outcome.value for n, row in run.verdicts.items()} == {
        0: "PASS",
        1: "INCONCLUSIVE",
        2: "FAIL",
    }
    assert run.verdicts[0].warnings == (AGAIN,)
    assert run.again == 1
    assert log.told[-2:] == [("started", "one"), ("PASS", "one")]
    assert log.told.count(("postponed", "one")) == 1


def test_it_is_run_again_once_only(made):
    jobs = [job("one"), job("two")]
    late = verdict_of(jobs[0], Outcome.INCONCLUSIVE, late=True)
    made["one"], made["two"] = [late, late], [verdict_of(jobs[1], Outcome.PASS)]
    run = Suite(jobs, Log(), slots=9)
    run.run()
    assert run.verdicts[0] == replace(late, warnings=(AGAIN,))


def test_what_fails_fast_hands_in_what_was_to_run_again(made):
    jobs = [job("one", "9s"), job("two")]
    late = verdict_of(jobs[0], Outcome.INCONCLUSIVE, late=True)
    made["one"], made["two"] = [late], [verdict_of(jobs[1], Outcome.FAIL)]
    run = Suite(jobs, Log(), slots=1, fail_fast=True)
    run.run()
    assert run.verdicts == {0: late, 1: verdict_of(jobs[1], Outcome.FAIL)}
    assert run.again == 0


def test_the_longest_start_first_and_the_heavy_ones_last():
    rows = [
        job("short", "3s"),
        job("heavy", "20s", HEAVY_CLIENTS),
        job("long", "9s"),
        job("many", "4s", HEAVY_CLIENTS, "simulated"),
    ]
    # on virtual time it is the number of clients that costs
    assert [row.title for row in sorted(rows, key=order)] == ["many", "long", "short", "heavy"]


@pytest.mark.parametrize(
    ("running", "asked", "may"),
    [
        ([], job("heavy", clients=HEAVY_CLIENTS), True),
        ([job("one")], job("heavy", clients=HEAVY_CLIENTS), False),
        ([job("heavy", clients=HEAVY_CLIENTS)], job("one"), False),
        ([job("one")], job("two"), True),
        ([job("one"), job("two"), job("three")], job("four"), False),  # no slot is free
    ],
)
def test_who_may_start_beside_whom(running, asked, may):
    run = Suite([*running, asked], Log(), slots=3)
    for number in range(len(running)):
        run._running[Future()] = number, suite.Worker()
    assert run._may_start(len(running)) is may


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Any:
    """A machine whose time and processes are made up: `waits` says how long each process waits per second."""

    class Machine:
        now_s = 0.0
        waits = 0.0

    machine = Machine()
    monkeypatch.setattr(pressure.time, "monotonic", lambda: machine.now_s)
    monkeypatch.setattr(
        pressure, "spent_with_children", lambda _pid: (0.0, machine.waits * machine.now_s)
    )
    return machine


def test_no_more_runs_start_while_those_under_way_wait_for_a_processor(clock):
    one = Pressure(cores=1)
    answers = []
    for clock.now_s, clock.waits in ((0.0, 0.5), (1.0, 0.5), (1.1, 0.5), (2.0, 0.26)):
        answers.append(one.allows([1, 2]))
    assert answers == [True, False, False, True]  # 0.5 s of waits by 1.0 s, 0.52 s by 2.0 s


def test_with_nothing_under_way_a_run_may_always_start(clock):
    one = Pressure(cores=1)
    for clock.now_s, clock.waits in ((0.0, 0.9), (1.0, 0.9)):
        one.allows([1])
    assert one.allows([]) is True


def test_runs_start_a_few_at_a_time(clock):
    one = Pressure(cores=2)
    started = 0
    while one.allows([1]):
        one.started()
        started += 1
    assert started == 2 * STARTS_PER_CORE
    clock.now_s = 0.3
    assert one.allows([1]) is True
