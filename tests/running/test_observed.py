"""What a run makes of frames and answers that are not plain, from the bytes to the trace, on two networks."""

from __future__ import annotations

from pathlib import Path

import pytest

from chaos.api import load_scenarios, read_trace, run
from chaos.trace import Event

SUBJECTS = """\
import time
from email.utils import formatdate

import trio
from wsproto.utilities import generate_accept_token

from chaos import subject

KEY = b"dGhlIHNhbXBsZSBub25jZQ=="


def frame(first, payload=b""):
    return bytes([first, len(payload)]) + payload


@subject(sends=True)
async def serve(host, port, *, task_status, wrong=False, refuses=False, **_):
    refused = set()

    async def welcome(stream):
        head = b""
        while b"\\r\\n\\r\\n" not in head:
            head += await stream.receive_some()
        if refuses and not refused:
            refused.add(True)
            date = formatdate(time.time() + 2, usegmt=True).encode()
            return await stream.send_all(b"HTTP/1.1 503 x\\r\\nRetry-After: " + date + b"\\r\\n\\r\\n")
        accept = b"x" if wrong else generate_accept_token(KEY)
        await stream.send_all(
            b"HTTP/1.1 101 x\\r\\nUpgrade: websocket\\r\\nConnection: Upgrade\\r\\n"
            b"Sec-WebSocket-Accept: " + accept + b"\\r\\n\\r\\n"
        )
        number = 0
        while not wrong:
            number += 1
            message = b'42["m",{"id":%d}]' % number
            await stream.send_all(frame(0x01, message[:4]) + frame(0x89, b"between"))
            await stream.send_all(frame(0x80, message[4:]) + frame(0x8A, b"nobody asked"))
            await trio.sleep(0.1)

    async def handle(stream):
        try:
            await welcome(stream)
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            pass

    listeners = await trio.open_tcp_listeners(port, host=host)
    async with trio.open_nursery() as nursery:
        task_status.started(listeners[0].socket.getsockname()[1])
        await trio.serve_listeners(handle, listeners, handler_nursery=nursery)


async def client(url, **_):
    host, port = url.split("/")[2].split(":")
    while True:
        async with await trio.open_tcp_stream(host, int(port)) as stream:
            await stream.send_all(
                b"GET / HTTP/1.1\\r\\nUpgrade: websocket\\r\\nConnection: Upgrade\\r\\n"
                b"Sec-WebSocket-Key: " + KEY + b"\\r\\n\\r\\n"
            )
            answer = await stream.receive_some()
            if b" 101 " in answer and generate_accept_token(KEY) in answer:
                while await stream.receive_some():
                    pass
        await trio.sleep(0.5)
"""
SCENARIO = """\
version: 1
name: observed
duration: 2s
settle: 500ms
steady_state: none
server: {{use: "subjects.py:serve", options: {options}}}
client: {{use: "subjects.py:client"}}
workload: [{{from: server, every: 100ms, id: '"id":(\\d+)'}}]
expect: [never_sends_before_open]
"""


@pytest.fixture(params=["simulated", pytest.param("embedded", marks=pytest.mark.slow)])
def network(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def events_of(folder: Path, network: str, options: str) -> list[Event]:
    (folder / "subjects.py").write_text(SUBJECTS)
    (folder / "observed.yaml").write_text(SCENARIO.format(options=options))
    (scenario,) = load_scenarios(folder / "observed.yaml")
    run(scenario, network=network, out=folder / "out")
    (trace,) = (folder / "out").rglob("trace.jsonl")
    return list(read_trace(trace).judged.events)


def test_a_message_in_fragments_has_its_number_where_it_ends(tmp_path: Path, network: str) -> None:
    frames = [event for event in events_of(tmp_path, network, "{}") if event.kind == "frame"]
    assert {event.get("id") for event in frames if event["opcode"] == "text"} == {None}
    for side in ("server", "client"):
        ends = [e["id"] for e in frames if e["opcode"] == "continuation" and e["side"] == side]
        assert ends == list(range(1, len(ends) + 1))
        assert len(ends) > 10
    assert all(e.get("fin") is False for e in frames if e["opcode"] == "text")
    assert all(e["unsolicited"] for e in frames if e["opcode"] == "pong")


def test_behind_a_wrong_answer_nothing_is_open(tmp_path: Path, network: str) -> None:
    events = events_of(tmp_path, network, "{wrong: true}")
    answers = [event for event in events if event.kind == "response"]
    assert len(answers) > 2
    assert all("RFC 6455 §4.1" in event["wrong"] for event in answers)
    assert "open" not in {event.kind for event in events}


def test_a_date_in_retry_after_counts_from_the_clock_that_the_subjects_see(
    tmp_path: Path, network: str
) -> None:
    events = events_of(tmp_path, network, "{refuses: true}")
    told = [event["retry_after_s"] for event in events if event.get("status") == 503]
    assert len(told) == 2
    assert all(0.5 < told_s <= 2 for told_s in told)
