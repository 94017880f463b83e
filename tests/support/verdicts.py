"""What tests read off verdicts as `--json` gives them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from chaos.checks.verdict import Verdict

# beside other work on the machine so many of the runs must come to something all the same
JUDGED_MIN = 0.9


def was_late(verdict: Mapping[str, Any]) -> bool:
    """Tell whether a run came to nothing since the machine was too busy for it: that says nothing about a subject."""
    return Verdict.from_json(verdict).was_late
