"""Defines the nodes of a YAML document, each with its place, and collects the mistakes that are found in them."""

from __future__ import annotations

from collections.abc import Container, Iterable, Iterator
from dataclasses import dataclass, field
from difflib import get_close_matches
from typing import Any, NoReturn

from chaos.errors import InvalidScenario, Mistake, shortened


@dataclass(frozen=True, slots=True, order=True)
class Mark:
    """A place in a file; line and column count from 1."""

    line: int
    column: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Scalar:
    """A leaf: its value, its text in the file, and the text it had before variables were filled in."""

    mark: Mark
    value: str | int | float | bool | None
    text: str
    template: str | None = None
    size: int = 1
    depth: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Sequence:
    """A list of nodes; `size` and `depth` count what stands in it, aliases expanded."""

    mark: Mark
    items: tuple[Node, ...]
    size: int = 1
    depth: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Mapping:
    """A mapping: keys in file order, each with its own mark."""

    mark: Mark
    keys: dict[str, Mark] = field(default_factory=dict)
    values: dict[str, Node] = field(default_factory=dict)
    size: int = 1
    depth: int = 1

    def modelled(self) -> Iterator[tuple[str, Mark, Node]]:
        """Yield the entries that are not the author's own `x-…` keys."""
        for key, mark in self.keys.items():
            if not key.startswith("x-"):
                yield key, mark, self.values[key]

    def only(self, wanted: Container[str]) -> Mapping:
        """Return this mapping with just the entries of these keys."""
        keys = {key: mark for key, mark in self.keys.items() if key in wanted}
        return Mapping(mark=self.mark, keys=keys, values={key: self.values[key] for key in keys})


Node = Scalar | Sequence | Mapping


class Mistakes:
    """Collects what is wrong with one file; each mistake is kept once.

    Its length grows with each mistake, also with one that is not told since it follows from another.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        self._found: dict[Mistake, None] = {}
        self._silent: set[Mark] = set()
        self._untold = 0

    def add(
        self,
        mark: Mark,
        message: str,
        *,
        value: Node | str | None = None,
        expected: str | None = None,
        nearest: str | None = None,
    ) -> None:
        """Note a mistake at this place, unless what follows from another was asked not to be told."""
        if mark in self._silent:
            self._untold += 1
            return
        shown = value if isinstance(value, str) or value is None else show(value)
        mistake = Mistake(self.path, mark.line, mark.column, message, shown, expected, nearest)
        self._found.setdefault(mistake)

    def silence(self, mark: Mark) -> None:
        """Note nothing more at this place: its value is unknown because of a mistake already noted."""
        self._silent.add(mark)

    def refuse(
        self, mark: Mark, message: str, *, value: Node | str | None = None, expected: str
    ) -> NoReturn:
        """Note a mistake beyond which nothing can be read, and raise InvalidScenario with all of them."""
        self.add(mark, message, value=value, expected=expected)
        raise InvalidScenario(self.sorted())

    def sorted(self) -> tuple[Mistake, ...]:
        """Return the mistakes in file order."""
        return tuple(sorted(self._found, key=lambda m: (m.line, m.column, m.message)))

    def __len__(self) -> int:
        return len(self._found) + self._untold


def nearest_name(word: str, known: Iterable[str]) -> str | None:
    """Return the known name that is most alike, if one is alike enough."""
    return next(iter(get_close_matches(word, list(known), n=1)), None)


def nearest_word(word: str, known: Iterable[str]) -> str | None:
    """Return the known word that this one was probably meant to be."""
    return nearest_name(word.lower().replace("-", "_")[:100], known)


def drop_empty(node: Node | None) -> Node | None:
    """Return the node, or None where there is none or nothing stands there."""
    return None if isinstance(node, Scalar) and node.value is None else node


def descend(node: Node, path: Iterable[str | int]) -> tuple[Node, bool]:
    """Follow a path of keys and positions as far as it exists; return the node there, and whether that is its end."""
    for part in path:
        if isinstance(node, Mapping) and part in node.values:
            node = node.values[str(part)]
        elif isinstance(node, Sequence) and isinstance(part, int) and part < len(node.items):
            node = node.items[part]
        else:
            return node, False
    return node, True


def show(node: Node) -> str:
    """Return a short text of a node for messages: what stands in the file, and what became of it."""
    if isinstance(node, Mapping):
        return "a mapping"
    if isinstance(node, Sequence):
        return "a list"
    if node.value is None:
        return "nothing"
    text = f'"{node.text}"' if isinstance(node.value, str) else node.text
    text = shorten(text)
    return f"{text} from {shorten(node.template)}" if node.template is not None else text


def shorten(text: str) -> str:
    """Return the text on one line, cut to a length that fits a message, with how much was left out."""
    return shortened(text.replace("\n", "⏎").replace("\r", ""))


def to_plain(node: Node) -> Any:
    """Return the node as plain data: dict, list, str, int, float, bool, None."""
    if isinstance(node, Mapping):
        return {key: to_plain(value) for key, value in node.values.items()}
    if isinstance(node, Sequence):
        return [to_plain(item) for item in node.items]
    return node.value
