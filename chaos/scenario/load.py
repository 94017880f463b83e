"""Turns the text of a scenario file into scenarios, one per matrix cell.

A file is taken whole or not at all: where something is wrong, every mistake is raised at once, each with its place.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from chaos.errors import InvalidScenario, Mistake
from chaos.scenario.describe import keys_of
from chaos.scenario.entries import Parsed, parse_entry, parse_expectation
from chaos.scenario.model import Client, Scenario, Server, Workload
from chaos.scenario.nodes import Mapping, Mistakes, Node, Scalar, Sequence, descend, drop_empty
from chaos.scenario.problems import find_problems
from chaos.scenario.read import read_text
from chaos.scenario.rules import Problem
from chaos.scenario.settings import parse_settings, unknown_key
from chaos.scenario.trace_files import ReadFile, no_file, read_traces
from chaos.scenario.variables import Cell, fill, read_cells
from chaos.scenario.warnings import find_warnings
from chaos.vocabulary.base import Settings

_SECTIONS = ("server", "client", "workload", "timeline", "expect")
_OURS = ("cell", "path")
_PLACEHOLDERS = {"version": 1, "name": "unnamed", "duration": "720h"}
_HINTS: dict[type[Settings], dict[str, str]] = {
    Server: {},
    Client: {"url": "`url` in `server`: the client is given the address of the link"},
}


def load_text(
    text: str | bytes, path: str, *, read_file: ReadFile = no_file, is_judged: bool = False
) -> tuple[Scenario, ...]:
    """Return the scenarios of a text, one per matrix cell; `path` names it in messages.

    `read_file` reads the files that it names; by default there are none. With `is_judged` it must expect something:
    what is only played need not. Raises InvalidScenario with every mistake in it.
    """
    return _load(text, path, read_file, is_judged=is_judged)[0]


def load_with_warnings(
    text: str | bytes, path: str, *, read_file: ReadFile = no_file
) -> tuple[tuple[Scenario, ...], tuple[Mistake, ...]]:
    """Return the scenarios of a text that is to be judged, and what in it is valid and cannot work.

    Raises InvalidScenario as `load_text` does.
    """
    return _load(text, path, read_file, is_judged=True)


def _load(
    text: str | bytes, path: str, read_file: ReadFile, *, is_judged: bool
) -> tuple[tuple[Scenario, ...], tuple[Mistake, ...]]:
    root = read_text(text, path)
    mistakes = Mistakes(path)
    if not isinstance(root, Mapping):
        mistakes.refuse(
            root.mark,
            "a scenario must be a mapping",
            value=root,
            expected="`key: value` pairs, the first `version: 1`",
        )
    if is_judged:
        _require_expectations(root, mistakes)
    cells = read_cells(root, mistakes)
    loaded = [_load_cell(root, cell, path, read_file, warn=is_judged) for cell in cells]
    found = _merge_mistakes(mistakes.sorted(), cells, [row.mistakes for row in loaded])
    if found:
        raise InvalidScenario(found)
    warnings = _merge_mistakes((), cells, [row.warnings for row in loaded])
    return tuple(row.scenario for row in loaded if row.scenario is not None), warnings


@dataclass(frozen=True, slots=True, kw_only=True)
class _LoadedCell:
    """What became of one cell: its scenario unless there are mistakes, and then its warnings."""

    scenario: Scenario | None = None
    mistakes: tuple[Mistake, ...] = ()
    warnings: tuple[Mistake, ...] = ()


def _require_expectations(root: Mapping, mistakes: Mistakes) -> None:
    """Refuse a scenario that expects nothing: it would pass whatever happens."""
    node = drop_empty(root.values.get("expect"))
    if node is None or (isinstance(node, Sequence) and not node.items):
        mistakes.add(
            root.keys.get("expect", root.mark),
            "the scenario expects nothing: it could not fail",
            expected="at least one check in `expect`, such as `- reconnects: {within: 20s}`",
        )


def _merge_mistakes(
    common: tuple[Mistake, ...], cells: list[Cell], each: list[tuple[Mistake, ...]]
) -> tuple[Mistake, ...]:
    """Return the mistakes of all cells, each once; those of some cells only say of which."""
    where: dict[Mistake, list[str]] = {mistake: [] for mistake in common}
    for cell, mistakes in zip(cells, each, strict=True):
        for mistake in mistakes:
            where.setdefault(mistake, []).append(cell.name)
    found: dict[tuple[int, int, str], Mistake] = {}
    for mistake, names in where.items():
        # a place that is known already has the same mistake with another cell's value
        if 0 < len(names) < len(cells):
            told = replace(mistake, message=f"{mistake.message} (in cell {names[0][:80]})")
        else:
            told = mistake
        found.setdefault((mistake.line, mistake.column, mistake.message), told)
    return tuple(sorted(found.values(), key=lambda m: (m.line, m.column, m.message)))


@dataclass(frozen=True, slots=True, kw_only=True)
class _Parts:
    """What was parsed of one cell, where its entries and expectations stand, and which sections are wrong."""

    root: Mapping
    scenario: Scenario
    entries: list[Parsed]
    expectations: list[Parsed]
    wrong: frozenset[str]


def _load_cell(
    root: Mapping, cell: Cell, path: str, read_file: ReadFile, *, warn: bool
) -> _LoadedCell:
    mistakes = Mistakes(path)
    values = {
        key: value
        if key in ("variables", "matrix") or key.startswith("x-")
        else fill(value, cell, mistakes)
        for key, value in root.values.items()
    }
    if "paths" in values:
        values["paths"] = read_traces(values["paths"], read_file, mistakes)
    parts = _parse(replace(root, values=values), cell, path, mistakes)
    if parts is None:
        return _LoadedCell(mistakes=mistakes.sorted())
    broken = [parsed for parsed in parts.entries if parsed.value is None]
    names = frozenset(parsed.name for parsed in broken if parsed.name is not None)
    for problem in find_problems(parts.scenario, wrong=parts.wrong, broken_names=names):
        _note_problem(problem, parts, mistakes)
    if len(mistakes):
        return _LoadedCell(mistakes=mistakes.sorted())
    warnings = Mistakes(path)
    for problem in find_warnings(parts.scenario) if warn else ():
        _note_problem(problem, parts, warnings)
    return _LoadedCell(scenario=parts.scenario, warnings=warnings.sorted())


def _parse(root: Mapping, cell: Cell, path: str, mistakes: Mistakes) -> _Parts | None:
    """Return what could be parsed; None where the top of the file is too wrong for anything to be judged."""
    wrong: set[str] = set()
    sections: dict[str, Any] = {}
    for name, parse in _PARSERS.items():
        before = len(mistakes)
        sections[name] = parse(root, mistakes)
        if len(mistakes) > before:
            wrong.add(name)
    entries = [parse_entry(item, mistakes) for item in _items_of(root, "timeline", mistakes)]
    expectations = [
        parse_expectation(item, mistakes) for item in _items_of(root, "expect", mistakes)
    ]
    top: Scenario | None = sections.pop("top")
    if top is None:
        return None
    sections |= {"cell": cell.name, "path": path}
    for name, rows in (("timeline", entries), ("expect", expectations)):
        sections[name] = tuple(parsed.value for parsed in rows if parsed.value is not None)
    if len(sections["timeline"]) < len(entries):
        wrong.add("timeline")
    return _Parts(
        root=root,
        scenario=top.model_copy(update=sections),
        entries=entries,
        expectations=expectations,
        wrong=frozenset(wrong),
    )


def top_keys() -> list[str]:
    """Return the keys that may stand at the top of a file."""
    return [*(key for key in keys_of(Scenario) if key not in _OURS), "variables", "matrix"]


def _parse_top(root: Mapping, mistakes: Mistakes) -> Scenario | None:
    known = top_keys()
    for key, mark, _ in root.modelled():
        if key not in known:
            unknown_key(mistakes, mark, key, "the scenario", known)
    surface = root.only({*known} - {*_SECTIONS, "variables", "matrix"})
    return parse_settings(
        surface, Scenario, mistakes, what="the scenario", placeholders=_PLACEHOLDERS
    )


def _parse_subject(
    root: Mapping, mistakes: Mistakes, *, name: str, model: type[Server] | type[Client]
) -> Server | Client:
    node = drop_empty(root.values.get(name))
    found: Server | Client | None = None
    if node is not None:
        found = parse_settings(node, model, mistakes, what=f"`{name}`", hints=_HINTS[model])
    if found is None:
        return model.model_validate({"use": "reference"})
    if found.use is None and found.command is None and getattr(found, "url", None) is None:
        return found.model_copy(update={"use": "reference"})
    return found


def _parse_workload(root: Mapping, mistakes: Mistakes) -> tuple[Workload, ...]:
    items = _items_of(root, "workload", mistakes)
    rows = [parse_settings(item, Workload, mistakes, what="`workload`") for item in items]
    return tuple(row for row in rows if row is not None)


_PARSERS: dict[str, Callable[[Mapping, Mistakes], Any]] = {
    "top": _parse_top,
    "server": partial(_parse_subject, name="server", model=Server),
    "client": partial(_parse_subject, name="client", model=Client),
    "workload": _parse_workload,
}


def _items_of(root: Mapping, key: str, mistakes: Mistakes) -> tuple[Node, ...]:
    node = drop_empty(root.values.get(key))
    if isinstance(node, Sequence):
        return node.items
    if node is not None:
        mistakes.add(
            node.mark, f"`{key}` must be a list", value=node, expected="items that start with `- `"
        )
    return ()


def _note_problem(problem: Problem, parts: _Parts, mistakes: Mistakes) -> None:
    """Note a problem at the place where its value stands, or as close above it as there is something."""
    path = list(problem.where)
    node: Node = parts.root
    rows = {"timeline": parts.entries, "expect": parts.expectations}.get(str(path[0]))
    if rows is not None:
        section, position = path.pop(0), int(path.pop(0))
        row = [row for row in rows if row.value is not None][position]
        inner = section == "expect" and path and isinstance(row.parameters, Mapping)
        node = row.parameters if inner else row.node
    node, is_whole = descend(node, path)
    mistakes.add(
        node.mark,
        problem.message,
        value=node if is_whole and path and isinstance(node, Scalar) else None,
        expected=problem.expected,
        nearest=problem.nearest,
    )
