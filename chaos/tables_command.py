"""What `trio-chaos list` does: print a table of the vocabulary, as wide as the terminal allows."""

from __future__ import annotations

import sys

from rich.console import Console
from rich.table import Table

from chaos.reports import tables

PIPE_WIDTH = 160


def print_table(name: str) -> None:
    """Print the table of this name; `chaos.reports.tables` has one function for each."""
    headers, rows = getattr(tables, f"table_{name}")()
    width = None if sys.stdout.isatty() else PIPE_WIDTH
    console = Console(highlight=False, width=width)
    table = Table(*headers, show_lines=False, header_style="bold")
    for row in rows:
        table.add_row(*(str(cell) for cell in row))
    console.print(table)
