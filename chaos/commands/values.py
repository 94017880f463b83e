"""Values that several commands take. Imports nothing that is slow: `--help` must answer at once."""

from __future__ import annotations

import click


def seconds(_ctx: click.Context, _param: click.Parameter, value: str | None) -> float | None:
    """Read an option that is a duration such as `90s`; use it as the option's callback. None stays None."""
    from chaos.vocabulary.base import parse_duration  # noqa: PLC0415 - brings pydantic

    if value is None:
        return None
    try:
        return parse_duration(value)
    except ValueError as error:
        raise click.BadParameter(f"{error}, got {value!r}") from error
