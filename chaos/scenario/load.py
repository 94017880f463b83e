"""Scenario files in, scenarios out: one per matrix cell, or every mistake of the file at once."""

from __future__ import annotations

from collections.abc import Mapping as Map
from dataclasses import dataclass, replace
from typing import Any

from chaos.errors import InvalidScenario, Mistake
from chaos.scenario.describe import keys_of
from chaos.scenario.entries import Parsed, parse_entry, parse_expectation
from chaos.scenario.model import Client, Entry, Expectation, Scenario, Server, Workload
from chaos.scenario.nodes import Mapping, Mark, Mistakes, Node, Scalar, Sequence
from chaos.scenario.problems import find_problems
from chaos.scenario.read import read_text
from chaos.scenario.rules import Problem
from chaos.scenario.settings import parse_settings, unknown_key
from chaos.scenario.trace_files import ReadFile, no_file, read_traces
from chaos.scenario.variables import Cell, fill, read_cells

_SECTIONS = ("server", "client", "workload", "timeline", "expect")
_OURS = ("cell", "path")
_PLACEHOLDERS = {"version": 1, "name": "unnamed", "duration": "720h"}
_CLIENT_HINTS = {"url": "`url` in `server`: the client is given the address of the link"}


def load_text(
    text: str | bytes, path: str, *, read_file: ReadFile = no_file
) -> tuple[Scenario, ...]:
    """Return the scenarios of a text, one per matrix cell; `path` names it in messages.

    `read_file` reads the files that it names; by default there are none. Raises InvalidScenario with every mistake
    in it.
    """
    root = read_text(text, path)
    mistakes = Mistakes(path)
    if not isinstance(root, Mapping):
        expected = "`key: value` pairs, the first `version: 1`"
        mistakes.add(root.mark, "a scenario must be a mapping", value=root, expected=expected)
        raise InvalidScenario(mistakes.sorted())
    cells = read_cells(root, mistakes)
    loaded = [_load_cell(root, cell, path, read_file) for cell in cells]
    found = _merge(mistakes.sorted(), cells, [mine for _, mine in loaded])
    if found:
        raise InvalidScenario(found)
    return tuple(scenario for scenario, _ in loaded if scenario is not None)


def _merge(
    common: tuple[Mistake, ...], cells: list[Cell], each: list[tuple[Mistake, ...]]
) -> tuple[Mistake, ...]:
    """Return the mistakes of all cells, each once; those of some cells only say of which."""
    where: dict[Mistake, list[str]] = {mistake: [] for mistake in common}
    for cell, mistakes in zip(cells, each, strict=True):
        for mistake in mistakes:
            where.setdefault(mistake, []).append(cell.name)
    found: dict[Mistake, None] = {}
    places: set[tuple[int, int, str]] = set()
    for mistake, names in where.items():
        place = (mistake.line, mistake.column, mistake.message)
        if place in places:
            continue  # the same mistake with another cell's value
        places.add(place)
        some = 0 < len(names) < len(cells)
        tail = f" (in cell {names[0][:80]})" if some else ""
        found[replace(mistake, message=mistake.message + tail)] = None
    return tuple(sorted(found, key=lambda m: (m.line, m.column, m.message)))


@dataclass(frozen=True, slots=True, kw_only=True)
class _Parts:
    """What was parsed of one cell, and where its entries and expectations stand."""

    root: Mapping
    scenario: Scenario
    entries: list[Parsed]
    expectations: list[Parsed]


def _load_cell(
    root: Mapping, cell: Cell, path: str, read_file: ReadFile
) -> tuple[Scenario | None, tuple[Mistake, ...]]:
    mistakes = Mistakes(path)
    values = {
        key: value
        if key in ("variables", "matrix") or key.startswith("x-")
        else fill(value, cell, mistakes)
        for key, value in root.values.items()
    }
    if "paths" in values:
        values["paths"] = read_traces(values["paths"], read_file, mistakes)
    parts, wrong = _parse(replace(root, values=values), cell, path, mistakes)
    if parts is not None:
        for problem in _problems(parts, wrong):
            _note(problem, parts, mistakes)
    return (None if len(mistakes) else parts.scenario if parts else None), mistakes.sorted()


