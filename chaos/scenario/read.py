"""Turns YAML text into nodes: every key and value has its line and column, and is interpreted once.

Built on ruamel.yaml's event stream, which does not recurse, so that depth, aliases, tags and duplicate keys are
bounded and reported here. Plain scalars follow the core schema of YAML 1.2 (https://yaml.org/spec/1.2.2/ §10.3.2).
"""

from __future__ import annotations

import math
import re
from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, NoReturn

from ruamel.yaml import YAML, events
from ruamel.yaml.error import YAMLError
from ruamel.yaml.reader import ReaderError

from chaos.errors import InvalidScenario
from chaos.scenario.nodes import (
    Mapping,
    Mark,
    Mistakes,
    Node,
    Scalar,
    Sequence,
    nearest_word,
    shorten,
)

BYTES_MAX = 1_048_576
NODES_MAX = 10_000
DEPTH_MAX = 40


def read_text(text: str | bytes, path: str) -> Node:
    """Return the one document of a file as nodes.

    Raises InvalidScenario with every mistake that can be seen before the keys are looked at.
    """
    mistakes = Mistakes(path)
    root = _Reader(_decode(text, mistakes), mistakes).read()
    if len(mistakes) or root is None:
        raise InvalidScenario(mistakes.sorted())
    return root


def _decode(text: str | bytes, mistakes: Mistakes) -> str:
    """Return the text of a file without its byte order mark; raise InvalidScenario if it cannot be read at all."""
    if len(text) > BYTES_MAX:
        mistakes.refuse(Mark(1, 1), "the file is too large", expected="at most 1 MiB")
    try:
        decoded = text.decode() if isinstance(text, bytes) else text
    except UnicodeDecodeError as error:
        before = error.object[: error.start].decode("utf-8", "replace")
        mistakes.refuse(
            _Places(error.object.decode("utf-8", "replace")).mark(len(before)),
            "the file is not text in UTF-8",
            value=f"byte 0x{error.object[error.start]:02x}",
            expected="a YAML file in UTF-8",
        )
    return decoded.removeprefix("\ufeff")


class _Places:
    """Turns offsets into lines and columns, with the line ends that editors know."""

    def __init__(self, text: str) -> None:
        line_ends = list(re.finditer(r"\r\n|\r|\n", text))
        self._starts = [0, *(match.end() for match in line_ends)]
        self._stops = [*(match.start() for match in line_ends), len(text)]
        if len(self._starts) > 1 and self._starts[-1] == len(text):
            # no line follows the last line end: that place is shown at the end of the line before
            del self._starts[-1], self._stops[-1]

    def mark(self, offset: int) -> Mark:
        """Return the place of a character; places inside or after a line end are just before it."""
        line = bisect_right(self._starts, offset) - 1
        return Mark(line + 1, min(offset, self._stops[line]) - self._starts[line] + 1)


@dataclass(slots=True)
class _Collection:
    """A list or mapping that is being read."""

    mark: Mark
    is_mapping: bool
    anchor: str | None
    items: list[Node] = field(default_factory=list)
    keys: dict[str, Mark] = field(default_factory=dict)
    values: dict[str, Node] = field(default_factory=dict)
    # the key whose value comes next; an empty tuple when a key comes next
    key: tuple[str, Mark] | tuple[()] = ()
    size: int = 1
    depth: int = 1


class _StopReading(Exception):
    """Ends the reading of a file; the mistake that says why is noted already."""


