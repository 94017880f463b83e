"""What must hold of every pipe, whatever is in it and however it is driven."""

from __future__ import annotations

from random import Random

from hypothesis import given
from hypothesis import strategies as st

from chaos.faults.machine import Flows
from chaos.faults.pipe import Pipe, Stage
from chaos.faults.units import Cut, Data, Fin, Timed, Unit
from chaos.vocabulary.faults import Blackhole, DelayFrames, DropFrames, Stall
from chaos.vocabulary.toxics import (
    Bandwidth,
    Latency,
    LimitData,
    Noop,
    ResetPeer,
    Slicer,
    SlowClose,
    Timeout,
)

small = st.integers(0, 300)
keeping = st.one_of(
    st.builds(Latency, latency=small, jitter=small),
    st.builds(Bandwidth, rate=st.integers(1, 50)),
    st.builds(SlowClose, delay=small),
    st.builds(
        Slicer, average_size=st.integers(0, 40), size_variation=st.integers(0, 40), delay=small
    ),
    st.builds(Noop),
    st.builds(Stall),
    st.builds(Bandwidth, rate=st.just(0)),
)
anything = st.one_of(
    keeping,
    st.builds(LimitData, bytes=st.integers(0, 200)),
    st.builds(Timeout, timeout=small),
    st.builds(ResetPeer, timeout=small),
    st.builds(Blackhole),
)
chunks = st.lists(
    st.tuples(st.integers(0, 200), st.binary(min_size=1, max_size=60)), min_size=1, max_size=12
)
polls = st.lists(st.integers(0, 400), max_size=20)
HORIZON_S = 10_000.0


def make_pipe(toxics: list[object], seed: int = 0) -> Pipe:
    pipe = Pipe(
        stream="upstream", flows=Flows(opened_s=0.0), rng_for=lambda key: Random(f"{seed}/{key}")
    )
    pipe.replace(0.0, [Stage(key=f"{n}", settings=toxic) for n, toxic in enumerate(toxics)])  # type: ignore[arg-type]
    return pipe


def payload_of(out: list[Timed]) -> bytes:
    return b"".join(timed.unit.payload for timed in out if isinstance(timed.unit, Data))


@given(st.lists(keeping, max_size=4), chunks)
def test_order_and_content_are_kept_and_the_fin_comes_last(
    toxics: list[object], sent: list[tuple[int, bytes]]
) -> None:
    pipe = make_pipe(toxics)
    now = 0.0
    for wait_ms, payload in sent:
        now += wait_ms / 1000
        pipe.feed(now, Data(payload))
    pipe.feed(now, Fin())
    pipe.replace(HORIZON_S, [])
    out = pipe.advance(HORIZON_S)
    assert payload_of(out) == b"".join(payload for _, payload in sent)
    assert [timed.unit for timed in out if not isinstance(timed.unit, Data)] == [Fin()]
    assert out[-1].unit == Fin()
    times = [timed.at_s for timed in out]
    assert times == sorted(times)
    assert pipe.buffered == 0


@given(st.lists(anything, max_size=4), chunks, polls)
def test_how_often_it_is_polled_does_not_change_what_comes_out_or_when(
    toxics: list[object], sent: list[tuple[int, bytes]], poll_ms: list[int]
) -> None:
    def drive(extra: list[float]) -> list[Timed]:
        pipe = make_pipe(toxics)
        steps: list[tuple[float, int, Unit | None]] = [(at_s, 1, None) for at_s in extra]
        now = 0.0
        for wait_ms, payload in sent:
            now += wait_ms / 1000
            steps.append((now, 0, Data(payload)))
        out: list[Timed] = []
        for at_s, _, unit in sorted(steps, key=lambda step: step[:2]):
            if unit is not None:
                pipe.feed(at_s, unit)
            else:
                out += pipe.advance(at_s)
        return out + pipe.advance(HORIZON_S)

    assert drive([ms / 1000 for ms in poll_ms]) == drive([])


