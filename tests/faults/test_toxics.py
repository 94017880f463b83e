"""Toxiproxy's toxics, as literal schedules: what goes in when, what comes out when.

Figures are those measured on the real server (toxiproxy 2.12.0), where they are not this project's own.
"""

from __future__ import annotations

from random import Random

import pytest

from chaos.faults.machine import Flows
from chaos.faults.pipe import Pipe, Stage
from chaos.faults.toxics import slice_chunk
from chaos.faults.units import Cut, Data, Fin, Rst, Unit
from chaos.vocabulary.toxics import (
    Bandwidth,
    Latency,
    LimitData,
    Noop,
    ResetPeer,
    Slicer,
    SlowClose,
    Timeout,
    Toxic,
)


def make_pipe(*toxics: Toxic, now: float = 0.0) -> Pipe:
    pipe = Pipe(
        stream="downstream", flows=Flows(opened_s=now), rng_for=lambda key: Random(f"seed/{key}")
    )
    pipe.replace(now, stages(*toxics))
    return pipe


def stages(*toxics: Toxic) -> list[Stage]:
    return [Stage(key=f"{number}", settings=toxic) for number, toxic in enumerate(toxics)]


def run(pipe: Pipe, *units: tuple[float, Unit], until: float = 1e6) -> list[tuple[float, Unit]]:
    for at_s, unit in units:
        pipe.feed(at_s, unit)
    return [(round(timed.at_s, 6), timed.unit) for timed in pipe.advance(until)]


def data(payload: bytes) -> Data:
    return Data(payload)


def test_latency_delays_each_chunk_and_keeps_order() -> None:
    out = run(make_pipe(Latency(latency=100)), (0.0, data(b"a")), (0.01, data(b"b")))
    assert out == [(0.1, data(b"a")), (0.11, data(b"b"))]


def test_chained_latencies_add_up_under_load() -> None:
    pipe = make_pipe(Latency(latency=100), Latency(latency=100))
    out = run(pipe, *((n / 100, data(b"%d" % n)) for n in range(50)))
    assert [at_s for at_s, _ in out] == [round(0.2 + n / 100, 6) for n in range(50)]


def test_fin_is_not_delayed_by_latency_but_follows_the_last_byte() -> None:
    assert run(make_pipe(Latency(latency=500)), (0.0, Fin())) == [(0.0, Fin())]
    out = run(make_pipe(Latency(latency=500)), (0.0, data(b"x")), (0.0, Fin()))
    assert out == [(0.5, data(b"x")), (0.5, Fin())]


def test_jitter_is_uniform_around_the_latency_and_never_reorders() -> None:
    pipe = make_pipe(Latency(latency=20, jitter=15))
    sent = [n * 1.0 for n in range(200)]
    out = run(pipe, *((at_s, data(b"%d" % n)) for n, at_s in enumerate(sent)))
    delays_ms = [(at_s - start) * 1000 for (at_s, _), start in zip(out, sent, strict=True)]
    assert [unit for _, unit in out] == [data(b"%d" % n) for n in range(200)]
    assert min(delays_ms) >= 5 - 1e-3
    assert max(delays_ms) <= 35 + 1e-3
    assert 18 < sum(delays_ms) / len(delays_ms) < 22


def test_updating_latency_releases_one_chunk_and_times_the_rest_anew() -> None:
    pipe = make_pipe(Latency(latency=5000))
    for n in range(3):
        pipe.feed(n * 0.1, data(b"%d" % n))
    pipe.replace(1.0, stages(Latency(latency=1500)))
    out = run(pipe)
    assert out == [(1.0, data(b"0")), (1.6, data(b"1")), (1.7, data(b"2"))]


def test_removing_latency_flushes_in_order_at_once() -> None:
    pipe = make_pipe(Latency(latency=5000))
    for n in range(3):
        pipe.feed(n * 0.1, data(b"%d" % n))
    pipe.replace(1.0, [])
    assert run(pipe) == [(1.0, data(b"%d" % n)) for n in range(3)]


def test_adding_a_toxic_behind_does_not_disturb_what_is_held() -> None:
    pipe = make_pipe(Latency(latency=2000))
    pipe.feed(0.0, data(b"x"))
    pipe.replace(1.0, stages(Latency(latency=2000), Noop()))
    assert run(pipe) == [(2.0, data(b"x"))]


def test_bandwidth_delays_before_the_bytes_and_counts_a_kilobyte_as_1000_bytes() -> None:
    assert run(make_pipe(Bandwidth(rate=100)), (0.0, data(b"x" * 5000))) == [
        (0.05, data(b"x" * 5000))
    ]


