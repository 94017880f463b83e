"""The scenarios that ship with the project: each is a lesson, valid, short, and passes with the reference peers.

Together they use every word of the vocabulary that the reference peers can be made to show.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from support.verdicts import JUDGED_MIN, was_late

from chaos.api import load_scenarios
from chaos.scenario.model import Scenario
from chaos.vocabulary.actions import ACTIONS
from chaos.vocabulary.checks import CHECKS
from chaos.vocabulary.faults import FAULTS
from chaos.vocabulary.toxics import TOXICS
from chaos.vocabulary.words import WORDS

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "scenarios"
FILES = sorted(FOLDER.glob("*.yaml"))
SCENARIOS = [scenario for file in FILES for scenario in load_scenarios(file)]
SECONDS_MAX = 45
REAL_MIN = 28
# a run of the whole folder takes a minute; a busy machine gets three
RUN_S_MAX = 240
# 9 s on an idle machine
SOAK_S_MAX = 60
SCHEMA = "# yaml-language-server: $schema=../docs/schema/scenario-1.json"
# both runs of the folder load the machine fully: side by side they would disturb each other's clocks
one_at_a_time = pytest.mark.xdist_group("shipped-scenarios")


def is_real(scenario: Scenario) -> bool:
    return scenario.networks != ("simulated",)


def leading_comment(file: Path) -> str:
    lines = file.read_text(encoding="utf-8").splitlines()
    assert lines[0] == SCHEMA
    end = next(number for number, line in enumerate(lines) if not line.startswith("#"))
    return "\n".join(line.lstrip("# ") for line in lines[1:end]).strip()


def test_files_are_numbered_without_gaps() -> None:
    numbers = [file.name[:3] for file in FILES]
    assert numbers == [f"{number:02}-" for number in range(1, len(FILES) + 1)]


def test_there_are_enough_of_both_kinds() -> None:
    real = [scenario.name for scenario in SCENARIOS if is_real(scenario)]
    simulated = [scenario.name for scenario in SCENARIOS if not is_real(scenario)]
    assert len(set(real)) >= REAL_MIN
    assert len(set(simulated)) >= 4


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_a_file_is_a_lesson(file: Path) -> None:
    comment = leading_comment(file)
    assert "Checked" in comment, "the comment says what is checked"
    story = comment.split("Checked")[0].strip()
    assert len(story) >= 150, "and before that, what happens in production"
    for scenario in load_scenarios(file):
        assert scenario.name == file.stem[3:]
        assert len(scenario.description) >= 30
        assert scenario.tags
        assert scenario.references
        assert all(re.fullmatch(r"https://\S+", url) for url in scenario.references)
        assert scenario.server.use in (None, "reference")
        assert scenario.client.use in (None, "reference")
        assert len({row.check for row in scenario.expect}) >= 3


@pytest.mark.parametrize(
    "scenario", [row for row in SCENARIOS if is_real(row)], ids=lambda row: row.title
)
def test_a_scenario_for_real_sockets_is_short_and_starts_calmly(scenario: Scenario) -> None:
    assert scenario.duration_s <= SECONDS_MAX
    if scenario.steady_state == "none":
        return
    starts = [entry.at_s for entry in scenario.timeline if entry.at_s is not None]
    assert min(starts) >= 4, "a busy machine needs time to reach the steady state"


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_every_expectation_about_an_entry_names_one(file: Path) -> None:
    for scenario in load_scenarios(file):
        names = {entry.name for entry in scenario.timeline}
        assert None not in names
        spoken = {
            row.parameters[key]
            for row in scenario.expect
            for key in ("after", "during")
            if row.parameters.get(key) is not None
        }
        assert spoken <= names


def words(kind: str) -> set[str]:
    return {
        entry.word
        for scenario in SCENARIOS
        if is_real(scenario)
        for entry in scenario.timeline
        if entry.kind == kind
    }


def test_every_toxic_fault_and_action_that_can_be_had_is_used() -> None:
    assert words("toxic") == set(TOXICS)
    # path faults exist on the simulated network only
    assert words("fault") == {
        word for word, row in FAULTS.items() if row.support["embedded"][0] != "unsupported"
    }
    assert words("action") == {word for word, row in ACTIONS.items() if not row.needs_process}


def test_every_fault_below_the_link_is_used_by_a_simulated_scenario() -> None:
    used = {
        entry.word
        for scenario in SCENARIOS
        if not is_real(scenario)
        for entry in scenario.timeline
        if entry.kind == "fault"
    }
    assert {word for word, kind in FAULTS.items() if kind.on_path} <= used


def test_every_check_is_used() -> None:
    used = {row.check for scenario in SCENARIOS if is_real(scenario) for row in scenario.expect}
    assert used == set(CHECKS)


def test_both_ways_to_start_an_entry_and_a_matrix_are_used() -> None:
    entries = [entry for scenario in SCENARIOS for entry in scenario.timeline]
    assert {entry.on is not None for entry in entries} == {True, False}
    assert any(entry.times > 1 for entry in entries)
    assert any(scenario.cell for scenario in SCENARIOS)


def test_the_close_codes_that_clients_meet_are_covered() -> None:
    codes = {
        entry.parameters.get("code")
        for scenario in SCENARIOS
        for entry in scenario.timeline
        if entry.kind == "action" and entry.by == "server"
    }
    assert {1001, 1011, 1012, 1013, 4000, 4401} <= codes


def test_where_toxiproxy_is_left_out_the_file_says_why() -> None:
    for file in FILES:
        scenario = load_scenarios(file)[0]
        if is_real(scenario) and "toxiproxy" not in scenario.networks:
            line = next(
                line
                for line in file.read_text(encoding="utf-8").splitlines()
                if line.startswith("networks:")
            )
            assert "#" in line, f"{file.name} does not say why"


def run_scenarios(network: str, *paths: Path) -> list[dict[str, Any]]:
    done = subprocess.run(
        [sys.executable, "-m", "chaos", "run", *map(str, paths), "--json", "--network", network],
        capture_output=True,
        text=True,
        timeout=RUN_S_MAX,
        check=False,
    )
    assert done.stdout, done.stderr
    verdicts = json.loads(done.stdout)["verdicts"]
    outcomes = {row["outcome"] for row in verdicts}
    expected = 1 if "FAIL" in outcomes else 2 if "INCONCLUSIVE" in outcomes else 0
    assert done.returncode == expected, done.stderr
    return verdicts


def run_folder(network: str) -> dict[str, dict[str, Any]]:
    """Run the folder and return the verdicts, less those that a busy machine prevented: a tenth of them at most."""
    rows = run_scenarios(network, FOLDER)
    judged = [row for row in rows if not was_late(row)]
    assert len(judged) >= JUDGED_MIN * len(rows), "the machine is too busy to judge anything"
    return {row["scenario"]: row for row in judged}


def complaints(verdicts: dict[str, dict[str, Any]]) -> list[str]:
    return [
        f"{title}: {row['outcome']}: {finding['check']}: {finding['reason']}"
        for title, row in verdicts.items()
        if row["outcome"] in ("FAIL", "INCONCLUSIVE")
        for finding in row["findings"]
        if finding["outcome"] == row["outcome"]
    ]


def assert_all_pass(network: str) -> None:
    verdicts = run_folder(network)
    assert not complaints(verdicts), "\n".join(complaints(verdicts))
    assert {title: row["outcome"] for title, row in verdicts.items()} == {
        scenario.title: "PASS" if runs_on(scenario, network) else "SKIPPED"
        for scenario in SCENARIOS
        if scenario.title in verdicts
    }


def runs_on(scenario: Scenario, network: str) -> bool:
    supported = all(
        WORDS[entry.kind][entry.word].support[network][0] != "unsupported"
        for entry in scenario.timeline
    )
    return network in scenario.networks and supported


@pytest.mark.slow
@one_at_a_time
def test_all_pass_on_the_embedded_network(alone: None) -> None:
    assert_all_pass("embedded")


@pytest.mark.slow
@one_at_a_time
def test_all_pass_on_the_simulated_network(alone: None) -> None:
    assert_all_pass("simulated")


@pytest.mark.slow
@one_at_a_time
def test_half_an_hour_and_a_day_of_soak_pass_within_a_minute(alone: None) -> None:
    start_s = time.monotonic()
    verdicts = {row["scenario"]: row for row in run_scenarios("simulated", FOLDER / "soak")}
    assert not complaints(verdicts), "\n".join(complaints(verdicts))
    assert set(verdicts) == {"30-minutes", "24-hours"}
    assert time.monotonic() - start_s < SOAK_S_MAX


@pytest.mark.slow
@pytest.mark.toxiproxy
@one_at_a_time
def test_all_have_the_same_verdict_on_a_real_toxiproxy(alone: None) -> None:
    if shutil.which("toxiproxy-server") is None:
        if os.environ.get("TRIO_CHAOS_REQUIRE_TOXIPROXY") == "1":
            pytest.fail("toxiproxy-server is not on PATH, and TRIO_CHAOS_REQUIRE_TOXIPROXY is 1")
        pytest.skip("toxiproxy-server is not on PATH")
    assert_all_pass("toxiproxy")
