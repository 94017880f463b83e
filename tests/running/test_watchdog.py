"""What is given up, and when: by time, by standing still, by memory; on a busy machine later."""

from __future__ import annotations

import threading
import time

import pytest

from chaos.running import watchdog
from chaos.running.watchdog import Watchdog, Watched, memory_of_process, spent_s


def watched(**settings: object) -> Watched:
    return Watched(**({"give_up": print, "what": "it", "real_s": 100.0} | settings))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("wall_s", "computed_s", "spent"),
    [
        (4.0, 4.0, 4.0),  # it computes, and has the machine for itself
        (4.0, 0.0, 4.0),  # it waits
        (4.0, 0.4, 4.0),
        (4.0, 3.0, 3.0),  # it computes, and so do others
        (4.0, 1.0, 2.0),
        (4.0, 7.0, 4.0),  # in two threads
    ],
)
def test_who_computes_is_not_charged_for_what_others_get(
    wall_s: float, computed_s: float, spent: float
) -> None:
    assert spent_s(wall_s, computed_s) == spent


def test_what_takes_too_long_is_given_up() -> None:
    task = watched(real_s=3.0)
    assert [task.why_end(1.0) is None for _ in range(4)] == [True, True, False, False]


def test_what_stands_still_is_given_up_and_what_goes_on_is_not() -> None:
    at = 0.0
    task = watched(progress=lambda: at, still_s=2.0)
    for _ in range(10):
        at += 0.1
        assert task.why_end(1.5) is None
    assert task.why_end(1.0) is None
    why = task.why_end(1.0)
    assert why is not None
    assert "2 s" in why


def test_what_fills_the_memory_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    task = watched(memory_bytes=100 << 20)
    before = memory_of_process()
    monkeypatch.setattr(watchdog, "memory_of_process", lambda: before + (90 << 20))
    assert task.why_end(0.1) is None
    monkeypatch.setattr(watchdog, "memory_of_process", lambda: before + (130 << 20))
    why = task.why_end(0.1)
    assert why is not None
    assert "at most 100 MB" in why


def test_the_place_is_that_of_the_main_thread() -> None:
    found: list[str | None] = []
    thread = threading.Thread(target=lambda: found.append(watchdog.place_in_main_thread()))
    thread.start()
    thread.join()
    assert found[0] is not None
    assert found[0].startswith("test_watchdog.py:")


def test_the_watchdog_looks_until_nothing_is_watched(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watchdog, "LOOK_S", 0.005)
    whys: list[str] = []
    given_up = threading.Event()

    def give_up(why: str) -> None:
        whys.append(why)
        given_up.set()

    dog = Watchdog()
    with dog.watching(watched(real_s=60.0, give_up=give_up)):
        dog.start()
        time.sleep(0.05)
    assert whys == []
    with dog.watching(watched(real_s=0.02, give_up=give_up)):
        assert given_up.wait(10.0)
    assert len(whys) >= 1