class _Reader:
    """Reads one document: it builds nodes from ruamel.yaml's events, with a stack of what is still open."""

    def __init__(self, text: str, mistakes: Mistakes) -> None:
        self._text = text
        self._places = _Places(text)
        self._mistakes = mistakes
        self._stack: list[_Collection] = []
        self._anchors: dict[str, Node | None] = {}
        self._root: Node | None = None
        self._documents = 0

    def read(self) -> Node | None:
        """Return the document's node, or None when it could not be read; the mistakes say why."""
        try:
            for event in self._events():
                self._read_event(event)
        except _StopReading:
            return None
        if len(self._mistakes) == 0 and self._root is None:
            self._mistakes.add(Mark(1, 1), "the file is empty", expected="a scenario")
        return self._root

    def _events(self) -> Iterator[Any]:
        """Yield ruamel.yaml's events; what it cannot read is noted and ends them."""
        stream = iter(YAML(typ="safe", pure=True).parse(self._text))
        last = Mark(1, 1)
        while True:
            try:
                event = next(stream, None)
            except YAMLError as error:
                self._stop_at_syntax(error)
            except Exception:
                # ruamel.yaml fails in many ways on escapes and directives that are out of range, such as
                # "\\UFFFFFFFF" (OverflowError) and %YAML 1.0 (AssertionError); only its own code runs here
                message = "an escape or a directive after this place is out of range"
                self._stop(last, f"this is not YAML: {message}")
            if event is None:
                return
            last = self._places.mark(event.end_mark.index)
            yield event

    def _mark_of(self, event: Any) -> Mark:
        return self._places.mark(event.start_mark.index)

    def _stop(self, mark: Mark, message: str, **details: Any) -> NoReturn:
        """Note a mistake after which reading on would only do harm."""
        self._mistakes.add(mark, message, **details)
        raise _StopReading from None

    def _stop_at_syntax(self, error: YAMLError) -> NoReturn:
        if isinstance(error, ReaderError):
            offset = int(error.position or 0)
            self._stop(
                self._places.mark(offset),
                "a character that YAML does not allow",
                value=f"U+{ord(self._text[offset]):04X}" if offset < len(self._text) else None,
            )
        problem = getattr(error, "problem", None) or str(error).splitlines()[0]
        mark, start = getattr(error, "problem_mark", None), getattr(error, "context_mark", None)
        if mark is None or "end of stream" in problem or "<stream end>" in problem:
            mark = (
                start or mark
            )  # the place of what was never closed says more than the end of the file
        problem = problem.replace(r"'\x00'", "the end of the file")
        hint = None
        if mark is not None and self._text[mark.index : mark.index + 1] == "\t":
            problem, hint = "a tab cannot indent YAML", "spaces"
        where = self._places.mark(mark.index) if mark is not None else Mark(1, 1)
        context = getattr(error, "context", None)
        tail = f", {context}" if context and hint is None else ""
        self._stop(where, f"this is not YAML: {problem}{tail}", expected=hint)

    def _read_event(self, event: Any) -> None:
        if isinstance(event, events.DocumentStartEvent):
            self._documents += 1
            if self._documents > 1:
                self._stop(
                    self._mark_of(event),
                    "a second document in the file",
                    expected="one scenario per file",
                )
        elif isinstance(event, events.AliasEvent):
            self._place_alias(event)
        elif isinstance(event, events.ScalarEvent):
            self._check_tag(event, {"!", "tag:yaml.org,2002:str"})
            self._finish(self._read_scalar(event), event.anchor)
        elif isinstance(event, (events.SequenceStartEvent, events.MappingStartEvent)):
            self._open_collection(event)
        elif isinstance(event, (events.SequenceEndEvent, events.MappingEndEvent)):
            self._close_collection()

    def _check_tag(self, event: Any, allowed: set[str]) -> None:
        if event.tag is not None and str(event.tag) not in allowed:
            tag = shorten(str(event.tag))
            self._mistakes.add(
                self._mark_of(event), "tags are not allowed", value=tag, expected="plain YAML"
            )

    def _open_collection(self, event: Any) -> None:
        is_mapping = isinstance(event, events.MappingStartEvent)
        self._check_tag(event, {"tag:yaml.org,2002:map" if is_mapping else "tag:yaml.org,2002:seq"})
        mark = self._mark_of(event)
        if len(self._stack) >= DEPTH_MAX:
            self._stop(mark, "nested too deeply", expected=f"at most {DEPTH_MAX} levels of nesting")
        if event.anchor:
            self._anchors[event.anchor] = None
        self._stack.append(_Collection(mark, is_mapping, event.anchor))

    def _close_collection(self) -> None:
        done = self._stack.pop()
        common: dict[str, Any] = {"mark": done.mark, "size": done.size, "depth": done.depth}
        node: Node = Sequence(items=tuple(done.items), **common)
        if done.is_mapping:
            node = Mapping(keys=done.keys, values=done.values, **common)
        self._finish(node, done.anchor)

    def _finish(self, node: Node, anchor: str | None) -> None:
        """Put a node that was read whole where it belongs, and remember it if an alias may name it."""
        if anchor:
            self._anchors[anchor] = node
        self._place(node, node.mark)

    def _place_alias(self, event: Any) -> None:
        mark = self._mark_of(event)
        name = event.anchor
        if name not in self._anchors:
            self._stop(
                mark,
                "an alias without its anchor",
                value=f"*{name}",
                nearest=nearest_word(name, self._anchors),
            )
        node = self._anchors[name]
        if node is None:
            self._stop(mark, "an alias inside its own anchor", value=f"*{name}")
        self._place(node, mark)

    def _place(self, node: Node, mark: Mark) -> None:
        """Put a finished node where it belongs: into the list or mapping that is open."""
        if not self._stack:
            self._root = node
            return
        parent = self._stack[-1]
        parent.size += node.size
        parent.depth = max(parent.depth, node.depth + 1)
        if parent.size > NODES_MAX or len(self._stack) + node.depth > DEPTH_MAX:
            self._stop(
                mark,
                "the document is too large once its aliases are written out",
                expected=f"at most {NODES_MAX} values and {DEPTH_MAX} levels",
            )
        if not parent.is_mapping:
            parent.items.append(node)
        elif parent.key:
            key, key_mark = parent.key
            parent.keys.setdefault(key, key_mark)
            parent.values.setdefault(key, node)
            parent.key = ()
        else:
            parent.key = (self._read_key(parent, node, mark), mark)

    def _read_key(self, parent: _Collection, node: Node, mark: Mark) -> str:
        ignored = f"x-{len(parent.keys)}"
        if not isinstance(node, Scalar) or type(node.value) not in (str, int):
            self._mistakes.add(
                mark, "a key that is not text", value=node, expected="a word; quote it if needed"
            )
            return ignored
        if node.value == "<<":
            self._mistakes.add(
                mark,
                "merge keys are not part of YAML 1.2",
                value="<<",
                expected="the keys written out, `variables` or a `matrix`",
            )
            return ignored
        if node.text in parent.keys:
            first = parent.keys[node.text]
            place = f"first at line {first.line}, column {first.column}"
            self._mistakes.add(mark, f"the key `{shorten(node.text)}` stands here twice, {place}")
        return node.text

    def _read_scalar(self, event: Any) -> Scalar:
        mark = self._mark_of(event)
        text = event.value
        if any("\ud800" <= letter <= "\udfff" for letter in text):
            self._mistakes.add(mark, "half of a surrogate pair is not a character")
            return Scalar(mark=mark, value="", text="")
        is_plain = event.style is None and event.tag is None
        try:
            return Scalar(mark=mark, value=plain_value(text) if is_plain else text, text=text)
        except ValueError as error:
            self._mistakes.add(mark, str(error), value=shorten(text))
            return Scalar(mark=mark, value=0, text=text)


_INT = re.compile(r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_CONSTANTS: dict[str, bool | None] = {
    "": None, "~": None, "null": None, "Null": None, "NULL": None,
    "true": True, "True": True, "TRUE": True, "false": False, "False": False, "FALSE": False,
}  # fmt: skip


def plain_value(text: str) -> str | int | float | bool | None:
    """Return what an unquoted scalar means in YAML 1.2's core schema.

    Raises ValueError for numbers that are not finite or do not fit 64 bits.
    """
    if text in _CONSTANTS:
        return _CONSTANTS[text]
    if _INT.fullmatch(text):
        number = int(text, 0 if text[:2] in ("0o", "0x") else 10) if len(text) < 25 else 1 << 64
        if abs(number) >= 1 << 63:
            raise ValueError("a number that is too large")
        return number
    if _FLOAT.fullmatch(text):
        if math.isinf(float(text)):
            raise ValueError("a number that is too large")
        return float(text)
    if re.fullmatch(r"[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)", text):
        raise ValueError("a number that is not finite")
    return text
