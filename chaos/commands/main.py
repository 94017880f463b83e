"""The command `trio-chaos`: its commands, and how each of them ends."""

from __future__ import annotations

import errno
import os
import signal
import sys
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import click

from chaos.commands.hunt import hunt
from chaos.commands.play import play
from chaos.commands.replay import recheck, replay
from chaos.commands.run import run
from chaos.commands.sweep import sweep
from chaos.commands.toxiproxy_server import toxiproxy_server
from chaos.commands.values import say
from chaos.commands.vocabulary import list_, new, schema, validate
from chaos.errors import (
    EXIT_INTERNAL,
    EXIT_INVALID,
    EXIT_PASSED,
    ChaosError,
    InvalidScenario,
    bounded,
)

# whoever read our output has gone
EXIT_BROKEN_PIPE = 128 + signal.SIGPIPE
# what a machine may refuse to any program, beside what it says of a file by its name: not a bug of this one
MACHINES_FAULT = frozenset(
    {
        *(errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO, errno.EFBIG),
        *(errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EACCES, errno.EPERM),
    }
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
        say("trio-chaos: Windows is not supported: expected Linux or macOS", err=True)
        return EXIT_INVALID
    code = _ended(command)
    try:
        _give_out()
    except BrokenPipeError:
        return EXIT_BROKEN_PIPE
    except OSError as error:
        _say_refusal(error)
        return code or EXIT_INVALID
    return code


def _ended(command: Callable[[], Any]) -> int:
    """Run a command, say how it ended if it did not end well, and return its exit code."""
    from chaos.running.interrupt import exit_code, has_come, signals_raise

    try:
        with signals_raise():
            return int(command() or EXIT_PASSED)
    except click.exceptions.Exit as stop:
        return int(stop.exit_code)
    except (KeyboardInterrupt, click.Abort):
        say("interrupted", err=True)
        return exit_code()
    except (click.ClickException, ChaosError) as error:
        say(_mistake(error), err=True)
        return EXIT_INVALID
    except (
        BrokenPipeError,
        SystemExit,
    ):  # click makes a SystemExit of the first, and of nothing else
        return EXIT_BROKEN_PIPE
    except Exception as error:
        if has_come():
            say("interrupted", err=True)
            return exit_code()
        if isinstance(error, OSError) and (error.errno in MACHINES_FAULT or error.filename):
            _say_refusal(error)
            return EXIT_INVALID
        import traceback

        traceback.print_exc()
        say("trio-chaos: this is a bug of trio-chaos; please report it", err=True)
        return EXIT_INTERNAL


def _mistake(error: click.ClickException | ChaosError) -> str:
    """Return what is said about a mistake of the user's."""
    if isinstance(error, InvalidScenario):
        return str(error)
    if isinstance(error, ChaosError):
        return f"trio-chaos: {bounded(str(error))}"
    context = error.ctx if isinstance(error, click.UsageError) else None
    usage = f"{context.get_usage()}\n" if context is not None else ""
    return f"{usage}Error: {bounded(error.format_message())}"


def _say_refusal(error: OSError) -> None:
    """Say what the machine has refused."""
    name = os.fsdecode(error.filename) if isinstance(error.filename, str | bytes) else ""
    what = f"cannot use {name!r}" if name else "cannot write its output"
    with suppress(OSError):  # standard error may be full as well
        say(bounded(f"trio-chaos: {what}: {error.strerror}"), err=True)


def _give_out() -> None:
    """Write what has been printed and is still held back. Where that cannot be done, nothing more is tried.

    Python would try again when it ends, and print a traceback.
    """
    for stream in filter(None, (sys.stdout, sys.stderr)):
        try:
            stream.flush()
        except OSError:
            with suppress(OSError, ValueError):
                os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
            raise
