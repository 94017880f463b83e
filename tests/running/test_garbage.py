"""Garbage of a run on real sockets: often what is young, rarely all, and how long that took is known."""

from __future__ import annotations

import gc
from itertools import count

import pytest

from chaos.running import garbage
from chaos.running.garbage import ALL_S, Collector


@pytest.fixture
def collected(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    generations: list[int] = []
    times = count(step=4)  # each look at the clock takes so long
    monkeypatch.setattr(garbage, "perf_counter", lambda: float(next(times)))
    monkeypatch.setattr(gc, "collect", generations.append)
    return generations


def test_all_is_collected_only_now_and_then(collected: list[int]) -> None:
    collector = Collector()
    for _ in range(6):
        collector.collect_some()
    assert ALL_S == 30.0
    assert collected == [1, 1, 1, 2, 1, 1]
    assert collector.spent_s == 4.0 * len(collected)


def test_nobody_else_collects_meanwhile() -> None:
    assert gc.isenabled()
    with Collector().in_charge():
        assert not gc.isenabled()
    assert gc.isenabled()
