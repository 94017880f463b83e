"""What a person reads."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from chaos.checks.verdict import Finding, Outcome, Verdict, skipped
from chaos.errors import Mistake
from chaos.reports.terminal import (
    markup_verdict,
    not_applicable_lines,
    render_run,
    render_verdict,
    summary_line,
)

PASSED = Finding(
    check="detects_dead_peer",
    outcome=Outcome.PASS,
    reason="client 1 reset after 5.000 s",
    measured={"detected_s": 5.0, "client": 1},
)
FAILED = Finding(
    check="reconnects",
    outcome=Outcome.FAIL,
    reason="client 1 was never connected again (expected within 8 s)",
    evidence=("38.000 s: `stall` (outage) began", "46.000 s: the bound passed"),
    measured={"attempts": 0},
    line=31,
)
DOUBT = Finding(
    check="felt", outcome=Outcome.INCONCLUSIVE, reason="`reset` touched nothing", guard=True
)


def verdict(outcome: Outcome, *findings: Finding, **more: object) -> Verdict:
    rows = {
        "scenario": "half-open[beat=5s]",
        "path": "s/half-open.yaml",
        "network": "simulated",
        "seed": 7,
    }
    return Verdict(
        **{**rows, "outcome": outcome, "findings": findings, "duration_s": 120.0, **more}
    )  # type: ignore[arg-type]


def test_a_pass_is_one_line_with_its_key_figures():
    assert render_verdict(verdict(Outcome.PASS, PASSED)) == (
        "PASS          half-open[beat=5s]  120.0 s  detected 5 s"
    )


def test_a_failure_shows_reason_causes_place_and_how_to_repeat_it():
    assert render_verdict(verdict(Outcome.FAIL, PASSED, FAILED)).splitlines() == [
        "FAIL          half-open[beat=5s]  120.0 s  detected 5 s",
        "  reconnects: client 1 was never connected again (expected within 8 s)",
        "      38.000 s: `stall` (outage) began",
        "      46.000 s: the bound passed",
        "      s/half-open.yaml:31",
        "  again: trio-chaos run s/half-open.yaml --network simulated --seed 7",
    ]


def test_a_failure_shows_what_could_not_be_judged_as_well():
    lines = render_verdict(verdict(Outcome.FAIL, FAILED, DOUBT)).splitlines()
    assert "  INCONCLUSIVE: guard felt: `reset` touched nothing" in lines


def test_doubt_shows_its_guard():
    lines = render_verdict(verdict(Outcome.INCONCLUSIVE, PASSED, DOUBT)).splitlines()
    assert lines[0].startswith("INCONCLUSIVE  half-open[beat=5s]")
    assert lines[1] == "  guard felt: `reset` touched nothing"


def test_verbose_shows_what_passed_and_the_warnings():
    text = render_verdict(verdict(Outcome.PASS, PASSED, warnings=("w",)), verbose=True)
    assert "  detects_dead_peer: client 1 reset after 5.000 s\n  warning: w" in text


@pytest.mark.parametrize("width", [80, 100, 120])
def test_no_line_is_wider_than_asked(width):
    long = Finding(
        check="backoff", outcome=Outcome.FAIL, reason="word " * 60, evidence=("cause " * 60,) * 3
    )
    text = render_verdict(verdict(Outcome.FAIL, long, scenario="n" * 60), width=width)
    assert max(map(len, text.splitlines())) <= width


def test_control_characters_never_reach_the_terminal():
    evil = Finding(check="x", outcome=Outcome.FAIL, reason="a\x1b[31mb\x07c")
    for text in (
        render_verdict(verdict(Outcome.FAIL, evil)),
        markup_verdict(verdict(Outcome.FAIL, evil)),
    ):
        assert "\x1b" not in text
        assert "\x07" not in text


def test_a_run_ends_with_invalid_files_and_counts():
    verdicts = [
        verdict(Outcome.PASS, PASSED),
        verdict(Outcome.FAIL, FAILED),
        skipped(scenario="s", path="", network="toxiproxy", seed=1, reason="no stall there"),
    ]
    mistake = Mistake("x.yaml", 3, 1, "unknown key")
    text = render_run(verdicts, [mistake, Mistake("x.yaml", 4, 1, "unknown key")])
    assert text.splitlines()[-4:] == [
        "x.yaml:3:1: unknown key",
        "x.yaml:4:1: unknown key",
        "",
        "3 scenarios: 1 passed, 1 failed, 1 skipped, 1 invalid file; 240.0 s of scenario time",
    ]
    assert "no stall there" in text


def test_an_empty_run_says_so():
    assert summary_line([]) == "0 scenarios: nothing to run; 0.0 s of scenario time"


@pytest.mark.parametrize(
    "reason", ["plain", "a [red]word[/red] [5] [/] x", "ends with \\", "\\[bold]"]
)
def test_rich_shows_the_markup_as_the_plain_text(reason):
    row = verdict(Outcome.FAIL, Finding(check="x", outcome=Outcome.FAIL, reason=reason))
    out = io.StringIO()
    Console(file=out, width=200, color_system=None).print(markup_verdict(row), highlight=False)
    assert out.getvalue() == render_verdict(row) + "\n"


def test_what_follows_from_a_deeper_cause_is_counted_and_not_shown() -> None:
    def guard(check: str, outcome: Outcome = Outcome.INCONCLUSIVE) -> Finding:
        return Finding(check=check, outcome=outcome, reason=f"about {check}", guard=True)

    findings = (
        guard("connected"),
        guard("felt"),
        guard("subject_alive"),
        guard("loop_lag", Outcome.PASS),
    )
    verdict = Verdict(
        scenario="x",
        path="x.yaml",
        network="embedded",
        seed=1,
        outcome=Outcome.INCONCLUSIVE,
        findings=findings,
    )
    short = render_verdict(verdict)
    assert "guard subject_alive: about subject_alive" in short
    assert "2 more" in short
    assert "about connected" not in short
    assert "about connected" in render_verdict(verdict, verbose=True)


def test_what_does_not_apply_is_named_once_with_how_many_scenarios() -> None:
    def verdict(title: str, client: int) -> Verdict:
        reason = f"client {client} reports nothing"
        findings = (Finding(check="delivers", outcome=Outcome.SKIPPED, reason=reason),)
        return Verdict(
            scenario=title,
            path="",
            network="simulated",
            seed=1,
            outcome=Outcome.PASS,
            findings=findings,
        )

    assert not_applicable_lines([]) == []
    lines = not_applicable_lines([verdict("a", 1), verdict("b", 2)], width=60)
    assert lines[2:] == ["  delivers (2 scenarios): client reports nothing"]
    assert "(a)" in not_applicable_lines([verdict("a", 1)])[2]
