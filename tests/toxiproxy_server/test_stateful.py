"""Toxics and connections in any order: what no toxic may spoil arrives whole, and the API tells the truth."""

from __future__ import annotations

import hashlib
import random
import socket
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

pytestmark = pytest.mark.slow

STREAMS = st.sampled_from(["upstream", "downstream"])
# they delay, pace, cut up or hold back; none of them may lose or change a byte
HARMLESS = st.sampled_from(
    [
        {"type": "latency", "attributes": {"latency": 5, "jitter": 5}},
        {"type": "latency", "attributes": {"latency": 0}},
        {"type": "bandwidth", "attributes": {"rate": 20_000}},
        {"type": "slicer", "attributes": {"average_size": 900, "size_variation": 300}},
        {"type": "slow_close", "attributes": {"delay": 5}},
        {"type": "noop"},
        {"type": "noop", "toxicity": 0.5},
    ]
)
CHANGES = st.sampled_from(
    [
        {"toxicity": 0},
        {"toxicity": 1},
        {"attributes": {"latency": 1}},
        {"attributes": {"rate": 50_000}},
        {"attributes": {"average_size": 2_000}},
    ]
)
DEADLY = st.sampled_from(
    [
        {"type": "limit_data", "attributes": {"bytes": 100}},
        {"type": "reset_peer"},
        {"type": "timeout", "attributes": {"timeout": 1}},
    ]
)
# what the sockets of one connection take without anybody reading
OUTSTANDING_BYTES_MAX = 200_000


class Line:
    """One connection: its two ends, and what is on its way in each direction."""

    def __init__(self, pair: tuple[socket.socket, socket.socket]) -> None:
        self.ends = {"upstream": pair, "downstream": pair[::-1]}
        self.sent = {"upstream": b"", "downstream": b""}

    def send(self, stream: str, payload: bytes) -> None:
        if len(self.sent[stream]) + len(payload) <= OUTSTANDING_BYTES_MAX:
            self.ends[stream][0].sendall(payload)
            self.sent[stream] += payload

    def check(self, wire: Any) -> None:
        for stream, payload in self.sent.items():
            got = wire.read_all(self.ends[stream][1], len(payload))
            assert hashlib.sha256(got).digest() == hashlib.sha256(payload).digest()
            self.sent[stream] = b""


class Machine(RuleBasedStateMachine):
    """A server with one proxy for lines that stay whole, and one for victims."""

    def __init__(self, toxi: Any, peers: Any, wire: Any) -> None:
        super().__init__()
        self.toxi, self.peers, self.wire = toxi, peers, wire
        toxi.clear()
        self.port = toxi.create(peers.address, name="whole")
        self.victims = toxi.create(peers.address, name="victims")
        self.lines: list[Line] = []
        self.toxics: dict[str, str] = {}  # name → type
        self.made = 0
        self.random = random.Random(1)

    def toxic_path(self, index: int) -> str:
        return f"/proxies/whole/toxics/{list(self.toxics)[index % len(self.toxics)]}"

    @precondition(lambda self: len(self.lines) < 6)
    @rule()
    def connect(self) -> None:
        self.lines.append(Line(self.peers.pair(self.port)))

    @precondition(lambda self: self.lines)
    @rule(index=st.integers(0, 5), stream=STREAMS, size=st.sampled_from([1, 100, 5_000, 100_000]))
    def send(self, index: int, stream: str, size: int) -> None:
        self.lines[index % len(self.lines)].send(stream, self.random.randbytes(size))

    @precondition(lambda self: self.lines)
    @rule(index=st.integers(0, 5))
    def receive(self, index: int) -> None:
        self.lines[index % len(self.lines)].check(self.wire)

    @precondition(lambda self: len(self.toxics) < 5)
    @rule(body=HARMLESS, stream=STREAMS)
    def add(self, body: dict[str, Any], stream: str) -> None:
        self.made += 1
        name = f"toxic{self.made}"
        self.toxi.do("POST", "/proxies/whole/toxics", body | {"name": name, "stream": stream})
        self.toxics[name] = body["type"]

    @precondition(lambda self: self.toxics)
    @rule(index=st.integers(0, 5), body=CHANGES)
    def change(self, index: int, body: dict[str, Any]) -> None:
        self.toxi.do("PATCH", self.toxic_path(index), body)

    @precondition(lambda self: self.toxics)
    @rule(index=st.integers(0, 5))
    def remove(self, index: int) -> None:
        path = self.toxic_path(index)
        self.toxi.do("DELETE", path)
        del self.toxics[path.rpartition("/")[2]]

    @rule(body=DEADLY)
    def kill_a_victim(self, body: dict[str, Any]) -> None:
        self.toxi.do("POST", "/proxies/victims/toxics", body | {"name": "deadly"})
        client, server = self.peers.pair(self.victims)
        payload = self.random.randbytes(1_000)
        server.sendall(payload)
        got = b""
        try:
            while part := client.recv(65536):
                got += part
        except ConnectionResetError:
            pass
        assert payload.startswith(got)
        assert len(got) <= 100
        self.toxi.do("DELETE", "/proxies/victims/toxics/deadly")

    @invariant()
    def the_api_tells_what_is_so(self) -> None:
        rows = self.toxi.get("/proxies/whole")["toxics"]
        assert {row["name"]: row["type"] for row in rows} == self.toxics
        open_ones = [row for row in self.toxi.get("/connections") if row["proxy"] == "whole"]
        assert len(open_ones) == len(self.lines)

    def teardown(self) -> None:
        for line in self.lines:
            line.check(self.wire)
            for end in line.ends["upstream"]:
                end.close()


def test_whatever_is_changed_in_whatever_order(ours: Any, peers: Any, wire: Any) -> None:
    run_state_machine_as_test(
        lambda: Machine(ours, peers, wire),  # type: ignore[arg-type]  # any callable will do
        settings=settings(
            max_examples=12,
            stateful_step_count=30,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
