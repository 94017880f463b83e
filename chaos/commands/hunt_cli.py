"""The command `trio-chaos hunt` with its options. Imports nothing that is slow: `--help` must answer at once."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from chaos.commands.values import seconds

_PATHS = click.Path(path_type=Path)


@click.command()
@click.argument("scenario", type=_PATHS)
@click.option(
    "--budget",
    "budget_s",
    default="60s",
    show_default=True,
    callback=seconds,
    metavar="TIME",
    help="How long to search; making a find small may take half as long again.",
)
@click.option(
    "--seed",
    type=int,
    default=1,
    show_default=True,
    help="The same seed tries the same schedules.",
)
@click.option("--client", metavar="USE", help="Client in place of the scenario's own.")
@click.option("--server", metavar="USE", help="Server in place of the scenario's own.")
@click.option(
    "--write",
    type=_PATHS,
    metavar="FILE",
    help="Write what is found here; default hunts/NAME.yaml.",
)
@click.option(
    "--finds",
    type=_PATHS,
    default=Path(".trio-chaos/finds"),
    show_default=True,
    metavar="DIR",
    help="Where finds are kept; those of earlier hunts are replayed first.",
)
def hunt(scenario: Path, **options: Any) -> int:
    """Search for a schedule of faults under which SCENARIO fails, and make it small."""
    from chaos.commands.hunt import Options, hunt_command  # noqa: PLC0415 - see above

    return hunt_command(Options(path=scenario, **options))
