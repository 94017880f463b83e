"""Middleboxes end flows by their own clocks, and what keeps a flow alive is what they count."""

from __future__ import annotations

from random import Random

import pytest

from chaos.faults.machine import Flows
from chaos.faults.pipe import Pipe, Stage
from chaos.faults.units import Cut, Data, Timed, Unit
from chaos.trace import Stream
from chaos.vocabulary.faults import IdleTimeout, MaxLifetime

HEAD = b"GET / HTTP/1.1\r\n\r\n"
PING = b"\x89\x80\x00\x00\x00\x00"
TEXT = b"\x81\x81\x00\x00\x00\x00a"


class Flow:
    """Both directions of one connection through one middlebox."""

    def __init__(self, settings: IdleTimeout | MaxLifetime, added_s: float = 0.0) -> None:
        flows = Flows(opened_s=0.0)
        streams: tuple[Stream, Stream] = ("upstream", "downstream")
        self.pipes = {
            stream: Pipe(stream=stream, flows=flows, rng_for=lambda key: Random(key))
            for stream in streams
        }
        self.stage = Stage(key="0", settings=settings)
        for pipe in self.pipes.values():
            pipe.replace(added_s, [self.stage])

    def send(self, stream: Stream, now: float, payload: bytes = b"x") -> list[Unit]:
        self.pipes[stream].feed(now, Data(payload))
        return [timed.unit for timed in self.pipes[stream].advance(now)]

    def cut_at(self, now: float) -> list[Timed]:
        return [
            timed
            for pipe in self.pipes.values()
            for timed in pipe.advance(now)
            if isinstance(timed.unit, Cut)
        ]

    def remove(self, now: float) -> None:
        for pipe in self.pipes.values():
            pipe.replace(now, [])


def test_an_idle_flow_is_closed_after_its_limit_and_traffic_either_way_keeps_it() -> None:
    flow = Flow(IdleTimeout(after="10s"))
    flow.send("upstream", 8.0)
    flow.send("downstream", 16.0)
    assert flow.cut_at(25.9) == []
    assert flow.cut_at(30.0) == [Timed(26.0, Cut(rst=False))]


def test_rst_is_another_way_to_end_it() -> None:
    assert Flow(IdleTimeout(after="10s", action="rst")).cut_at(99.0) == [Timed(10.0, Cut(rst=True))]


def test_a_forgotten_flow_swallows_everything_both_ways_even_after_the_entry() -> None:
    flow = Flow(IdleTimeout(after="10s", action="drop"))
    assert flow.cut_at(11.0) == []
    assert flow.send("upstream", 12.0) == []
    flow.remove(13.0)
    assert flow.send("downstream", 14.0) == []
    assert all(pipe.dead for pipe in flow.pipes.values())


def test_a_load_balancer_answers_the_next_packet_of_a_forgotten_flow_with_rst() -> None:
    flow = Flow(IdleTimeout(preset="aws-nlb"))
    assert flow.cut_at(349.9) == []
    assert flow.cut_at(400.0) == []
    assert flow.send("upstream", 401.0) == [Cut(rst=True, whom="source")]


@pytest.mark.parametrize(
    ("counts", "ping_keeps", "half_keeps"),
    [("bytes", True, True), ("frames", True, False), ("data_frames", False, False)],
)
def test_what_counts_as_activity_is_the_middleboxs_choice(
    counts: str, ping_keeps: bool, half_keeps: bool
) -> None:
    for payload, keeps in ((PING, ping_keeps), (TEXT[:3], half_keeps), (TEXT, True)):
        flow = Flow(IdleTimeout(after="10s", counts=counts))  # type: ignore[arg-type]
        flow.send("upstream", 0.0, HEAD)
        flow.send("upstream", 9.0, payload)
        assert (flow.cut_at(12.0) == []) is keeps, (counts, payload)


def test_the_clock_of_an_idle_timeout_starts_when_it_is_added() -> None:
    assert Flow(IdleTimeout(after="10s"), added_s=50.0).cut_at(99.0) == [Timed(60.0, Cut())]


def test_a_lifetime_counts_from_the_start_of_the_connection_however_busy() -> None:
    flow = Flow(MaxLifetime(after="30s"), added_s=10.0)
    for second in range(11, 30):
        assert flow.send("upstream", float(second)) == [Data(b"x")]
    assert flow.cut_at(31.0) == [Timed(30.0, Cut())]
    assert Flow(MaxLifetime(after="30s"), added_s=50.0).cut_at(51.0)[0].unit == Cut()
