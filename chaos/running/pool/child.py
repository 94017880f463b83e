"""A worker process that speaks JSON over its pipes: `python -m chaos.running.pool.child`.

For places where `multiprocessing` cannot serve: inside a Dask worker (which may not have children of that kind), and
where each process must have a hash seed of its own. One line per unit in, one line of rows out.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from types import TracebackType
from typing import Any, Self

from chaos.errors import SubjectNotFound, UsageError
from chaos.running.pool.result import Row, Unit
from chaos.running.pool.units import run_unit


class ChildLost(Exception):
    """The process ended before it answered."""


class Child:
    """A child process that runs units, one at a time. Use it as a context manager, or call `close`."""

    def __init__(self, **environment: str) -> None:
        """Start the process with these variables added to its environment."""
        self._process = subprocess.Popen(
            [sys.executable, "-m", "chaos.running.pool.child"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**os.environ, **environment},
            start_new_session=True,  # Ctrl-C is the parent's to answer
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def send(self, unit: Unit) -> None:
        """Give the process a unit to run. Raises ChildLost when it is gone."""
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps(unit.to_json()).encode() + b"\n")
            self._process.stdin.flush()
        except OSError as error:
            raise ChildLost(str(error)) from error

    def receive(self) -> list[Row]:
        """Return the rows of the unit that was sent, when they come.

        Raises:
            ChildLost: the process ended instead.
            UsageError: a subject cannot be had, or cannot do what the scenario asks.
        """
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line.endswith(b"\n"):
            raise ChildLost(f"the process ended with code {self._process.poll()}")
        answer = json.loads(line)
        if "usage" in answer:
            raise UsageError(answer["usage"])
        return [Row.from_json(row) for row in answer["rows"]]

    def close(self) -> None:
        """End the process at once; what it was doing is lost."""
        self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                pipe.close()


def answer(line: str) -> dict[str, Any]:
    """Return the answer to one line of input."""
    try:
        return {"rows": [row.to_json() for row in run_unit(Unit.from_json(json.loads(line)))]}
    except (SubjectNotFound, UsageError) as error:
        return {"usage": str(error)}


def main() -> None:
    """Answer each line of standard input until it ends. What subjects print goes to standard error."""
    out = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    for line in sys.stdin:
        out.write(json.dumps(answer(line)) + "\n")
        out.flush()


if __name__ == "__main__":
    main()
