"""How findings add up."""

from __future__ import annotations

import pytest

from chaos.checks.verdict import Finding, Outcome, Verdict, combine, skipped

P, F, I = Outcome.PASS, Outcome.FAIL, Outcome.INCONCLUSIVE  # noqa: E741


@pytest.mark.parametrize(
    ("outcomes", "whole"),
    [((P, P), P), ((P, I), I), ((I, F, P), F), ((F,), F), ((), I)],
)
def test_failure_beats_doubt_beats_pass_and_nothing_is_doubt(outcomes, whole):
    assert combine(Finding(check="x", outcome=o, reason="") for o in outcomes) is whole


def test_a_skip_carries_its_reason():
    verdict = skipped(
        scenario="s", path="p.yaml", network="toxiproxy", seed=3, reason="no stall there"
    )
    assert verdict.outcome is Outcome.SKIPPED
    assert [finding.reason for finding in verdict.deciding()] == ["no stall there"]


def test_a_finding_of_another_shape_is_refused():
    with pytest.raises(KeyError):
        Finding.from_json({"check": "x"})
    with pytest.raises(ValueError, match="MAYBE"):
        Verdict.from_json(
            {
                "scenario": "s",
                "path": "",
                "network": "n",
                "seed": 1,
                "outcome": "MAYBE",
                "findings": [],
                "duration_s": 1,
            }
        )
