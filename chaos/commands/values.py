"""Options that several commands share, and the kinds of values they take. Imports nothing that is slow."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import click

from chaos.errors import Mistake, UsageError, escaped

PATH = click.Path(path_type=Path)

Decorator = Callable[[Callable[..., Any]], Callable[..., Any]]
paths: Decorator = click.argument("paths", nargs=-1, required=True, type=PATH)
tag: Decorator = click.option(
    "--tag",
    "tags",
    multiple=True,
    metavar="TAG",
    help="Only scenarios with this tag; may be repeated.",
)
recursive: Decorator = click.option(
    "--recursive", is_flag=True, help="Also the scenario files in subfolders."
)
verbose: Decorator = click.option(
    "--verbose", "-v", is_flag=True, help="Show every check with its figures."
)


def subject(side: str, whose: str = "every scenario's own", names: str = "") -> Decorator:
    """Return the option that puts another client or server in place of the scenario's."""
    text = f"{side.capitalize()} in place of {whose}{names}."
    return click.option(f"--{side}", metavar="USE", help=text)


def as_json(what: str) -> Decorator:
    """Return the option `--json`; `what` is printed and nothing else."""
    return click.option(
        "--json", "as_json", is_flag=True, help=f"Print the {what} as JSON and nothing else."
    )


def seconds(_ctx: click.Context, _param: click.Parameter, value: str | None) -> float | None:
    """Read an option that is a duration such as `90s`; use it as the option's callback. None stays None."""
    from chaos.vocabulary.base import parse_duration

    if value is None:
        return None
    try:
        return parse_duration(value)
    except ValueError as error:
        raise click.BadParameter(f"{error}, got {value!r}") from error


class Share(click.ParamType):  # type: ignore[type-arg,unused-ignore] # generic from click 8.3 on
    """A share such as `20%` or `0.2`."""

    name = "share"

    def convert(self, value: Any, param: Any, ctx: Any) -> float:
        if isinstance(value, float):
            return value
        try:
            return float(value[:-1]) / 100 if value.endswith("%") else float(value)
        except ValueError:
            self.fail(f"expected a share such as 20%, got {value!r}", param, ctx)


class Shard(click.ParamType):  # type: ignore[type-arg,unused-ignore] # generic from click 8.3 on
    """A part of the whole, such as `3/8`."""

    name = "shard"

    def convert(self, value: Any, param: Any, ctx: Any) -> tuple[int, int]:
        if isinstance(value, tuple):
            return value
        number, slash, count = value.partition("/")
        if slash and number.isdigit() and count.isdigit() and 1 <= int(number) <= int(count):
            return int(number), int(count)
        return self.fail(f"expected a part such as 3/8, got {value!r}", param, ctx)


def say(text: str, *, err: bool = False, nl: bool = True) -> None:
    """Print text, in which there may be text of others: nothing that a terminal would act on reaches it."""
    click.echo(escaped(text), err=err, nl=nl)


def require_output(junit: Path | None, as_json: bool) -> None:
    """Raise UsageError where the results of a run could not be written once they are there."""
    from chaos.running.folder import require_writable

    require_writable(junit)
    if as_json and sys.stdout is None:
        raise UsageError("--json prints to standard output, and that is closed")


def interrupted() -> int:
    """Say that a command was interrupted, and return its exit code."""
    from chaos.running.interrupt import exit_code

    say("interrupted; the results above are what there is", err=True)
    return exit_code()


def warning_line(warning: Mistake) -> str:
    """Return a warning about a file as it is printed."""
    return str(replace(warning, message=f"warning: {warning.message}"))
