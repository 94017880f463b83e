"""A run as JSON, and back."""

from __future__ import annotations

import json

import pytest

from chaos.checks.verdict import Finding, Outcome, Verdict
from chaos.errors import Mistake
from chaos.reports.jsonout import parse_run, render_json

VERDICT = Verdict(
    scenario="a",
    path="a.yaml",
    network="simulated",
    seed=1,
    outcome=Outcome.FAIL,
    findings=(Finding(check="x", outcome=Outcome.FAIL, reason="ü", measured={"n": 1.5, "s": "t"}),),
    duration_s=2.0,
    warnings=("w",),
)


def test_a_run_goes_to_text_and_back():
    assert parse_run(render_json([VERDICT, VERDICT])) == (VERDICT, VERDICT)


def test_counts_and_invalid_files_are_there():
    data = json.loads(render_json([VERDICT], [Mistake("b.yaml", 1, 2, "no", value="7")]))
    assert data["counts"] == {"PASS": 0, "FAIL": 1, "INCONCLUSIVE": 0, "SKIPPED": 0}
    assert data["invalid"] == [
        {"path": "b.yaml", "line": 1, "column": 2, "message": "b.yaml:1:2: no (got 7)"}
    ]


@pytest.mark.parametrize(
    "text", ["", "[]", '{"run": 2}', '{"run": 1, "verdicts": [{}]}', '{"run": 1}', "[" * 99_999]
)
def test_anything_else_is_refused(text):
    with pytest.raises(ValueError, match=r"expected|Expecting"):
        parse_run(text)
