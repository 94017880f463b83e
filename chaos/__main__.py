"""The program `trio-chaos`, and `python -m chaos`. A signal that comes while it is imported ends it at once."""

from __future__ import annotations

import os
import signal
from typing import NoReturn


def _leave(number: int, _frame: object) -> NoReturn:
    os.write(2, b"interrupted\n")
    os._exit(128 + number)


def main() -> None:
    """Run the command and exit with its code."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, _leave)
    from chaos.commands.main import main as run  # noqa: PLC0415 - it takes a while

    run()


if __name__ == "__main__":
    main()
