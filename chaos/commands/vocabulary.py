"""The commands about scenario files and their words: `validate`, `schema`, `list` and `new`."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterator, Sequence
from pathlib import Path

import click

from chaos.commands import values
from chaos.commands.values import say
from chaos.errors import EXIT_INVALID, EXIT_PASSED, UsageError

TABLES = ("faults", "checks", "actions", "presets", "policies", "states")
WIDTH_MAX = 110
_INDENT = "    "
_PARAMETER = re.compile(r"; (?=\w+ \()")


@click.command()
@values.paths
@values.recursive
@click.option("--warnings-as-errors", is_flag=True, help="Exit with 254 when there is a warning.")
def validate(paths: tuple[Path, ...], recursive: bool, warnings_as_errors: bool) -> int:
    """Judge scenario files without running anything of them.

    A warning tells of what is valid and cannot work, such as a bound below what the scenario's own settings allow.
    """
    from chaos.api import find_files, read_all, warnings_of

    files = find_files(paths, recursive)
    scenarios, mistakes = read_all(files)
    wrong = {mistake.path for mistake in mistakes}
    warnings = [row for file in files if str(file) not in wrong for row in warnings_of(file)]
    for mistake in mistakes:
        say(str(mistake))
    for warning in warnings:
        say(values.warning_line(warning))
    is_good = not mistakes and not (warnings and warnings_as_errors)
    told = f", {len(warnings)} warning{'s' if len(warnings) > 1 else ''}" if warnings else ""
    say(
        f"{len(files) - len(wrong)} valid, {len(wrong)} invalid{told}; {len(scenarios)} scenarios",
        err=not is_good,
    )
    return EXIT_PASSED if is_good else EXIT_INVALID


@click.command()
def schema() -> int:
    """Print the JSON Schema of scenario files, for editors."""
    from chaos.scenario.schema import schema_text

    say(schema_text(), nl=False)
    return EXIT_PASSED


@click.command("list")
@click.argument("table", type=click.Choice(TABLES))
def list_(table: str) -> int:
    """Print a table of the vocabulary."""
    from rich.console import Console
    from rich.text import Text

    from chaos.reports import tables

    headers, rows = getattr(tables, f"table_{table}")()
    console = Console(highlight=False, soft_wrap=True)
    width = min(console.width, WIDTH_MAX)
    for title, what, *rest in rows:
        console.print(Text(title, style="bold"))
        for line in (*wrap(what, width), *details(headers[2:], rest, width)):
            console.print(Text(line))
        console.print()
    return EXIT_PASSED


@click.command()
@click.argument("name")
@click.option("--folder", type=values.PATH, default=Path(), help="Where to write it; default here.")
def new(name: str, folder: Path) -> int:
    """Write NAME.yaml: a commented scenario that runs, to start from."""
    from chaos.scenario.starter import starter

    path = folder / f"{name}.yaml"
    if path.exists():
        raise UsageError(f"{path} is already there")
    text = starter(name)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise UsageError(f"cannot write {path}: {error.strerror}") from error
    say(f"wrote {path}; run it with: trio-chaos run {path}")
    return EXIT_PASSED


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
