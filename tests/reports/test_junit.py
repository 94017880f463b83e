"""JUnit XML that every reader can parse."""

from __future__ import annotations

from xml.etree import ElementTree as ET

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chaos.checks.verdict import Finding, Outcome, Verdict
from chaos.errors import Mistake, one_line
from chaos.reports.junit import render_junit


def verdict(outcome: Outcome, reason: str = "because", **more: object) -> Verdict:
    finding = Finding(
        check="backoff", outcome=outcome, reason=reason, evidence=("1.0 s: cause",), line=9
    )
    rows = {"scenario": "a[b=1]", "path": "dir/a.yaml", "network": "simulated", "seed": 3}
    return Verdict(
        **{**rows, "outcome": outcome, "findings": (finding,), "duration_s": 1.5, **more}
    )  # type: ignore[arg-type]


def test_each_scenario_is_a_case_and_each_invalid_file_an_error():
    verdicts = [verdict(outcome) for outcome in Outcome]
    mistakes = [Mistake("bad.yaml", 2, 3, "unknown key"), Mistake("bad.yaml", 5, 1, "no name")]
    root = ET.fromstring(render_junit(verdicts, mistakes).encode())
    suite = root.find("testsuite")
    assert suite is not None
    assert {key: suite.get(key) for key in ("tests", "failures", "errors", "skipped", "time")} == {
        "tests": "5", "failures": "1", "errors": "2", "skipped": "1", "time": "6.000",
    }  # fmt: skip
    cases = suite.findall("testcase")
    assert [(case.get("classname"), case.get("name")) for case in cases] == [
        *[("a", "a[b=1]")] * 4,
        ("bad", "bad.yaml"),
    ]
    kinds = [[child.tag for child in case if child.tag != "properties"] for case in cases]
    assert kinds == [[], ["failure"], ["error"], ["skipped"], ["error"]]
    failure = cases[1].find("failure")
    assert failure is not None
    assert failure.get("message") == "because"
    assert failure.text == "backoff: because\n  1.0 s: cause"
    assert cases[1].get("line") == "9"
    assert (cases[4].find("error").text or "").splitlines() == [  # type: ignore[union-attr]
        "bad.yaml:2:3: unknown key",
        "bad.yaml:5:1: no name",
    ]


def test_warnings_are_kept():
    root = ET.fromstring(render_junit([verdict(Outcome.PASS, warnings=("late", "more"))]))
    assert root.findtext(".//system-err") == "late\nmore"


@pytest.mark.parametrize(
    "character", ["\x00", "\x1b", "\x0b", "\x9b", "\u202e", "\ufffe", "\ud800"]
)
def test_characters_that_xml_forbids_are_escaped(character):
    text = render_junit([verdict(Outcome.FAIL, f"a{character}b", scenario=f"n{character}")])
    root = ET.fromstring(text.encode())
    assert root.find(".//failure").get("message") == f"a{one_line(character)}b"  # type: ignore[union-attr]


@given(st.text(alphabet=st.characters(exclude_categories=())))
def test_any_text_gives_well_formed_xml(text):
    rendered = render_junit([verdict(Outcome.FAIL, text, scenario=text, path=text)], name=text)
    ET.fromstring(rendered.encode())
