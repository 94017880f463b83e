"""Timers: the kernel's wheel, the waits between retransmissions, and how long each goes on."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chaos.networks.simulated.fabric import Fabric, Timer
from chaos.networks.simulated.timers import (
    RestartedTimer,
    due,
    jiffies,
    patience,
    retransmission_timeout,
    syn_patience,
    syn_wait,
)


def test_a_timer_is_never_early_and_at_most_an_eighth_and_a_tick_late() -> None:
    for wait in (0.0, 0.004, 0.2, 0.252, 1.0, 2.016, 3.3, 16.128, 75.0, 120.0, 7200.0):
        for start in range(50):
            now = start * 0.37
            fires = due(now, wait)
            assert fires > now + wait
            assert fires - now <= max(wait, 0.004) * 1.128 + 0.0081


def test_a_timer_at_the_moment_of_a_tick_waits_for_the_whole_of_it() -> None:
    # sums of floats must not lose a tick, or a timer might fire at the time at which it was set
    now = 0.0
    for _ in range(10_000):
        later = due(now, 0.004)
        assert later > now + 0.0039
        now = later


@pytest.mark.parametrize(("seconds", "ticks"), [(0.2, 50), (0.20005, 51), (0.204, 51), (1.0, 250)])
def test_waits_are_rounded_up_to_ticks(seconds: float, ticks: int) -> None:
    assert jiffies(seconds) == ticks


def test_the_least_timeout_is_a_tick_above_200_ms_on_a_fast_path() -> None:
    assert retransmission_timeout(0.000_05) == pytest.approx(0.204)
    assert retransmission_timeout(0.3) == pytest.approx(0.5)


@pytest.mark.parametrize(("retries", "seconds"), [(3, 3.0), (5, 12.6), (8, 102.2), (15, 924.6)])
def test_patience_is_the_time_that_linux_documents(retries: int, seconds: float) -> None:
    # 15 → 924.6 s: Documentation/networking/ip-sysctl.rst, tcp_retries2
    assert patience(retries) == pytest.approx(seconds)


def test_syns_are_sent_as_linux_documents() -> None:
    # Documentation/networking/ip-sysctl.rst, tcp_syn_retries: the last one at 67 s, the end at 131 s
    times = [sum(syn_wait(before) for before in range(number)) for number in range(12)]
    sent = [at_s for at_s in times if at_s < syn_patience(6)]
    assert sent == [0, 1, 2, 3, 4, 5, 7, 11, 19, 35, 67]
    assert min(at_s for at_s in times if at_s >= syn_patience(6)) == 131


@given(
    st.lists(
        st.tuples(
            st.floats(0, 1),
            st.one_of(st.none(), st.sampled_from([0.004, 0.05, 0.2, 0.4, 3.0])),
        ),
        max_size=30,
    )
)
def test_a_restarted_timer_fires_when_one_that_is_set_anew_each_time_does(
    changes: list[tuple[float, float | None]],
) -> None:
    """Each change comes some time after the last: a start with a wait, or a stop."""

    def fired(*, lazy: bool) -> list[float]:
        fabric = Fabric()
        times: list[float] = []
        timer = RestartedTimer(fabric)
        plain: list[Timer] = []

        def change(wait_s: float | None) -> None:
            for old in plain:
                old.cancel()
            plain.clear()
            if wait_s is None:
                timer.stop()
            elif lazy:
                timer.start(wait_s, lambda: times.append(fabric.now))
            else:
                plain.append(fabric.at(due(fabric.now, wait_s), lambda: times.append(fabric.now)))

        for after_s, wait_s in changes:
            fabric.advance(fabric.now + after_s)
            change(wait_s)
        fabric.advance(fabric.now + 60)
        return times

    assert fired(lazy=True) == fired(lazy=False)
