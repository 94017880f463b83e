"""`GET /events`: what is told, in which form, and what becomes of those who do not listen."""

from __future__ import annotations

import json
import resource
import signal
import socket
import time
from collections.abc import Iterator
from typing import Any

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from chaos.toxiproxy_server import events as module
from chaos.toxiproxy_server.events import LISTENERS_MAX, Events

ASK = b"GET /events HTTP/1.1\r\nHost: localhost\r\nAccept: text/event-stream\r\n\r\n"


class Listener:
    """A client of /events that reads when it is asked to."""

    def __init__(self, port: int) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=5)
        self.socket.sendall(ASK)
        self._got = b""
        self.head = self._until(b"\r\n\r\n")
        if b" 200 " not in self.head:
            self.socket.close()
        assert b" 200 " in self.head
        self._until(b"retry: 2000\n\n")

    def _until(self, mark: bytes) -> bytes:
        while mark not in self._got:
            part = self.socket.recv(65536)
            assert part, "the stream ended"
            self._got += part
        found, _, self._got = self._got.partition(mark)
        return found

    def next(self) -> tuple[str, Any]:
        lines = self._until(b"\n\n").decode().splitlines()
        fields = dict(line.split(": ", 1) for line in lines if ": " in line)
        return fields["event"], json.loads(fields["data"])


@pytest.fixture
def listener(ours: Any) -> Iterator[Listener]:
    made = Listener(ours.port)
    yield made
    made.socket.close()


@pytest.mark.slow
def test_what_happens_is_told_in_order(ours: Any, listener: Listener, peers: Any) -> None:
    assert b"content-type: text/event-stream" in listener.head.lower()
    port = ours.create(peers.address)
    ours.toxic("latency", latency=1)
    ours.do("PATCH", "/proxies/p/toxics/latency_downstream", {"attributes": {"latency": 2}})
    client, _ = peers.warm_pair(port)
    kind, fields = listener.next()
    assert (kind, fields["proxy"]["name"]) == ("proxy_created", "p")
    kind, fields = listener.next()
    assert (kind, fields["proxy"], fields["toxic"]["type"]) == ("toxic_added", "p", "latency")
    kind, fields = listener.next()
    assert (kind, fields["toxic"]["attributes"]["latency"]) == ("toxic_changed", 2)
    kind, opened = listener.next()
    assert (kind, opened["proxy"]) == ("connection_opened", "p")
    assert opened["client"] == f"127.0.0.1:{client.getsockname()[1]}"
    client.close()
    kind, closed = listener.next()
    assert (kind, closed["id"]) == ("connection_closed", opened["id"])
    assert closed["bytes"]["upstream"] == {"received": 1, "sent": 1}
    ours.do("POST", "/proxies/p", {"enabled": False})
    ours.do("POST", "/reset")
    ours.do("DELETE", "/proxies/p")
    kinds = [listener.next()[0] for _ in range(4)]
    assert kinds == ["proxy_changed", "proxy_changed", "toxic_removed", "proxy_deleted"]


@pytest.mark.slow
def test_a_timeline_tells_of_its_steps(ours: Any, listener: Listener) -> None:
    ours.create()
    rows = [{"at": "0s", "for": "50ms", "toxic": "noop", "name": "nothing"}]
    ours.do("POST", "/timeline", {"proxy": "p", "timeline": rows, "duration": "100ms"})
    told = [listener.next() for _ in range(7)]
    assert [kind for kind, _ in told] == [
        "proxy_created",
        "timeline_started",
        "toxic_added",
        "timeline_step",
        "toxic_removed",
        "timeline_step",
        "timeline_ended",
    ]
    assert told[3][1] == {
        "proxy": "p",
        "scenario": "timeline",
        "at_s": 0,
        "entry": 1,
        "name": "nothing",
        "change": "on",
    }


@pytest.mark.slow
def test_the_server_stops_at_once_with_a_listener(run_server: Any) -> None:
    with run_server(True) as toxi:
        listener = Listener(toxi.port)
        start = time.monotonic()
        toxi.process.send_signal(signal.SIGTERM)
        assert toxi.process.wait(10) == 0
        assert time.monotonic() - start < 0.9  # a call that goes on would be given a second
        assert listener.socket.recv(65536) in (b"", b"0\r\n\r\n")
        listener.socket.close()


@pytest.mark.slow
def test_a_listener_that_does_not_read_is_dropped_and_keeps_nobody(run_server: Any) -> None:
    with run_server(True) as toxi:
        deaf = Listener(toxi.port)
        toxi.create()
        toxi.toxic("reject_upgrade", name="r")
        text = {"attributes": {"body": "x" * 60_000}}
        start = time.monotonic()
        for _ in range(200):  # 12 MB: more than the kernel takes for one who does not read
            toxi.do("PATCH", "/proxies/p/toxics/r", text)
        assert time.monotonic() - start < 10
        toxi.process.send_signal(signal.SIGTERM)
        assert toxi.process.wait(12) == 0
        deaf.socket.close()


@pytest.mark.slow
def test_there_is_room_for_so_many_listeners_and_again_when_they_go(ours: Any) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    many = [Listener(ours.port) for _ in range(LISTENERS_MAX)]
    assert ours.ask("GET", "/events").status == 503
    for each in many:
        each.socket.close()
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    deadline = time.monotonic() + 5
    while True:
        try:
            Listener(ours.port).socket.close()
            return
        except AssertionError:
            assert time.monotonic() < deadline
            time.sleep(0.05)


async def test_who_is_too_far_behind_is_dropped_and_the_others_are_not(
    autojump_clock: MockClock,
) -> None:
    events = Events(kept_max=2)
    with trio.fail_after(5), events.listen() as quick:
        with events.listen():
            for number in range(3):
                events.tell("proxy_deleted", name=str(number))
                happening = await anext(quick)
                assert (happening.number, happening.fields) == (number + 1, {"name": str(number)})
            await trio.sleep_forever()
        assert events.listeners == 1
    assert events.listeners == 0


async def test_what_a_watcher_does_is_told_after_what_it_has_seen() -> None:
    events = Events()

    def watcher(kind: str, fields: Any) -> None:
        if kind == "connection_opened":
            events.tell("toxic_added", of=fields["id"])

    with events.listen() as listener:
        with events.watch(watcher):
            events.tell("connection_opened", id=1)
        events.tell("connection_opened", id=2)
        told = [await anext(listener) for _ in range(3)]
    assert [(each.number, each.kind) for each in told] == [
        (1, "connection_opened"),
        (2, "toxic_added"),
        (3, "connection_opened"),
    ]


async def test_silence_is_broken_by_a_heartbeat(autojump_clock: MockClock) -> None:
    sent: list[bytes] = []
    gone = trio.Event()

    async def receive() -> Any:
        await gone.wait()
        return {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        sent.append(message.get("body", b""))

    events = Events()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(module.EventStream(events), {"type": "http"}, receive, send)
        await wait_all_tasks_blocked()
        assert sent[1:] == [b"retry: 2000\n\n"]
        await trio.sleep(2 * module.HEARTBEAT_S + 1)
        assert sent[2:] == [b": still here\n\n"] * 2
        gone.set()
    assert events.listeners == 0


async def test_an_event_is_one_line_whatever_is_in_it() -> None:
    events = Events()
    with events.listen() as happenings:
        events.tell("proxy_deleted", name="a\r\nevent: b\n\n\u2028")
        part = module.encode(await anext(happenings))
    assert part.count(b"\n") == 4
    assert b"\r" not in part
