"""One scenario on several networks: where they agree, and how a disagreement is told."""

from __future__ import annotations

from pathlib import Path

import pytest

from chaos.checks.verdict import Finding, Outcome, Verdict
from chaos.commands.main import cli, run_cli
from chaos.errors import EXIT_INVALID, EXIT_PASSED
from chaos.explore.compare import Comparison, render


def call(*arguments: object) -> int:
    return run_cli(
        lambda: cli.main([str(a) for a in arguments], "trio-chaos", standalone_mode=False)
    )


def verdict(network: str, outcome: Outcome, took_s: float) -> Verdict:
    finding = Finding(
        check="reconnects", outcome=outcome, reason="why", measured={"reconnected_s": took_s}
    )
    return Verdict(
        scenario="a", path="a.yaml", network=network, seed=1, outcome=outcome, findings=(finding,)
    )


def test_verdicts_that_differ_are_told_with_their_reasons() -> None:
    rows = {
        "embedded": verdict("embedded", Outcome.PASS, 1.0),
        "simulated": verdict("simulated", Outcome.FAIL, 3.0),
    }
    comparison = Comparison(title="a", verdicts=rows)
    assert not comparison.agree
    assert render(comparison) == [
        "DIFFERENT  a  embedded PASS, simulated FAIL",
        "  reconnects reconnected_s: embedded 1.000 s, simulated 3.000 s  apart by 2.000 s",
        "  simulated: reconnects: why",
    ]


def test_a_network_that_was_skipped_neither_agrees_nor_disagrees() -> None:
    rows = {
        "embedded": verdict("embedded", Outcome.PASS, 1.0),
        "toxiproxy": verdict("toxiproxy", Outcome.SKIPPED, 0.0),
    }
    comparison = Comparison(title="a", verdicts=rows)
    assert comparison.agree
    assert comparison.times() == []


@pytest.mark.slow
def test_the_half_open_socket_is_the_same_on_both(
    half_open_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call("run", half_open_file, "--compare", "embedded,simulated") == EXIT_PASSED
    said = capsys.readouterr().out
    assert "same       half-open  embedded PASS, simulated PASS" in said
    assert "detected_s: embedded 1." in said


@pytest.mark.parametrize("networks", ["embedded", "embedded,moon", "simulated,simulated"])
def test_two_known_networks_are_needed(half_open_file: Path, networks: str) -> None:
    assert call("run", half_open_file, "--compare", networks) == EXIT_INVALID