def _parse(
    root: Mapping, cell: Cell, path: str, mistakes: Mistakes
) -> tuple[_Parts | None, set[str]]:
    """Return what could be parsed, and the names of the sections that have mistakes."""
    wrong: set[str] = set()
    before = len(mistakes)
    top = _parse_top(root, mistakes)
    if len(mistakes) > before:
        wrong.add("top")
    sections: dict[str, Any] = {}
    for name in ("server", "client"):
        before = len(mistakes)
        sections[name] = _parse_subject(root, name, mistakes)
        if len(mistakes) > before:
            wrong.add(name)
    before = len(mistakes)
    sections["workload"] = tuple(
        row
        for item in _items(root, "workload", mistakes)
        if (row := parse_settings(item, Workload, mistakes, what="`workload`")) is not None
    )
    if len(mistakes) > before:
        wrong.add("workload")
    entries = [parse_entry(item, mistakes) for item in _items(root, "timeline", mistakes)]
    expectations = [parse_expectation(item, mistakes) for item in _items(root, "expect", mistakes)]
    if top is None:
        return None, wrong
    good = [parsed.value for parsed in entries if isinstance(parsed.value, Entry)]
    wanted = [parsed.value for parsed in expectations if isinstance(parsed.value, Expectation)]
    scenario = top.model_copy(
        update={
            **sections,
            "timeline": tuple(good),
            "expect": tuple(wanted),
            "cell": cell.name,
            "path": path,
        }
    )
    parts = _Parts(root=root, scenario=scenario, entries=entries, expectations=expectations)
    return parts, wrong


def top_keys() -> list[str]:
    """Return the keys that may stand at the top of a file."""
    return [*(key for key in keys_of(Scenario) if key not in _OURS), "variables", "matrix"]


def _parse_top(root: Mapping, mistakes: Mistakes) -> Scenario | None:
    known = top_keys()
    keys: dict[str, Mark] = {}
    for key, mark, _ in root.modelled():
        if key not in known:
            unknown_key(mistakes, mark, key, "the scenario", known)
        elif key not in _SECTIONS and key not in ("variables", "matrix"):
            keys[key] = mark
    values = {key: root.values[key] for key in keys}
    surface = Mapping(mark=root.mark, keys=keys, values=values)
    return parse_settings(
        surface, Scenario, mistakes, what="the scenario", placeholders=_PLACEHOLDERS
    )


def _parse_subject(root: Mapping, name: str, mistakes: Mistakes) -> Server | Client:
    model: type[Server] | type[Client] = Server if name == "server" else Client
    node = root.values.get(name)
    hints: Map[str, str] = _CLIENT_HINTS if name == "client" else {}
    if node is None or (isinstance(node, Scalar) and node.value is None):
        found = None
    else:
        found = parse_settings(node, model, mistakes, what=f"`{name}`", hints=hints)
    if found is None:
        return model.model_validate({"use": "reference"})
    if found.use is None and found.command is None and getattr(found, "url", None) is None:
        return found.model_copy(update={"use": "reference"})
    return found


def _items(root: Mapping, key: str, mistakes: Mistakes) -> tuple[Node, ...]:
    node = root.values.get(key)
    if node is None or (isinstance(node, Scalar) and node.value is None):
        return ()
    if isinstance(node, Sequence):
        return node.items
    mistakes.add(
        node.mark, f"`{key}` must be a list", value=node, expected="items that start with `- `"
    )
    return ()


def _problems(parts: _Parts, wrong: set[str]) -> list[Problem]:
    broken = [parsed for parsed in parts.entries if parsed.value is None]
    names = frozenset(parsed.name for parsed in broken if parsed.name is not None)
    return find_problems(
        parts.scenario,
        wrong=frozenset(wrong | ({"timeline"} if broken else set())),
        broken_names=names,
    )


def _note(problem: Problem, parts: _Parts, mistakes: Mistakes) -> None:
    """Note a problem at the place where its value stands, or as close above it as there is something."""
    section, *rest = problem.where
    node: Node = parts.root
    mark = node.mark
    if section in ("timeline", "expect"):
        parsed = parts.entries if section == "timeline" else parts.expectations
        good = [item for item in parsed if item.value is not None]
        item = good[int(rest.pop(0))]
        node, mark = item.node, item.node.mark
        if section == "expect" and isinstance(item.parameters, Mapping) and rest:
            node, mark = item.parameters, item.parameters.mark
    else:
        rest = list(problem.where)
    found = True
    for part in rest:
        if isinstance(node, Mapping) and part in node.values:
            node = node.values[str(part)]
        elif isinstance(node, Sequence) and isinstance(part, int) and part < len(node.items):
            node = node.items[part]
        else:
            found = False
            break
        mark = node.mark
    value = node if found and rest and isinstance(node, Scalar) else None
    mistakes.add(
        mark, problem.message, value=value, expected=problem.expected, nearest=problem.nearest
    )