def test_bandwidth_sends_long_chunks_in_pieces_of_100_ms() -> None:
    out = run(make_pipe(Bandwidth(rate=1)), (0.0, data(b"x" * 250)), (0.0, Fin()))
    assert out == [
        (0.1, data(b"x" * 100)),
        (0.2, data(b"x" * 100)),
        (0.25, data(b"x" * 50)),
        (0.25, Fin()),
    ]


def test_bandwidth_gives_no_credit_for_idle_time() -> None:
    out = run(make_pipe(Bandwidth(rate=1)), (0.0, data(b"a" * 10)), (5.0, data(b"b" * 10)))
    assert [at_s for at_s, _ in out] == [0.01, 5.01]


def test_bandwidth_0_holds_everything_and_removal_releases_it() -> None:
    pipe = make_pipe(Bandwidth(rate=0))
    pipe.feed(0.0, data(b"a"))
    pipe.feed(0.1, data(b"b"))
    pipe.feed(0.2, Fin())
    assert pipe.advance(100.0) == []
    assert pipe.wake_at() is None
    pipe.replace(200.0, [])
    assert run(pipe) == [(200.0, data(b"a")), (200.0, data(b"b")), (200.0, Fin())]


def test_updating_bandwidth_releases_the_current_chunk_and_paces_the_next() -> None:
    pipe = make_pipe(Bandwidth(rate=1))
    pipe.feed(0.0, data(b"a" * 1000))
    pipe.feed(0.0, data(b"b" * 1000))
    pipe.replace(0.15, stages(Bandwidth(rate=10)))
    out = run(pipe)
    assert out[0] == (0.1, data(b"a" * 100))
    assert out[1] == (0.15, data(b"a" * 900))
    assert b"".join(u.payload for _, u in out if isinstance(u, Data)) == b"a" * 1000 + b"b" * 1000
    assert out[-1][0] == 0.25


def test_a_slow_stage_asks_for_back_pressure_and_stops_asking_when_it_has_drained() -> None:
    pipe = make_pipe(Bandwidth(rate=1))
    for _ in range(4):
        pipe.feed(0.0, data(b"x" * 32 * 1024))
    assert pipe.full
    assert pipe.buffered == 128 * 1024
    pipe.advance(10_000.0)
    assert not pipe.full
    assert pipe.buffered == 0


def test_slow_close_holds_only_the_end_of_the_stream() -> None:
    out = run(make_pipe(SlowClose(delay=300)), (0.0, data(b"x")), (1.0, Fin()))
    assert out == [(0.0, data(b"x")), (1.3, Fin())]


def test_updating_slow_close_starts_its_delay_anew_and_removal_ends_it() -> None:
    pipe = make_pipe(SlowClose(delay=300))
    pipe.feed(1.0, Fin())
    pipe.replace(1.2, stages(SlowClose(delay=500)))
    assert pipe.wake_at() == pytest.approx(1.7)
    pipe.replace(1.4, [])
    assert run(pipe) == [(1.4, Fin())]


def test_timeout_discards_data_and_closes_after_idle_time_only() -> None:
    units = [(n / 10, data(b"x")) for n in range(13)]
    assert run(make_pipe(Timeout(timeout=300)), *units) == [(1.5, Cut())]


def test_timeout_0_never_closes_by_itself_but_its_removal_does() -> None:
    pipe = make_pipe(Timeout(timeout=0))
    pipe.feed(0.0, data(b"x"))
    assert pipe.advance(1e5) == []
    pipe.replace(1e5, [])
    assert run(pipe) == [(1e5, Cut())]


def test_timeout_closes_at_once_at_the_end_of_the_stream() -> None:
    assert run(make_pipe(Timeout(timeout=0)), (2.0, Fin())) == [(2.0, Cut())]


def test_a_timeout_that_toxicity_did_not_select_touches_nothing_even_when_removed() -> None:
    pipe = make_pipe()
    pipe.replace(0.0, [Stage(key="0", settings=Timeout(timeout=0), toxicity=0.0)])
    pipe.feed(0.0, data(b"x"))
    pipe.replace(1.0, [])
    assert run(pipe) == [(0.0, data(b"x"))]
    assert pipe.felt() == []


def test_reset_peer_discards_the_first_chunk_waits_and_resets() -> None:
    out = run(make_pipe(ResetPeer(timeout=200)), (1.0, data(b"a")), (1.1, data(b"b")))
    assert out == [(1.2, Cut(rst=True))]


