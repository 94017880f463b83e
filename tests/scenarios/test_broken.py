"""Subjects that are wrong on purpose: each must fail on the checks that its file declares, and on no other.

`x-fails` names the findings that must fail; `x-says` is a pattern for what they say, so that a check which fails for
another reason than the subject's mistake does not count as having caught it. The same files must pass with the
reference peers, or the expectations would be too strict for anybody.
"""

from __future__ import annotations

import ast
import json
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from chaos.api import load_scenarios
from chaos.vocabulary.checks import CHECKS

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "scenarios" / "broken"
FILES = sorted(FOLDER.glob("*.yaml"))
SUBJECTS = sorted(FOLDER.glob("*.py"))
SECONDS_MAX = 25
# what a subject may know of the tool that tests it
KNOWN = {"report", "subject"}

Declared = Mapping[str, Any]


def declared(file: Path) -> Declared:
    row: Declared = YAML(typ="safe").load(file.read_text(encoding="utf-8"))
    return row


def imports_of(file: Path) -> Iterator[tuple[str, str]]:
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from ((name.name, "") for name in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from ((node.module or "", name.name) for name in node.names)


def expected_names(file: Path) -> set[str]:
    (scenario,) = load_scenarios(file)
    return {row.use or row.check for row in scenario.expect}


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_a_file_is_valid_short_and_says_what_is_wrong(file: Path) -> None:
    (scenario,) = load_scenarios(file)
    row, text = declared(file), file.read_text(encoding="utf-8")
    assert scenario.name == f"broken-{file.stem[3:]}"
    assert "broken" in scenario.tags
    assert scenario.references, "cite where this mistake was seen"
    assert scenario.duration_s <= SECONDS_MAX
    assert text.startswith("# Wrong: ")
    assert "\n# Seen in: " in text
    assert re.compile(row["x-says"])


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_what_must_fail_is_expected_and_most_of_the_rest_must_pass(file: Path) -> None:
    fails, names = set(declared(file)["x-fails"]), expected_names(file)
    assert 1 <= len(fails) <= 3
    assert fails <= names
    assert len(names - fails) >= 3, "list the checks that a right subject passes here"


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_exactly_one_side_is_broken(file: Path) -> None:
    (scenario,) = load_scenarios(file)
    broken = [s.use for s in (scenario.client, scenario.server) if s.use != "reference"]
    assert len(broken) == 1
    name, _, attribute = str(broken[0]).partition(":")
    assert (FOLDER / name).is_file()
    assert attribute == ("client" if scenario.client.use != "reference" else "serve")


def test_numbers_and_names_are_used_once() -> None:
    numbers = [file.name[:2] for file in FILES]
    assert numbers == [f"{number:02d}" for number in range(1, len(FILES) + 1)]
    assert not [s for s in SUBJECTS if s.stem not in _mentioned()], "a file that nothing uses"


def _mentioned() -> set[str]:
    texts = [file.read_text(encoding="utf-8") for file in FILES]
    named = {word for text in texts for word in re.findall(r"([a-z_]+)\.py:", text)}
    return named | {"plain", "plain_wire"}


@pytest.mark.parametrize("check", sorted(CHECKS))
def test_every_check_has_a_subject_that_it_must_catch(check: str) -> None:
    assert any(check in declared(file)["x-fails"] for file in FILES)


def test_a_check_of_ones_own_has_a_subject_that_it_must_catch() -> None:
    own = [name for file in FILES for name in declared(file)["x-fails"] if ":" in name]
    assert own
    assert not set(own) & set(CHECKS)


@pytest.mark.parametrize("file", SUBJECTS, ids=lambda file: file.stem)
def test_a_subject_shares_no_code_with_the_tool(file: Path) -> None:
    """A mistake that the subject shared with the link or the reference peers would be seen by neither."""
    for module, name in imports_of(file):
        if module.split(".")[0] != "chaos":
            continue
        if file.stem == "own_checks":
            assert module in ("chaos.trace", "chaos.checks.verdict")
        else:
            assert module == "chaos", f"{file.name} imports {module}"
            assert name in KNOWN


def run_files(
    files: Sequence[Path], out: Path, *arguments: str
) -> tuple[int, dict[str, dict[str, Any]]]:
    """Run these files through the real command; return its exit code, and the verdicts by file name."""
    command: list[str | Path] = [
        sys.executable,
        "-m",
        "chaos",
        "run",
        *files,
        "--json",
        "--out",
        out,
    ]
    done = subprocess.run(
        [*command, *arguments], capture_output=True, text=True, cwd=ROOT, check=False, timeout=180
    )
    assert done.stdout, done.stderr
    verdicts = {Path(row["path"]).name: row for row in json.loads(done.stdout)["verdicts"]}
    return done.returncode, verdicts


def run_all(tmp_path: Path, *arguments: str) -> tuple[int, list[dict[str, Any]]]:
    """Run the folder, and once more what a busy machine spoilt; return the last exit code and all verdicts."""
    code, verdicts = run_files([FOLDER], tmp_path / "1", *arguments)
    assert sorted(verdicts) == [file.name for file in FILES]
    spoilt = [FOLDER / name for name, verdict in verdicts.items() if was_late(verdict)]
    if spoilt:
        code, again = run_files(spoilt, tmp_path / "2", *arguments)
        verdicts |= again
    return code, list(verdicts.values())


def was_late(verdict: Mapping[str, Any]) -> bool:
    """Tell whether the event loop was kept waiting for the processor, which says nothing about a subject."""
    return any(
        row["check"] == "loop_lag" and row["outcome"] == "INCONCLUSIVE"
        for row in verdict["findings"]
    )


def described(finding: Mapping[str, Any]) -> str:
    return "\n".join((finding["reason"], *finding["evidence"]))


def not_passed(verdict: Mapping[str, Any]) -> list[str]:
    return [
        f"{row['outcome']} {row['check']}: {described(row)}"
        for row in verdict["findings"]
        if row["outcome"] != "PASS"
    ]


def complaints(verdict: Mapping[str, Any]) -> Iterator[str]:
    """Say in which way a verdict is not the one that its file declares."""
    row, findings = declared(Path(verdict["path"])), verdict["findings"]
    failed = [finding for finding in findings if finding["outcome"] == "FAIL"]
    if {finding["check"] for finding in failed} != set(row["x-fails"]):
        yield f"expected just {row['x-fails']} to fail"
    if any(finding["outcome"] == "INCONCLUSIVE" for finding in findings):
        yield "expected a clear answer from each check"
    if not any(re.search(row["x-says"], described(finding)) for finding in failed):
        yield f"expected a finding that says {row['x-says']!r}"


@pytest.mark.slow
@pytest.mark.usefixtures("alone")
def test_each_broken_subject_fails_on_its_own_mistake_and_on_nothing_else(tmp_path: Path) -> None:
    code, verdicts = run_all(tmp_path)
    wrong = {
        verdict["scenario"]: (what, not_passed(verdict))
        for verdict in verdicts
        if (what := list(complaints(verdict)))
    }
    assert not wrong, json.dumps(wrong, indent=2)
    assert code == 1


@pytest.mark.slow
@pytest.mark.usefixtures("alone")
def test_the_reference_peers_pass_what_the_broken_subjects_fail(tmp_path: Path) -> None:
    code, verdicts = run_all(tmp_path, "--client", "reference", "--server", "reference")
    wrong = {row["scenario"]: not_passed(row) for row in verdicts if row["outcome"] != "PASS"}
    assert not wrong, json.dumps(wrong, indent=2)
    assert code == 0
