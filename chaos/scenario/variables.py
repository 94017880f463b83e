"""Fills in variables: `${name}` becomes its value, in one scenario for each cell of the matrix."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from collections.abc import Mapping as Map
from dataclasses import dataclass, replace
from itertools import islice, product

from chaos.scenario.nodes import (
    Mapping,
    Mark,
    Mistakes,
    Node,
    Scalar,
    Sequence,
    drop_empty,
    nearest_word,
)

CELLS_MAX = 256
# cells times values of the file: the limit of what one file may cost to load
WORK_MAX = 200_000
LENGTH_MAX = 8_192
_REFERENCE = re.compile(r"\$(\$?)\{([^{}]*)\}")
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_-]*")
_NAME_EXPECTED = "letters, digits, `_` and `-`, first a letter"


@dataclass(frozen=True, slots=True)
class Cell:
    """One cell of a matrix: its name (`beat=5s,size=64`, empty without a matrix) and its variables."""

    name: str
    variables: Map[str, Scalar]
    # names whose value is unknown because of a mistake in it
    broken: frozenset[str] = frozenset()


def read_cells(root: Mapping, mistakes: Mistakes) -> list[Cell]:
    """Return the cells of a file, at least one; mistakes in `variables` and `matrix` are noted."""
    variables = _read_scalars(root.values.get("variables"), "variables", mistakes)
    node = root.values.get("matrix")
    rows = [] if node is None else _read_matrix(node, set(variables), mistakes)
    if node is not None and root.size * len(rows) > WORK_MAX:
        mistakes.add(
            node.mark,
            "the matrix is too large for a file of this length",
            expected=f"at most {WORK_MAX} values in all cells together",
        )
        rows = rows[:1]
    cells = [Cell(_title_of(row), {**variables, **row}) for row in rows or [{}]]
    names = _declared_names(root)
    return [
        Cell(cell.name, done := resolve(cell.variables, mistakes), frozenset(names - set(done)))
        for cell in cells
    ]


def _declared_names(root: Mapping) -> set[str]:
    """Return the names that `variables` and `matrix` declare, whatever their values."""
    names: set[str] = set()
    for section in ("variables", "matrix"):
        node = root.values.get(section)
        if isinstance(node, Mapping):
            names |= {key for key, _, _ in node.modelled()}
    return names - {"include", "exclude"}


def _title_of(row: Map[str, Scalar]) -> str:
    return ",".join(f"{name}={value.text}" for name, value in row.items())


def _read_scalars(node: Node | None, what: str, mistakes: Mistakes) -> dict[str, Scalar]:
    """Return a mapping of names to single values; what is not one is noted and left out."""
    node = drop_empty(node)
    found: dict[str, Scalar] = {}
    for key, mark, value in node.modelled() if isinstance(node, Mapping) else ():
        if not _is_name(key, mark, mistakes):
            continue
        if isinstance(value, Scalar) and value.value is not None:
            found[key] = value
        else:
            mistakes.add(
                value.mark,
                f"the variable `{key}` must be a single value",
                value=value,
                expected="text, a number, true or false",
            )
    if node is not None and not isinstance(node, Mapping):
        mistakes.add(
            node.mark, f"`{what}` must be a mapping", value=node, expected="`name: value` pairs"
        )
    return found


def _is_name(key: str, mark: Mark, mistakes: Mistakes) -> bool:
    """Tell whether a variable may have this name; note it if not."""
    good = _NAME.fullmatch(key) is not None
    if not good:
        mistakes.add(mark, "not a name for a variable", value=key[:60], expected=_NAME_EXPECTED)
    return good


def _read_matrix(node: Node, variables: set[str], mistakes: Mistakes) -> list[dict[str, Scalar]]:
    if not isinstance(node, Mapping):
        mistakes.add(
            node.mark, "`matrix` must be a mapping", value=node, expected="`name: [values]` pairs"
        )
        return []
    axes = {
        key: values
        for key, mark, value in node.modelled()
        if key not in ("include", "exclude") and _is_name(key, mark, mistakes)
        if (values := _read_axis(key, value, mistakes))
    }
    excluded = list(_read_rows(node.values.get("exclude"), "exclude", set(axes), mistakes))
    included = list(
        _read_rows(node.values.get("include"), "include", variables | set(axes), mistakes)
    )
    # one more than allowed is enough to know
    rows = (
        dict(zip(axes, values, strict=True)) for values in (product(*axes.values()) if axes else ())
    )
    kept = list(islice((row for row in rows if not _matches_any(row, excluded)), CELLS_MAX + 1))
    kept += included
    if len(kept) > CELLS_MAX:
        mistakes.add(node.mark, "the matrix has too many cells", expected=f"at most {CELLS_MAX}")
    elif not kept and not len(mistakes):
        mistakes.add(node.mark, "the matrix has no cell", expected="at least one")
    for title, count in Counter(map(_title_of, kept)).items():
        if count > 1:
            mistakes.add(node.mark, "the matrix has the same cell twice", value=title[:60])
    return kept[:CELLS_MAX]


def _read_axis(key: str, value: Node, mistakes: Mistakes) -> tuple[Scalar, ...]:
    if not isinstance(value, Sequence) or not value.items:
        mistakes.add(
            value.mark, f"`{key}` of the matrix must be a list", value=value, expected="[5s, 10s]"
        )
        return ()
    good: list[Scalar] = []
    for item in value.items:
        if not isinstance(item, Scalar) or item.value is None:
            mistakes.add(
                item.mark, f"`{key}` of the matrix holds more than single values", value=item
            )
        elif any(item.text == other.text for other in good):
            mistakes.add(item.mark, f"`{key}` of the matrix has this value twice", value=item)
        else:
            good.append(item)
    return tuple(good)


def _read_rows(
    node: Node | None, key: str, known: set[str], mistakes: Mistakes
) -> Iterator[dict[str, Scalar]]:
    if node is not None and not isinstance(node, Sequence):
        mistakes.add(
            node.mark, f"`{key}` must be a list of mappings", value=node, expected="[{beat: 5s}]"
        )
    for item in node.items if isinstance(node, Sequence) else ():
        row = _read_scalars(item, key, mistakes)
        for name in row:
            if name not in known and isinstance(item, Mapping):
                meant = nearest_word(name, known)
                mistakes.add(
                    item.keys[name], f"`{key}` names no variable", value=name, nearest=meant
                )
        if row:
            yield row


def _matches_any(row: Map[str, Scalar], patterns: list[dict[str, Scalar]]) -> bool:
    return any(
        all(name in row and row[name].text == value.text for name, value in pattern.items())
        for pattern in patterns
    )


def resolve(variables: Map[str, Scalar], mistakes: Mistakes) -> dict[str, Scalar]:
    """Return the variables with references between them filled in; those in a circle are noted and left out."""
    done: dict[str, Scalar] = {}
    broken: set[str] = set()
    for start in variables:
        stack = [start]
        while stack:
            name = stack[-1]
            known = done.keys() | broken
            waiting = [
                other
                for other in _names_in(variables[name])
                if other in variables and other not in known
            ]
            if not waiting:
                stack.pop()
                value = fill_scalar(variables[name], Cell("", done, frozenset(broken)), mistakes)
                if name not in known:
                    done[name] = value
            elif waiting[0] in stack:
                circle = " → ".join([*stack[stack.index(waiting[0]) :], waiting[0]])
                mistakes.add(
                    variables[name].mark,
                    f"variables refer to each other in a circle: {circle[:200]}",
                )
                broken.update(stack)
                stack.clear()
            else:
                stack.append(waiting[0])
    return done


def _names_in(node: Scalar) -> list[str]:
    if not isinstance(node.value, str):
        return []
    return [match[2] for match in _REFERENCE.finditer(node.value) if not match[1]]


def fill(node: Node, cell: Cell, mistakes: Mistakes) -> Node:
    """Return the node with variables filled in; unknown ones are noted. `x-…` keys are left alone."""
    if isinstance(node, Scalar):
        return fill_scalar(node, cell, mistakes)
    if isinstance(node, Sequence):
        return replace(node, items=tuple(fill(item, cell, mistakes) for item in node.items))
    return replace(
        node,
        values={
            key: value if key.startswith("x-") else fill(value, cell, mistakes)
            for key, value in node.values.items()
        },
    )


def fill_scalar(node: Scalar, cell: Cell, mistakes: Mistakes) -> Scalar:
    """Return the scalar with variables filled in: a lone `${name}` keeps the type, else it becomes text."""
    if not isinstance(node.value, str) or "${" not in node.value:
        return node
    unknown = [name for name in _names_in(node) if name not in cell.variables]
    if unknown:
        if unknown[0] not in cell.broken:
            _note_unknown(node, unknown[0], cell, mistakes)
        mistakes.silence(node.mark)
        return node
    alone = _REFERENCE.fullmatch(node.value)
    if alone and not alone[1]:
        source = cell.variables[alone[2]]
        return replace(node, value=source.value, text=source.text, template=node.text)
    text = _REFERENCE.sub(
        lambda match: match[0][1:] if match[1] else cell.variables[match[2]].text, node.value
    )
    if len(text) > LENGTH_MAX:
        mistakes.add(node.mark, "this text is too long once its variables are filled in")
        return replace(node, value="", text="")
    return replace(node, value=text, text=text, template=node.text)


def _note_unknown(node: Scalar, name: str, cell: Cell, mistakes: Mistakes) -> None:
    nearest = nearest_word(name, cell.variables)
    mistakes.add(
        node.mark,
        f"unknown variable `{name[:60]}`",
        value=node,
        expected=f"a name from `variables`; for the text itself write $${{{name[:60]}}}",
        nearest=f"${{{nearest}}}" if nearest else None,
    )
