"""What TCP does, on three arms: simulated hosts, this machine's loopback, network namespaces. One set of bodies.

The namespaces are the truth for a path that fails. Where real time passes, all cases run side by side.
"""

from __future__ import annotations

import functools
import json
import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from agreement import BEGIN, END, PAGE, Measured, measure, simulate, told
from tcp_arms import Row, UnavailableError, namespaces
from tcp_cases import BOOK, Seen, disagreements

REAL = ["loopback", "namespaces"]


@functools.cache
def simulated(name: str) -> Seen:
    return simulate(BOOK.rows[name])


@pytest.fixture
def measured(alone: None, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Measured]:
    """Return a function that measures all cases on an arm, once for all workers of a test run."""
    base = tmp_path_factory.getbasetemp()
    shared = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base

    def measure_once(arm: str) -> Measured:
        kept: Path = shared / f"tcp-{arm}.json"
        if not kept.exists():
            try:
                found = measure(arm)
            except UnavailableError as error:
                found = {name: {"unavailable": str(error)} for name in BOOK.rows}
            kept.write_text(json.dumps(found))
        result: Measured = json.loads(kept.read_text())
        return result

    return measure_once


@pytest.mark.parametrize("name", BOOK.rows)
def test_the_simulated_tcp_does_what_was_measured(name: str) -> None:
    assert not disagreements(simulated(name), BOOK.rows[name].expected)


@pytest.mark.slow
@pytest.mark.parametrize("arm", REAL)
@pytest.mark.parametrize("name", BOOK.rows)
def test_the_machines_own_tcp_does_the_same(
    name: str, arm: str, measured: Callable[[str], Measured]
) -> None:
    seen = measured(arm)[name]
    if "unavailable" in seen:
        pytest.skip(seen["unavailable"])
    assert not disagreements(seen, simulated(name))
    assert not disagreements(seen, BOOK.rows[name].expected)


@pytest.mark.parametrize(
    "other",
    [
        {"gave": "EPIPE", "gave_up_s": 5.0, "taken_bytes": 1000},
        {"gave": "ETIMEDOUT", "gave_up_s": 5.5, "taken_bytes": 1000},
        {"gave": "ETIMEDOUT", "gave_up_s": 4.5, "taken_bytes": 1000},
        {"gave": "ETIMEDOUT", "gave_up_s": 5.0, "taken_bytes": 100},
        {"gave": "ETIMEDOUT", "gave_up_s": 5.0},
        {"raised": "TooSlowError()"},
    ],
)
def test_arms_that_differ_are_told_apart(other: Seen) -> None:
    seen = {"gave": "ETIMEDOUT", "gave_up_s": 5.0, "taken_bytes": 1000}
    assert not disagreements(seen, dict(seen, gave_up_s=5.1))
    assert disagreements(other, seen)


def test_the_page_has_a_row_for_each_case_and_what_the_simulation_does_in_it() -> None:
    lines = PAGE.read_text().split(BEGIN)[1].split(END)[0].strip().splitlines()
    rows = {cells[1].strip(): cells[2].strip() for cells in (line.split("|") for line in lines[2:])}
    assert rows == {name: told(simulated(name)) for name in BOOK.rows}


@pytest.mark.slow
def test_namespaces_are_removed_whatever_happens() -> None:
    def named() -> str:
        return subprocess.run(
            ["ip", "netns", "list"], capture_output=True, text=True, check=True
        ).stdout

    row = Row()
    try:
        with pytest.raises(ZeroDivisionError), namespaces(1):
            assert row.middle in named()
            raise ZeroDivisionError
    except UnavailableError as error:
        pytest.skip(str(error))
    assert row.middle not in named()
