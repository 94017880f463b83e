"""Reads trace files of delays: their rows replace their names, so that a scenario carries them with it.

The caller of the loader says how a file that a scenario names is read.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from chaos.scenario.nodes import Mapping, Mark, Mistakes, Node, Scalar, Sequence, shorten
from chaos.scenario.paths import parse_trace
from chaos.scenario.read import BYTES_MAX
from chaos.vocabulary.base import format_duration

# Returns the bytes of the file of this name, at most one more than `BYTES_MAX`. Raises OSError or ValueError.
ReadFile = Callable[[str], bytes]


def no_file(name: str) -> bytes:
    """Read nothing: there is no file of any name."""
    raise FileNotFoundError(name)


# This takes the place of a trace that could not be read, so that no further mistake follows from it.
_NO_DELAY = [(0.0, 0.0)]


def read_traces(node: Node, read_file: ReadFile, mistakes: Mistakes) -> Node:
    """Return the value of `paths` with each `trace: FILE` of a `delay` replaced by the rows of that file.

    A file that is missing or wrong is noted at the place of its name.
    """
    if not isinstance(node, Mapping):
        return node
    values = {key: read_traces(value, read_file, mistakes) for key, value in node.values.items()}
    delay = values.get("delay")
    if isinstance(delay, Mapping):
        trace = delay.values.get("trace")
        if isinstance(trace, Scalar) and isinstance(trace.value, str):
            rows = _read_rows(trace, read_file, mistakes)
            inner = {**delay.values, "trace": _as_nodes(rows, trace.mark)}
            values["delay"] = replace(delay, values=inner)
    return replace(node, values=values)


def _read_rows(name: Scalar, read_file: ReadFile, mistakes: Mistakes) -> list[tuple[float, float]]:
    value: Node | str | None = name
    try:
        content = read_file(name.text)
        if len(content) <= BYTES_MAX:
            return parse_trace(content.decode())
        message, expected = "the trace file is too large", "at most 1 MiB"
    except FileNotFoundError:
        message, expected = "there is no such trace file", "a file beside the scenario"
    except UnicodeDecodeError:
        message, expected = "the trace file is not text in UTF-8", "lines of `time delay`"
    except OSError as error:
        message, expected = f"cannot read the trace file: {error.strerror}", "a readable file"
    except ValueError as error:  # what parse_trace says, or a name with a null byte in it
        place, _, rest = str(error).partition(": expected ")
        what, _, got = rest.partition(", got ")
        message = f"the trace file {shorten(name.text)} is wrong in {place}"
        expected, value = what or "the name of a file", got or None
    mistakes.add(name.mark, message, value=value, expected=expected)
    return _NO_DELAY


def _as_nodes(rows: list[tuple[float, float]], mark: Mark) -> Sequence:
    """Return the rows as they would stand in the file, all at the place of the file's name."""
    durations = [[format_duration(value_s) for value_s in row] for row in rows]
    pairs = [tuple(Scalar(mark=mark, value=text, text=text) for text in row) for row in durations]
    return Sequence(mark=mark, items=tuple(Sequence(mark=mark, items=pair) for pair in pairs))
