"""What a sweep keeps of a run: the reason that explains the others, and no difference where nothing was compared."""

from __future__ import annotations

from chaos.checks.verdict import Finding, Outcome, Verdict
from chaos.explore.replay import Twins
from chaos.running.job import Job
from chaos.running.result import lost_rows, reason_of
from chaos.scenario.load import load_text

TEXT = (
    "version: 1\nname: some\nduration: 3s\nexpect: [no_leaks]\ntimeline: [{at: 1s, toxic: noop}]\n"
)


def test_the_reason_is_that_of_the_deepest_cause() -> None:
    findings = tuple(
        Finding(check=name, outcome=Outcome.INCONCLUSIVE, reason="it was so", guard=True)
        for name in ("connected", "steady_state", "subject_alive")
    )
    verdict = Verdict(
        scenario="some",
        path="",
        network="simulated",
        seed=1,
        outcome=Outcome.INCONCLUSIVE,
        findings=findings,
    )
    assert reason_of(verdict) == "subject_alive: it was so"


def test_two_runs_that_came_to_nothing_are_not_called_different() -> None:
    (scenario,) = load_text(TEXT, "some.yaml")
    job = Job(scenario=scenario, network="simulated", seeds=(1,))
    twins = Twins(pairs=1)
    twins._compare(job, lost_rows(job, "its process died"), lost_rows(job, "and so did this"))
    assert twins.differences == []
