"""How many workers fit: the soft limit of open files is raised, and the hard one is kept to."""

from __future__ import annotations

import resource

import pytest

from chaos.running import environment
from chaos.running.environment import (
    DESCRIPTORS_OF_PARENT,
    DESCRIPTORS_PER_WORKER,
    workers_that_fit,
)


@pytest.mark.parametrize(
    ("limits", "wanted", "raised", "fit"),
    [
        ((1024, 4096), 10, 1024, 10),
        ((1024, 4096), 360, 10 + DESCRIPTORS_OF_PARENT + 360 * DESCRIPTORS_PER_WORKER, 360),
        ((256, 1024), 360, 1024, (1024 - 10 - DESCRIPTORS_OF_PARENT) // DESCRIPTORS_PER_WORKER),
        ((64, 64), 360, 64, 1),
        ((resource.RLIM_INFINITY, resource.RLIM_INFINITY), 9999, resource.RLIM_INFINITY, 9999),
    ],
)
def test_the_limit_is_raised_and_no_more_are_started_than_fit(
    monkeypatch: pytest.MonkeyPatch, limits: tuple[int, int], wanted: int, raised: int, fit: int
) -> None:
    now = [limits]
    monkeypatch.setattr(resource, "getrlimit", lambda _: now[-1])
    monkeypatch.setattr(resource, "setrlimit", lambda _, given: now.append(given))
    monkeypatch.setattr(environment, "_open_descriptors", lambda: 10)
    assert workers_that_fit(wanted) == fit
    assert now[-1] == (raised, limits[1])
