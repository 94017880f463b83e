"""The heartbeat's arithmetic, on virtual time."""

from __future__ import annotations

from typing import Any

import pytest
import trio

from chaos.reference.heartbeat import until_dead
from chaos.scenario.model import Heartbeat

OPTIONS = Heartbeat.model_construct(interval_s=5, timeout_s=3)


@pytest.mark.parametrize(
    ("answers", "misses", "dead_at_s"),
    [
        ([False], 1, 8),
        ([True, True, False], 1, 5.5 + 5.5 + 8),
        ([False, False, False], 3, 24),
        ([False, True, False, False], 2, 8 + 5.5 + 16),
    ],
)
async def test_death_is_so_many_misses_in_a_row(
    autojump_clock: Any, answers: list[bool], misses: int, dead_at_s: float
) -> None:
    asked_s: list[float] = []

    async def ping(timeout_s: float, rest_s: float) -> bool:
        asked_s.append(trio.current_time())
        came = answers.pop(0)
        await trio.sleep(0.5 + rest_s if came else timeout_s)
        return came

    await until_dead(ping, OPTIONS, misses)
    assert trio.current_time() == dead_at_s
    assert asked_s[0] == 5
    assert not answers
