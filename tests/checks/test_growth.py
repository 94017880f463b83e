"""No check is quadratic: twice the events cost about twice the work, on traces of several shapes."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import FrameType, ModuleType
from typing import Any

import pytest

FILE = Path(__file__).parents[2] / "benchmarks" / "checks.py"
FEW = 3_000
# three times the events: three times the work where it is linear, nine times where it is quadratic
GROWTH_MAX = 4.5


def load() -> ModuleType:
    spec = importlib.util.spec_from_file_location("benchmark_of_checks", FILE)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


BENCHMARK = load()


def lines_run(work: Any) -> int:
    """Return how many lines of Python a call runs: what it costs, on every machine alike."""
    count = 0

    def trace(frame: FrameType, event: str, _: Any) -> Any:
        nonlocal count
        count += event == "line"
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        work()
    finally:
        sys.settrace(before)
    return count


@pytest.mark.slow
@pytest.mark.parametrize("shape", BENCHMARK.SHAPES)
def test_three_times_the_events_cost_three_times_the_work(shape: str) -> None:
    few = BENCHMARK.works(BENCHMARK.made(shape, FEW))
    many = BENCHMARK.works(BENCHMARK.made(shape, 3 * FEW))
    growth = {name: lines_run(many[name]) / lines_run(few[name]) for name in few}
    assert {name: round(rate, 1) for name, rate in growth.items() if rate > GROWTH_MAX} == {}


def test_the_benchmark_measures_every_check() -> None:
    trace = BENCHMARK.made("many connections", 200)
    assert set(BENCHMARK.works(trace)) == {"guards", *BENCHMARK.JUDGES}
