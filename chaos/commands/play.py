"""The command `play`: a scenario's timeline against whatever connects."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from chaos.commands import values


@click.command()
@click.argument("scenario", type=values.PATH)
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
def play(scenario: Path, cell: str | None, **options: Any) -> int:
    """Play a scenario's timeline against whatever connects, with a live view.

    Starts one proxy. The scenario's own client, server, workload and expectations are not used.
    """
    from functools import partial

    import trio

    from chaos.commands.playing import play_until_signal, read_scenario
    from chaos.errors import UsageError, first_message
    from chaos.running.interrupt import signals_noted

    read = read_scenario(scenario, cell)
    try:
        with signals_noted() as interruption:
            playing = partial(play_until_signal, read, interruption=interruption, **options)
            return trio.run(playing, strict_exception_groups=True)
    except* UsageError as group:
        raise UsageError(first_message(group)) from None
    except* BrokenPipeError:
        raise BrokenPipeError from None  # who read our output has gone
    raise AssertionError("either it returns or it raises")
