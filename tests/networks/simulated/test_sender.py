"""What saves work in the sending half of a connection changes nothing that a program sees."""

from __future__ import annotations

import math
from collections.abc import Callable
from random import Random
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from chaos.networks.simulated.endpoint import Endpoint, establish
from chaos.networks.simulated.fabric import Fabric, Timer
from chaos.networks.simulated.linux import expiry_s
from chaos.networks.simulated.paths import constant, lossy
from chaos.networks.simulated.sender import RetransmissionTimer

SET_UNQUEUED = RetransmissionTimer.set_unqueued
DELAYS_S = [0.0, 0.000_025, 0.05, 0.15, 0.3, 2.0]

sends = st.tuples(st.just("send"), st.integers(0, 1), st.sampled_from([1, 3, 70_000, 500_000]))
verbs = st.one_of(
    sends,
    sends,
    st.tuples(st.just("read"), st.integers(0, 1), st.sampled_from([1, 100_000, 1_000_000])),
    st.tuples(st.just("up"), st.integers(0, 1), st.booleans()),
    st.tuples(st.just("delay"), st.integers(0, 1), st.sampled_from(DELAYS_S)),
    st.tuples(st.just("loss"), st.integers(0, 1), st.sampled_from([0.0, 0.3, 0.9])),
    st.tuples(
        st.sampled_from(["close", "shutdown", "reset", "lose_power"]), st.integers(0, 1), st.none()
    ),
)
steps = st.lists(
    st.tuples(st.sampled_from([0.0, 0.0, 0.000_03, 0.1, 0.25, 1.0]), verbs), min_size=4, max_size=25
)
thorough = settings(max_examples=500)


def happened(script: list[Any]) -> list[Any]:
    """Return all that the two ends of a connection saw, and when."""
    fabric = Fabric()
    paths = [fabric.path("a", "b"), fabric.path("b", "a")]
    ends = [Endpoint(fabric, path) for path in paths]
    seen: list[Any] = []

    def noting(number: int, end: Endpoint) -> Callable[[], None]:
        def note() -> None:
            state = (
                *(len(end.rcv_buffer), end.state, end.error, end._fin_received),
                *(end.is_polled_writable(), end.sender.is_busy),
            )
            seen.append((fabric.now, number, *state))

        return note

    for number, end in enumerate(ends):
        end.options.retries = 4
        end.on_change = noting(number, end)
    ends[0].open_actively()
    establish(*ends, 0.000_05)
    for after_s, (verb, number, value) in script:
        fabric.advance(fabric.now + after_s)
        act(ends[number], verb, value)
        senders = [end.sender for end in ends]
        seen += [(fabric.now, row.srtt_s, row.rto_s, row._window_probes) for row in senders]
    fabric.advance(fabric.now + 300)
    return seen


def act(end: Endpoint, verb: str, value: Any) -> None:
    path = end.path_out
    if verb == "send":
        if end.state.may_send:
            end.send(b"x" * value)
    elif verb == "read":
        if not end._is_orphan and end.rcv_buffer:
            end.receive(value)
    elif verb == "up":
        path.up = value
    elif verb == "delay":
        path.delay = constant(value)
    elif verb == "loss":
        path.loss = lossy(Random(1), value)
    else:
        getattr(end, verb)()


def set_queued(timer: RetransmissionTimer, wait_s: float, action: Callable[[], None]) -> None:
    SET_UNQUEUED(timer, wait_s, action)
    timer.ensure_queued()


@thorough
@given(script=steps)
@example(script=[(0.0, ("send", 0, 1)), (0.0, ("up", 1, False)), (1.0, ("up", 1, True))])
@example(script=[(0.0, ("delay", 0, 0.15)), (0.0, ("delay", 1, 0.15)), (0.0, ("send", 0, 1))])
@example(script=[(0.0, ("send", 0, 1)), (0.0, ("up", 1, False)), (0.0, ("lose_power", 1, None))])
@example(script=[(0.0, ("delay", 1, 0.3)), (0.0, ("send", 0, 1)), (1.0, ("read", 0, 1))])
@example(script=[(0.0, ("delay", 0, 0.3)), (0.0, ("send", 0, 1)), (1.0, ("read", 0, 1))])
def test_a_timer_that_is_not_queued_would_not_have_fired(script: list[Any]) -> None:
    lazy = happened(script)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(RetransmissionTimer, "set_unqueued", set_queued)
        assert happened(script) == lazy


@thorough
@given(script=steps)
@example(script=[(0.0, ("delay", 0, 2.0)), (0.0, ("send", 0, 1)), (0.0, ("send", 1, 1))])
def test_packets_in_a_queue_of_their_own_arrive_in_the_order_of_the_heap(script: list[Any]) -> None:
    queued = happened(script)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Fabric, "deliver", Fabric.at)
        assert happened(script) == queued


def test_an_undisturbed_exchange_leaves_no_timer_behind() -> None:
    fabric = Fabric()
    ends = [Endpoint(fabric, fabric.path("a", "b")), Endpoint(fabric, fabric.path("b", "a"))]
    ends[0].open_actively()
    establish(*ends)
    ends[0].send(b"question")
    fabric.advance(0.01)
    ends[1].send(b"answer")
    fabric.advance(0.02)
    assert (bytes(ends[1].rcv_buffer), bytes(ends[0].rcv_buffer)) == (b"question", b"answer")
    assert not fabric.advance(math.inf)


@given(
    st.lists(
        st.tuples(
            st.floats(0, 1),
            st.one_of(st.none(), st.sampled_from([0.004, 0.05, 0.2, 0.4, 3.0])),
        ),
        max_size=30,
    )
)
def test_a_timer_that_is_set_anew_expires_when_one_that_is_set_anew_each_time_does(
    changes: list[tuple[float, float | None]],
) -> None:
    """Each change comes some time after the last: a wait, or a stop."""

    def fired(*, lazy: bool) -> list[float]:
        fabric = Fabric()
        times: list[float] = []
        timer = RetransmissionTimer(fabric)
        plain: list[Timer] = []

        def change(wait_s: float | None) -> None:
            for old in plain:
                old.cancel()
            plain.clear()
            if wait_s is None:
                timer.stop()
            elif lazy:
                timer.set(wait_s, lambda: times.append(fabric.now))
            else:
                plain.append(
                    fabric.call_at(expiry_s(fabric.now, wait_s), lambda: times.append(fabric.now))
                )

        for after_s, wait_s in changes:
            fabric.advance(fabric.now + after_s)
            change(wait_s)
        fabric.advance(fabric.now + 60)
        return times

    assert fired(lazy=True) == fired(lazy=False)
