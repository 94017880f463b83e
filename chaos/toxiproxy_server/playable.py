"""From a scenario to what a proxy can play: its timeline, or every reason why it cannot be played."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, get_args

from chaos.errors import InvalidScenario, Mistake, UsageError
from chaos.scenario.load import load_text
from chaos.scenario.model import Scenario, Trigger
from chaos.scenario.nodes import Mapping, Mistakes, Node, Scalar, Sequence
from chaos.scenario.read import read_text
from chaos.vocabulary.faults import FAULTS

CELLS_SHOWN = 12
SEEN_EVENT = "attempt"  # a client connects: all that a proxy sees of what peers do
REFUSED_KEYS = ("clients",)
_SIMULATED = "toxics and faults of streams; what acts below sockets needs `--network simulated`"
# what stands before the entries where they come as JSON: their line tells which they are
_LINES_BEFORE = 4


def read_playable(
    text: str | bytes, path: str, *, cell: str | None = None, hint: str = "`cell`"
) -> Scenario:
    """Return a scenario whose timeline a proxy can play.

    Messages call the text `path` and the choice of a cell `hint`. No other file is read. Raises InvalidScenario with
    every entry that a proxy cannot play, and UsageError when the text has a matrix and `cell` is none of its cells.
    """
    root = read_text(text, path)
    mistakes = Mistakes(path)
    if isinstance(root, Mapping):
        if "paths" in root.keys:
            mistakes.add(root.keys["paths"], "a proxy cannot play `paths`", expected=_SIMULATED)
        _refuse_entries(root, mistakes)
    # before it is loaded: `paths` may name files of this machine
    if len(mistakes):
        raise InvalidScenario(mistakes.sorted())
    scenario = _choose(load_text(text, path), path, cell, hint)
    _refuse_filled(root, scenario, mistakes)
    if len(mistakes):
        raise InvalidScenario(mistakes.sorted())
    return scenario


def from_rows(rows: list[Any], duration: Any) -> Scenario:
    """Return the scenario of timeline entries that came as JSON. Raises as `read_playable`, with entries counted."""
    lines = [json.dumps(row, ensure_ascii=False) for row in rows]
    head = (
        f'{{"version": 1,\n"name": "timeline",\n"duration": {json.dumps(duration)},\n"timeline": ['
    )
    try:
        return read_playable(head + "\n" + ",\n".join(lines) + "\n]}", "timeline")
    except InvalidScenario as error:
        raise UsageError("\n".join(_counted(mistake) for mistake in error.mistakes)) from None


def _counted(mistake: Mistake) -> str:
    """Return a mistake with the number of its entry in place of a line that nobody wrote."""
    number = mistake.line - _LINES_BEFORE
    place = f"timeline[{number - 1}]" if number >= 1 else "the timeline"
    tail = str(mistake).partition(f"{mistake.line}:{mistake.column}: ")[2]
    return f"{place}: {tail}"


def _choose(scenarios: tuple[Scenario, ...], path: str, cell: str | None, hint: str) -> Scenario:
    names = [scenario.cell for scenario in scenarios]
    if cell is None and len(scenarios) == 1:
        return scenarios[0]
    if cell in names:
        return scenarios[names.index(cell)]
    shown = ", ".join(names[:CELLS_SHOWN]) + (", …" if len(names) > CELLS_SHOWN else "")
    if names == [""]:
        raise UsageError(f"{path} has no matrix, expected no {hint}, got {cell}")
    got = "none" if cell is None else cell
    raise UsageError(
        f"{path} has a matrix, expected {hint} to be one of its cells ({shown}), got {got}"
    )


def _entries(root: Node) -> Iterator[Mapping]:
    """Yield the entries of a timeline as far as they are entries; what is not is told by the loader."""
    timeline = root.values.get("timeline") if isinstance(root, Mapping) else None
    if isinstance(timeline, Sequence):
        yield from (item for item in timeline.items if isinstance(item, Mapping))


def _refuse_entries(root: Mapping, mistakes: Mistakes) -> None:
    for item in _entries(root):
        _refuse_keys(item, mistakes)
        word = item.values.get("fault")
        if isinstance(word, Scalar):
            _refuse_path_fault(word.text, word, mistakes)


def _refuse_filled(root: Node, scenario: Scenario, mistakes: Mistakes) -> None:
    """Look again at words that came from variables."""
    for item, entry in zip(_entries(root), scenario.timeline, strict=True):
        if entry.on is not None:
            _refuse_event(entry.on.event, item.values["on"], mistakes)
        if entry.kind == "fault":
            _refuse_path_fault(entry.word, item.values["fault"], mistakes)


def _refuse_keys(item: Mapping, mistakes: Mistakes) -> None:
    if "action" in item.keys and "fault" not in item.keys:
        mistakes.add(
            item.keys["action"],
            "a proxy cannot play an action: peers act, not the network",
            value=item.values["action"],
            expected="`toxic` or `fault`",
        )
    on = item.values.get("on")
    event = on.values.get("event") if isinstance(on, Mapping) else None
    # a variable's value is looked at once it is filled in; what is no event is told by the loader
    if isinstance(event, Scalar) and "${" not in event.text:
        _refuse_event(event.text, event, mistakes)
    if "clients" in item.keys:
        mistakes.add(
            item.keys["clients"],
            "a proxy cannot tell clients apart",
            expected="`toxicity` for a share of the connections",
        )


def _refuse_event(event: str, node: Node, mistakes: Mistakes) -> None:
    if event in get_args(Trigger.model_fields["event"].annotation) and event != SEEN_EVENT:
        mistakes.add(
            node.mark,
            f"a proxy cannot wait for `{event}`: it sees clients connect, not what peers do",
            expected=f"`event: {SEEN_EVENT}`, or `at`",
        )


def _refuse_path_fault(word: str, node: Node, mistakes: Mistakes) -> None:
    if word in FAULTS and FAULTS[word].on_path:
        mistakes.add(node.mark, f"a proxy cannot play `{word}`", expected=_SIMULATED)
