"""Reads the scenario that a trace carries. A trace may come from anywhere, and from a release with other words.

What a scenario file must obey, beyond its single values, need not hold of the scenario of a run any more: a seed has
varied it, and a subject cannot send all that it asks for. What checks and a replay rely on must.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, get_args

from pydantic import ValidationError

from chaos.errors import one_line, shortened
from chaos.scenario.model import Scenario
from chaos.scenario.nodes import nearest_name
from chaos.scenario.overlaps import STEPS_MAX, count_steps
from chaos.scenario.problems import NEEDED_RULES, find_problems
from chaos.trace import Trace
from chaos.vocabulary.checks import CHECKS
from chaos.vocabulary.word import Network
from chaos.vocabulary.words import WORDS


def read_scenario(trace: Trace) -> Scenario:
    """Return the scenario of a trace.

    Raises:
        ValueError: it is none, or the events speak of what it does not have.
    """
    header = trace.header
    if header.network not in get_args(Network):
        known = ", ".join(get_args(Network))
        raise ValueError(f"its network is {shortened(repr(header.network))}; expected {known}")
    try:
        scenario = Scenario.from_json(header.scenario)
        mistake = next(_mistakes(scenario), None)
    except ValidationError as error:
        raise ValueError(f"its scenario is none of this release: {_first_of(error)}") from error
    except RecursionError as error:
        raise ValueError("its scenario is nested too deeply") from error
    if mistake is not None:
        raise ValueError(f"its scenario is none of this release: {mistake}")
    entries = len(scenario.timeline)
    for number, event in enumerate(trace.events, start=1):
        if event.kind in ("apply", "felt") and event["entry"] >= entries:
            raise ValueError(
                f"event {number} speaks of timeline entry {event['entry']}; there are {entries}"
            )
    return scenario


def _first_of(error: ValidationError) -> str:
    """Return the first of pydantic's errors in one line, and how many more there are."""
    first, *more = error.errors(include_url=False, include_context=False, include_input=False)
    where = ".".join(str(part) for part in first["loc"]) or "the top"
    rest = f" and {len(more)} more" if more else ""
    return one_line(f"{shortened(where)}: {shortened(first['msg'])}{rest}")


def _mistakes(scenario: Scenario) -> Iterator[str]:
    """Yield what a run or a judgement could not cope with. Raises ValidationError for wrong parameters."""
    for position, entry in enumerate(scenario.timeline):
        if entry.word not in WORDS[entry.kind]:
            yield _unknown(f"timeline.{position}", entry.word, WORDS[entry.kind])
            return
        entry.settings()
    for position, row in enumerate(scenario.expect):
        if row.use is None and row.check not in CHECKS:
            yield _unknown(f"expect.{position}", row.check, CHECKS)
            return
        if row.use is None:
            CHECKS[row.check].model_validate(row.parameters)
    if count_steps(scenario) > STEPS_MAX:
        yield f"its timeline has more than {STEPS_MAX} steps"
    for problem in find_problems(scenario, rules=NEEDED_RULES):
        where = ".".join(str(part) for part in problem.where)
        yield one_line(f"{shortened(where)}: {problem.message}")


def _unknown(where: str, word: str, known: Mapping[str, Any]) -> str:
    near = nearest_name(word[:80], known)
    hint = f"; did you mean {near}?" if near else ""
    return f"{where}: {shortened(repr(word))} is unknown{hint}"
