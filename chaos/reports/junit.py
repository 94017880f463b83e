"""Renders a run as JUnit XML, for CI systems: one suite per run, one test case per scenario.

A failure becomes `<failure>`, an inconclusive scenario and an invalid file `<error>`, a skipped one `<skipped>`: the
elements that every reader of the format knows (https://github.com/testmoapp/junitxml).
"""

from __future__ import annotations

from collections.abc import Sequence
from posixpath import basename, splitext
from xml.etree import ElementTree as ET  # written here, never parsed

from chaos.checks.verdict import Finding, Outcome, Verdict
from chaos.errors import Mistake, bounded, escaped

_ELEMENTS = {
    Outcome.FAIL: "failure",
    Outcome.INCONCLUSIVE: "error",
    Outcome.SKIPPED: "skipped",
}


def clean(text: str) -> str:
    """Return the text as XML 1.0 may hold it and as people may read it: unprintable characters are escaped.

    Those that XML forbids even as references are unprintable all (https://www.w3.org/TR/xml/#charsets).
    """
    return escaped(text)


def render_junit(
    verdicts: Sequence[Verdict], mistakes: Sequence[Mistake] = (), *, name: str = "trio-chaos"
) -> str:
    """Return JUnit XML; `time` is scenario time in seconds (virtual on the simulated network)."""
    paths = list(dict.fromkeys(mistake.path for mistake in mistakes))
    counts = {outcome: sum(v.outcome is outcome for v in verdicts) for outcome in Outcome}
    seconds = sum(verdict.duration_s for verdict in verdicts)
    totals = {
        "tests": str(len(verdicts) + len(paths)),
        "failures": str(counts[Outcome.FAIL]),
        "errors": str(counts[Outcome.INCONCLUSIVE] + len(paths)),
        "skipped": str(counts[Outcome.SKIPPED]),
        "time": f"{seconds:.3f}",
    }
    root = ET.Element("testsuites", {"name": clean(name), **totals})
    suite = ET.SubElement(root, "testsuite", {"name": clean(name), **totals})
    for verdict in verdicts:
        _add_verdict(suite, verdict)
    for path in paths:
        _add_invalid(suite, path, [mistake for mistake in mistakes if mistake.path == path])
    ET.indent(root)
    return f'<?xml version="1.0" encoding="utf-8"?>\n{ET.tostring(root, encoding="unicode")}\n'


def _class_name(path: str) -> str:
    return clean(splitext(basename(path))[0]) or "scenario"


def _add_verdict(suite: ET.Element, verdict: Verdict) -> None:
    attributes = {
        "classname": _class_name(verdict.path),
        "name": clean(verdict.scenario),
        "time": f"{verdict.duration_s:.3f}",
    }
    deciding = verdict.deciding()
    lines = [finding.line for finding in deciding if finding.line]
    if verdict.path:
        attributes["file"] = clean(verdict.path)
    if lines:
        attributes["line"] = str(lines[0])
    case = ET.SubElement(suite, "testcase", attributes)
    properties = ET.SubElement(case, "properties")
    for key, value in (("network", verdict.network), ("seed", str(verdict.seed))):
        ET.SubElement(properties, "property", {"name": key, "value": clean(value)})
    element = _ELEMENTS.get(verdict.outcome)
    if element is not None:
        word = verdict.outcome.value
        detail = {"message": clean(bounded(deciding[0].reason if deciding else word))}
        if element != "skipped":
            detail["type"] = clean(deciding[0].check if deciding else word)
        ET.SubElement(case, element, detail).text = clean("\n".join(map(_text, deciding)))
    if verdict.warnings:
        ET.SubElement(case, "system-err").text = clean("\n".join(map(bounded, verdict.warnings)))


def _text(finding: Finding) -> str:
    return "\n  ".join(map(bounded, (f"{finding.check}: {finding.reason}", *finding.evidence)))


def _add_invalid(suite: ET.Element, path: str, mistakes: Sequence[Mistake]) -> None:
    attributes = {"classname": _class_name(path), "name": clean(path), "file": clean(path)}
    case = ET.SubElement(suite, "testcase", {**attributes, "line": str(mistakes[0].line)})
    detail = {"message": clean(bounded(mistakes[0].message)), "type": "InvalidScenario"}
    ET.SubElement(case, "error", detail).text = clean("\n".join(map(str, mistakes)))
