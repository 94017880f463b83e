"""Where a sweep's results stay: `results.jsonl`, one row per run, and a folder for each run that did not pass."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

from chaos.checks.verdict import Outcome
from chaos.errors import UsageError
from chaos.explore.emit import to_yaml
from chaos.running.log import folder_name
from chaos.running.result import Row
from chaos.scenario.model import Scenario
from chaos.trace import parse_trace

RESULTS = "results.jsonl"
FAILURES = "failures"


class Store:
    """A folder of results. Rows are appended and flushed one by one, so that a killed sweep can be resumed."""

    def __init__(self, folder: Path, *, resume: bool) -> None:
        """Open the folder, and make it if it is not there.

        Raises:
            UsageError: it cannot be written, or it holds results and `resume` is false.
        """
        self.folder = folder
        self._file = folder / RESULTS
        if self._file.exists() and self._file.stat().st_size and not resume:
            raise UsageError(
                f"{self._file} holds results already; expected --resume to go on with them, or another --out"
            )
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._cut_torn_line()
        except OSError as error:
            raise UsageError(f"cannot write {folder}: {error.strerror}") from error

    def __str__(self) -> str:
        return str(self._file)

    def _cut_torn_line(self) -> None:
        """Take off what a killed sweep left of its last line."""
        with self._file.open("a+b") as file:
            file.seek(0)
            text = file.read()
            whole = text.rfind(b"\n") + 1
            if whole < len(text):
                os.truncate(self._file, whole)

    def rows(self) -> Iterator[Row]:
        """Give the rows that are there.

        Raises:
            UsageError: a line is not a row of a sweep.
        """
        with self._file.open(encoding="utf-8") as lines:
            for number, line in enumerate(lines, start=1):
                try:
                    yield Row.from_json(json.loads(line))
                except (ValueError, KeyError, TypeError) as error:
                    raise UsageError(
                        f"{self._file}:{number} is not a result of a sweep: {error}"
                    ) from error

    def add(self, row: Row) -> None:
        """Write a row, and the trace and scenario of a run that did not pass."""
        with self._file.open("a", encoding="utf-8") as file:
            file.write(json.dumps(row.without_trace().to_json(), ensure_ascii=False) + "\n")
        if row.trace is not None and row.outcome is not Outcome.PASS:
            self._keep(row, row.trace)

    def run_folder(self, row: Row) -> Path:
        """Return where the trace of a run is kept if it does not pass."""
        return self.folder / FAILURES / folder_name(row.title) / str(row.seed)

    def _keep(self, row: Row, trace: str) -> None:
        folder = self.run_folder(row)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "trace.jsonl").write_text(trace, encoding="utf-8")
        scenario = Scenario.from_json(parse_trace(trace.splitlines(keepends=True)).header.scenario)
        comment = (f"{row.title}, seed {row.seed} of a sweep", f"from {row.path}")
        text = to_yaml(scenario, comment=comment)
        (folder / "scenario.yaml").write_text(text, encoding="utf-8")
