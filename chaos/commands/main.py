"""The command `trio-chaos`: its commands, and how each of them ends."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import click

from chaos.commands.hunt import hunt
from chaos.commands.play import play
from chaos.commands.replay import recheck, replay
from chaos.commands.run import run
from chaos.commands.sweep import sweep
from chaos.commands.toxiproxy_server import toxiproxy_server
from chaos.commands.vocabulary import list_, new, schema, validate
from chaos.errors import (
    EXIT_INTERNAL,
    EXIT_INVALID,
    EXIT_PASSED,
    ChaosError,
    InvalidScenario,
)


@click.group(
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    commands=[
        hunt,
        list_,
        new,
        play,
        recheck,
        replay,
        run,
        schema,
        sweep,
        toxiproxy_server,
        validate,
    ],
)
@click.version_option(package_name="trio-chaos", prog_name="trio-chaos")
def cli() -> None:
    """Put long-lived connections through network faults, and prove that they survive.

    Exit codes: 0 all passed, 1 some failed, 2 some inconclusive and none failed, 254 invalid scenario or
    usage, 255 internal error, 130 interrupted (128 and the signal's number).
    """


def main(arguments: list[str] | None = None) -> None:
    """Run the command and exit with its code; the entry point of `trio-chaos`."""
    from chaos.running.interrupt import signals_ignored

    code = run_cli(lambda: cli.main(arguments, "trio-chaos", standalone_mode=False))
    signals_ignored()
    sys.exit(code)


def run_cli(command: Callable[[], Any]) -> int:
    """Run a command and return its exit code. A user's mistake gives a message, a bug of ours a traceback."""
    if sys.platform == "win32":
        click.echo("trio-chaos: Windows is not supported: expected Linux or macOS", err=True)
        return EXIT_INVALID
    from chaos.running.interrupt import exit_code, signals_raise

    try:
        with signals_raise():
            return int(command() or EXIT_PASSED)
    except click.exceptions.Exit as stop:
        return int(stop.exit_code)
    except click.ClickException as error:
        error.show()
        return EXIT_INVALID
    except InvalidScenario as error:
        click.echo(str(error), err=True)
        return EXIT_INVALID
    except ChaosError as error:
        click.echo(f"trio-chaos: {error}", err=True)
        return EXIT_INVALID
    except (KeyboardInterrupt, click.Abort):
        click.echo("interrupted", err=True)
        return exit_code()
    except BrokenPipeError:
        # whoever read our output has gone: nothing more can be printed
        sys.stderr.close()
        return EXIT_PASSED
    except Exception:
        import traceback

        traceback.print_exc()
        click.echo("trio-chaos: this is a bug of trio-chaos; please report it", err=True)
        return EXIT_INTERNAL
