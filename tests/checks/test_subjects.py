"""Subjects that attack the checks: each is wrong in one respect, or right in a way that is easily taken for wrong.

`subjects/expected.tsv` says how each must be judged and why; `subjects/README.md` explains its columns.
"""

from __future__ import annotations

import csv
import re
from pathlib import Path

import pytest

from chaos.api import load_scenarios, run, run_jobs
from chaos.checks.verdict import Finding, Verdict
from chaos.running.job import make_job
from chaos.running.process import run_trace
from chaos.vocabulary.checks import CHECKS

FOLDER = Path(__file__).parent / "subjects"
REAL_S_MAX = 10
GUARDS = {"connected", "steady_state", "felt", "subject_alive", "loop_lag", "storm"}
# these exit, or do not let themselves be cancelled
TAKES_THE_PROCESS = {"exits-on-loss", "never-ends"}
OUTCOMES = {"PASS", "FAIL", "INCONCLUSIVE"}

Row = dict[str, str]


def read_rows() -> dict[str, Row]:
    with (FOLDER / "expected.tsv").open(encoding="utf-8") as file:
        rows = csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE)
        return {row["file"]: row for row in rows}


ROWS = read_rows()
SCENARIOS = {name: load_scenarios(FOLDER / f"{name}.yaml")[0] for name in ROWS}


def runs_on(network: str) -> list[str]:
    return [name for name, scenario in SCENARIOS.items() if network in scenario.networks]


def named_first(reason: str) -> str:
    """Return the peer that a reason names first: who it says did it."""
    found = re.search(r"\b(client(?: \d+)?|server)\b", reason)
    return found[1] if found else ""


def complaint(row: Row, verdict: Verdict) -> str:
    """Return in which way a verdict is not the right one; empty when it is."""
    outcome = verdict.outcome.name
    shown = [
        f"{finding.outcome.name} {finding.check}: {finding.reason}"
        for finding in verdict.findings
        if finding.outcome.name != "PASS"
    ]
    if outcome not in (row["outcome"], *row["also"].split()):
        return f"{outcome}, expected {row['outcome']}: {shown}"
    if outcome != row["outcome"] or not row["fails"]:
        return ""
    findings = [finding for finding in verdict.findings if finding.outcome is verdict.outcome]
    deciding = [finding for finding in findings if finding.check == row["fails"]]
    if not deciding:
        return f"`{row['fails']}` did not say so: {shown}"
    if row["names"] and not any(blames(finding, row["names"]) for finding in deciding):
        return f"it is the {row['names']} who is wrong: {shown}"
    return ""


def blames(finding: Finding, who: str) -> bool:
    """Tell whether a finding says that this peer is to blame; `client` is any client."""
    named = named_first(finding.reason)
    return named == who or (who == "client" and named.startswith("client"))


def run_simulated(name: str) -> Verdict:
    """Run a scenario on simulated sockets: in this process, unless the subject may take its process with it."""
    scenario = SCENARIOS[name]
    if name in TAKES_THE_PROCESS:
        return run(scenario, network="simulated")
    return run_trace(make_job(scenario, network="simulated", seed=1))[0]


@pytest.mark.parametrize("name", runs_on("simulated"))
def test_a_subject_is_judged_rightly(name: str) -> None:
    assert not complaint(ROWS[name], run_simulated(name))


@pytest.mark.slow
@pytest.mark.usefixtures("alone")
def test_subjects_are_judged_alike_on_the_machines_sockets() -> None:
    """All at once, in real time; what is judged wrongly on simulated sockets may be either here.

    What a busy machine spoilt is run once more, and not judged if it is spoilt again.
    """
    short = [name for name in runs_on("embedded") if SCENARIOS[name].duration_s <= REAL_S_MAX]
    verdicts = run_real(short)
    verdicts |= run_real([name for name in short if was_late(ROWS[name], verdicts[name])])
    wrong = {
        name: what
        for name, verdict in verdicts.items()
        if not was_late(ROWS[name], verdict) and (what := complaint(ROWS[name], verdict))
    }
    assert not wrong


def run_real(names: list[str]) -> dict[str, Verdict]:
    """Run these side by side on the machine's sockets."""
    jobs = [make_job(SCENARIOS[name], network="embedded", seed=1) for name in names]
    return dict(zip(names, run_jobs(jobs).verdicts, strict=True))


def was_late(row: Row, verdict: Verdict) -> bool:
    """Tell whether the machine was too busy, which says nothing about the subject."""
    return verdict.was_late and row["fails"] != "loop_lag"


def test_the_table_and_the_files_agree() -> None:
    assert set(ROWS) == {file.stem for file in FOLDER.glob("*.yaml")}
    for name, row in ROWS.items():
        assert SCENARIOS[name].name == name
        assert {row["outcome"], *row["also"].split()} <= OUTCOMES
        assert row["fails"] in {"", *GUARDS, *CHECKS}
        assert re.fullmatch(r"(client( \d+)?|server)?", row["names"])
        assert row["why"]
        text = (FOLDER / f"{name}.yaml").read_text(encoding="utf-8")
        assert text.startswith("# Wrong: " if row["fails"] else "# Right: ")
        checked = {row.check for row in SCENARIOS[name].expect}
        assert row["fails"] in {"", *GUARDS, *checked}


def test_every_check_and_guard_meets_wrong_and_right_subjects() -> None:
    wrong = {row["fails"] for row in ROWS.values()}
    right = {
        expectation.check
        for name, row in ROWS.items()
        if row["outcome"] == "PASS"
        for expectation in SCENARIOS[name].expect
    }
    assert wrong >= set(CHECKS) | GUARDS
    assert right == set(CHECKS)