def test_reset_peer_is_triggered_by_a_fin_and_leaves_an_idle_connection_alone() -> None:
    assert run(make_pipe(ResetPeer(timeout=0)), (3.0, Fin())) == [(3.0, Cut(rst=True))]
    assert run(make_pipe(ResetPeer(timeout=0))) == []


def test_removing_reset_peer_before_it_was_triggered_leaves_the_connection_usable() -> None:
    pipe = make_pipe(ResetPeer(timeout=100))
    pipe.replace(1.0, [])
    assert run(pipe, (2.0, data(b"x"))) == [(2.0, data(b"x"))]


def test_removing_a_triggered_reset_peer_resets_since_bytes_are_gone() -> None:
    pipe = make_pipe(ResetPeer(timeout=1000))
    pipe.feed(0.0, data(b"x"))
    pipe.replace(0.5, [])
    assert run(pipe) == [(0.5, Cut(rst=True))]


def test_slicer_halves_chunks_into_pieces_of_at_most_the_average() -> None:
    pieces = slice_chunk(b"x" * 100, 10, 0, Random(1))
    assert [len(piece) for piece in pieces] == [6, 6, 6, 7] * 4
    assert len(slice_chunk(b"x" * 32768, 100, 0, Random(1))) == 512


def test_slicer_waits_after_every_piece_in_microseconds() -> None:
    out = run(make_pipe(Slicer(average_size=2, delay=500)), (0.0, data(b"abcd")), (0.0, Fin()))
    assert out == [(0.0, data(b"ab")), (0.0005, data(b"cd")), (0.001, Fin())]


@pytest.mark.parametrize(
    ("average", "variation"), [(0, 0), (0, 5), (1, 1), (1, 100), (3, 3), (5, 9)]
)
def test_slicer_ends_for_settings_that_crash_the_original(average: int, variation: int) -> None:
    payload = bytes(range(200))
    toxic = Slicer(average_size=average, size_variation=variation)
    out = run(make_pipe(toxic), (0.0, data(payload)))
    assert b"".join(u.payload for _, u in out if isinstance(u, Data)) == payload


def test_limit_data_closes_exactly_at_the_limit() -> None:
    out = run(make_pipe(LimitData(bytes=5)), (0.0, data(b"abc")), (1.0, data(b"defg")))
    assert out == [(0.0, data(b"abc")), (1.0, data(b"de")), (1.0, Cut())]
    assert run(make_pipe(LimitData(bytes=3)), (0.0, data(b"abc"))) == [
        (0.0, data(b"abc")),
        (0.0, Cut()),
    ]


def test_limit_data_0_closes_with_the_first_byte_only() -> None:
    pipe = make_pipe(LimitData(bytes=0))
    assert pipe.advance(100.0) == []
    assert run(pipe, (100.0, data(b"x"))) == [(100.0, Cut())]


def test_limit_data_keeps_its_count_through_an_update_and_a_lower_limit_waits_for_a_chunk() -> None:
    pipe = make_pipe(LimitData(bytes=100))
    pipe.feed(0.0, data(b"x" * 60))
    pipe.replace(1.0, stages(LimitData(bytes=50)))
    assert run(pipe, until=1.5) == [(0.0, data(b"x" * 60))]
    assert run(pipe, (2.0, data(b"y"))) == [(2.0, Cut())]


def test_rst_keeps_its_place_behind_the_data() -> None:
    out = run(make_pipe(Latency(latency=100)), (0.0, data(b"x")), (0.0, Rst()))
    assert out == [(0.1, data(b"x")), (0.1, Rst())]


def test_toxicity_is_drawn_once_per_connection_and_again_only_when_it_changes() -> None:
    def drawn(pipe: Pipe, at_s: float) -> bool:
        pipe.advance(at_s)
        pipe.feed(at_s, data(b"x"))
        return pipe.advance(at_s) == []

    flips = selected = 0
    for seed in range(60):
        pipe = Pipe(
            stream="upstream",
            flows=Flows(opened_s=0.0),
            rng_for=lambda key, seed=seed: Random(f"{seed}/{key}"),  # type: ignore[misc]
        )
        pipe.replace(0.0, [Stage(key="0", settings=Latency(latency=10), toxicity=0.5)])
        first = drawn(pipe, 0.0)
        selected += first
        pipe.replace(1.0, [Stage(key="0", settings=Latency(latency=20), toxicity=0.5)])
        assert drawn(pipe, 1.0) == first
        pipe.replace(2.0, [Stage(key="0", settings=Latency(latency=20), toxicity=0.51)])
        flips += drawn(pipe, 2.0) != first
    assert 15 < selected < 45
    assert 10 < flips < 50