@given(st.lists(anything, min_size=1, max_size=4), chunks)
def test_what_comes_out_is_a_prefix_unless_a_toxic_discards(
    toxics: list[object], sent: list[tuple[int, bytes]]
) -> None:
    pipe = make_pipe(toxics)
    now = 0.0
    for wait_ms, payload in sent:
        now += wait_ms / 1000
        pipe.feed(now, Data(payload))
    out = payload_of(pipe.advance(HORIZON_S))
    assert b"".join(payload for _, payload in sent).startswith(out)


@given(
    st.lists(st.lists(keeping, max_size=3), min_size=1, max_size=8),
    st.lists(st.binary(min_size=1, max_size=60), min_size=1, max_size=8),
    st.integers(0, 150),
)
def test_nothing_is_lost_or_reordered_through_live_changes(
    chains: list[list[object]], payloads: list[bytes], wait_ms: int
) -> None:
    pipe = make_pipe([])
    now = 0.0
    out: list[Timed] = []
    for number in range(max(len(chains), len(payloads))):
        now += wait_ms / 1000
        if number < len(chains):
            pipe.replace(
                now,
                [
                    Stage(key=f"{type(t).__name__}{n}", settings=t)
                    for n, t in enumerate(chains[number])
                ],  # type: ignore[arg-type]
            )
        if number < len(payloads):
            pipe.feed(now, Data(payloads[number]))
        out += pipe.advance(now)
    pipe.replace(HORIZON_S, [])
    out += pipe.advance(HORIZON_S)
    assert payload_of(out) == b"".join(payloads)


def test_nothing_comes_out_after_a_cut() -> None:
    pipe = make_pipe([LimitData(bytes=1)])
    pipe.feed(0.0, Data(b"ab"))
    pipe.feed(1.0, Data(b"c"))
    pipe.feed(1.0, Fin())
    assert [timed.unit for timed in pipe.advance(9.0)] == [Data(b"a"), Cut()]


def test_a_stall_holds_the_fin_too_and_heals_without_loss() -> None:
    pipe = make_pipe([Stall()])
    pipe.feed(1.0, Data(b"held"))
    pipe.feed(2.0, Fin())
    assert pipe.advance(99.0) == []
    assert pipe.felt() == [("0", "held 4 bytes")]
    pipe.replace(100.0, [])
    assert pipe.advance(100.0) == [Timed(100.0, Data(b"held")), Timed(100.0, Fin())]


def test_a_stall_pushes_back_after_4_mib_only() -> None:
    pipe = make_pipe([Stall()])
    pipe.feed(0.0, Data(b"x" * (4 * 1024 * 1024 - 1)))
    assert not pipe.full
    pipe.feed(0.0, Data(b"x"))
    assert pipe.full


def test_a_connection_that_met_a_blackhole_stays_dead_after_it() -> None:
    pipe = make_pipe([Blackhole()])
    assert pipe.dead
    pipe.replace(5.0, [])
    pipe.feed(6.0, Data(b"x"))
    pipe.feed(7.0, Fin())
    assert pipe.advance(99.0) == []
    assert pipe.dead


def test_a_second_blackhole_may_follow_a_first_on_the_same_connection() -> None:
    pipe = make_pipe([Blackhole()])
    pipe.replace(1.0, [])
    pipe.replace(2.0, [Stage(key="0", settings=Blackhole())])
    pipe.feed(3.0, Data(b"x"))
    assert pipe.advance(99.0) == []


def test_what_is_felt_is_told_once() -> None:
    pipe = make_pipe([Latency(latency=1), DropFrames(opcodes=("pong",)), DelayFrames(delay="1s")])
    assert pipe.felt() == []
    pipe.feed(0.0, Data(b"x"))
    pipe.feed(0.0, Data(b"x"))
    assert pipe.felt() == [("0", "delayed")]
    assert pipe.felt() == []


def test_a_pipe_that_is_dead_does_not_grow() -> None:
    pipe = make_pipe([])
    for number in range(100):
        pipe.replace(number, [Stage(key=f"b{number}", settings=Blackhole())])
        pipe.feed(number, Data(b"lost"))
        assert [key for key, _ in pipe.felt()] == ([f"b{number}"] if number == 0 else [])
    pipe.replace(100.0, [])
    assert pipe.dead
    assert len(pipe.active) == 1
