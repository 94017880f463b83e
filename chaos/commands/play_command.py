"""The command `trio-chaos play`. Imports nothing that is slow."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click


@click.command()
@click.argument("scenario", type=click.Path(path_type=Path))
@click.option(
    "--upstream", required=True, metavar="HOST:PORT", help="Where connections are passed on to."
)
@click.option("--listen", required=True, metavar="HOST:PORT", help="Where to connect to instead.")
@click.option("--loop", is_flag=True, help="Start again at the end, until Ctrl-C.")
@click.option(
    "--seed",
    type=int,
    help="Every random draw derives from it; default another each time.",
)
@click.option("--cell", metavar="NAME", help="Which cell of the file's matrix, such as beat=5s.")
def play(**options: Any) -> int:
    """Play a scenario's timeline against whatever connects, with a live view.

    Starts one proxy. The scenario's own client, server, workload and expectations are not used.
    """
    from chaos.commands.play import Options, play_command  # noqa: PLC0415 - slow to import

    return play_command(Options(**options))
