"""What `trio-chaos list` does: print a table of the vocabulary, one block of lines per word."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterator, Sequence

from rich.console import Console
from rich.text import Text

from chaos.reports import tables

WIDTH_MAX = 110
_INDENT = "    "
_PARAMETER = re.compile(r"; (?=\w+ \()")


def print_table(name: str) -> None:
    """Print the table of this name; `chaos.reports.tables` has one function for each."""
    headers, rows = getattr(tables, f"table_{name}")()
    console = Console(highlight=False, soft_wrap=True)
    width = min(console.width, WIDTH_MAX)
    for row in rows:
        title, what, *rest = row
        console.print(Text(title, style="bold"))
        for line in (*wrap(what, width), *details(headers[2:], rest, width)):
            console.print(Text(line))
        console.print()


def details(headers: Sequence[str], cells: Sequence[str], width: int) -> Iterator[str]:
    """Give the lines of a word's other columns; what goes without saying is left out."""
    label = max((len(header) for header in headers), default=0) + 2
    for header, cell in zip(headers, cells, strict=True):
        if not cell or cell == "exact":
            continue
        # parameters are listed with semicolons: each gets a line of its own
        for number, part in enumerate(_PARAMETER.split(cell) if header == "parameters" else [cell]):
            first = header if number == 0 else ""
            yield from wrap(part, width, f"{first:{label}}")


def wrap(text: str, width: int, label: str = "") -> list[str]:
    """Return indented lines; those after the first stand under the text, not under the label."""
    return textwrap.wrap(
        text,
        width=width,
        initial_indent=_INDENT + label,
        subsequent_indent=_INDENT + " " * len(label),
        break_long_words=False,
        break_on_hyphens=False,
    )
