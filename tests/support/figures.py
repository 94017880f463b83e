"""What a finding says without its words: they are held in `wording.txt`, and tests elsewhere compare figures."""

from __future__ import annotations

import re

from chaos.checks.verdict import Finding

_FIGURE = re.compile(r"\d+(?:\.\d+)?")
_RULE = re.compile(r"RFC \d+ §[\d.]+")


def numbers(text: str) -> tuple[float, ...]:
    """Return the numbers in a text, in their order, those of an RFC's sections apart."""
    return tuple(float(number) for number in _FIGURE.findall(_RULE.sub("", text)))


def figures(finding: Finding) -> tuple[str | float, ...]:
    """Return a finding's outcome and then the numbers of its reason: who, how many, when, the bound."""
    return (finding.outcome.value, *numbers(finding.reason))
