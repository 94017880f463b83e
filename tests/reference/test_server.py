"""The reference server: bad clients cannot hurt it, dead ones are freed, and it goes down politely."""

from __future__ import annotations

import errno
import gc
import socket
import ssl
import struct
import weakref
from functools import partial
from typing import Any

import pytest
import trio
import trio.testing
import trustme
from wsproto import ConnectionType
from wsproto.events import CloseConnection, RejectConnection, Request, TextMessage

from chaos.recorder import Recorder
from chaos.reference.client import ReferenceClient, client
from chaos.reference.options import ClientOptions, PeerOptions
from chaos.reference.server import HANDSHAKE_TIMEOUT_S, ReferenceServer, client_number, serve
from chaos.reference.states import State
from chaos.subject import Command, abilities_of

BEAT = {"interval_s": 5.0, "timeout_s": 3.0}
FAST = {"initial_s": 0.01, "max_s": 0.02, "first_delay": "none"}


@pytest.fixture
def joined(nursery: trio.Nursery, script: Any) -> Any:
    """Return a function that connects a scripted client to a server."""

    async def join(server: ReferenceServer, path: str = "/") -> Any:
        ours, theirs = trio.testing.memory_stream_pair()
        nursery.start_soon(server.handle_stream, theirs)
        peer = await script.dial(ours, path)
        await trio.testing.wait_all_tasks_blocked()
        return peer

    return join


def parsed(**options: Any) -> PeerOptions:
    return PeerOptions.parse(options)


@pytest.mark.parametrize(
    ("path", "number"),
    [("/", 1), ("/?client=3", 3), ("/a?x=1&client=12", 12), ("/?client=x", 1), ("/?client=²", 1)],
)
def test_a_client_says_its_number_in_the_query(path: str, number: int) -> None:
    assert client_number(path) == number


def test_the_server_declares_what_it_can_do() -> None:
    assert abilities_of(serve).sends
    assert abilities_of(serve).actions == {"close", "drain", "reject", "send"}


@pytest.mark.slow
@pytest.mark.parametrize(("actions", "tasks"), [((), 0), (("close",), 1), (None, 1)])
@pytest.mark.parametrize("side", ["client", "server"])
async def test_a_peer_listens_only_if_the_timeline_asks_something_of_it(
    nursery: trio.Nursery, side: str, actions: Any, tasks: int
) -> None:
    sends, receives = trio.open_memory_channel[Command](1)
    options: dict[str, Any] = {} if actions is None else {"actions": actions}
    if side == "server":
        await nursery.start(partial(serve, "127.0.0.1", 0, commands=receives, **options))
    else:
        never = "ws://127.0.0.1:1/"
        nursery.start_soon(partial(client, never, commands=receives, **options))
    with sends, receives:
        await trio.testing.wait_all_tasks_blocked(0.01)
        assert sends.statistics().tasks_waiting_receive == tasks
        nursery.cancel_scope.cancel()


# --- bad clients ---


@pytest.mark.parametrize(
    "first_bytes", [b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", b"\x16\x03\x01\x02", b"\x00" * 50, b""]
)
async def test_a_client_that_speaks_no_websocket_is_closed_and_forgotten(
    autojump_clock: Any, first_bytes: bytes
) -> None:
    ours, theirs = trio.testing.memory_stream_pair()
    if first_bytes:
        await ours.send_all(first_bytes)
    server = ReferenceServer()
    await server.handle_stream(theirs)
    assert trio.current_time() <= HANDSHAKE_TIMEOUT_S
    assert not server._handshakes
    with pytest.raises(trio.ClosedResourceError):
        await theirs.receive_some()


async def test_a_reset_between_request_and_101_hurts_nobody(
    autojump_clock: Any, script: Any
) -> None:
    async def broken() -> None:
        raise trio.BrokenResourceError

    ours, theirs = trio.testing.memory_stream_pair()
    theirs.send_stream.send_all_hook = broken
    await script(ours, ConnectionType.CLIENT).send(Request(host="x", target="/"))
    server = ReferenceServer()
    await server.handle_stream(theirs)
    assert not server.connections


async def test_pings_while_the_server_closes_hurt_nobody(autojump_clock: Any, joined: Any) -> None:
    server = ReferenceServer()
    peer, other = await joined(server), await joined(server, "/?client=2")
    server.close_all(1001)
    await trio.testing.wait_all_tasks_blocked()
    await peer.stream.send_all(b"\x89\x80abcd")
    await other.next()
    close = await peer.next()
    await peer.send(close.response())
    await peer.drain()
    assert trio.current_time() == 0
    assert close.code == 1001


async def test_a_bug_in_one_connection_does_not_end_the_others(
    recorder: Recorder, autojump_clock: Any, joined: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = ReferenceServer()
    good = await joined(server)
    real = ReferenceServer._session

    def wrong(self: Any, number: int) -> Any:
        if number == 13:
            raise ZeroDivisionError
        return real(self, number)

    monkeypatch.setattr(ReferenceServer, "_session", wrong)
    bad = await joined(server, "/?client=13")
    assert await bad.next() is None
    assert len(server.connections) == 1
    assert "ZeroDivisionError" in recorder.events[-1]["text"]
    await good.send(CloseConnection(1000))
    assert (await good.next()).code == 1000


# --- dead clients ---


async def test_a_dead_client_and_everything_of_it_is_freed(
    autojump_clock: Any, joined: Any
) -> None:
    server = ReferenceServer(
        parsed(heartbeat=BEAT, misses=2, workload=[{"sender": "server", "every_s": 1.0}])
    )
    tasks = trio.lowlevel.current_statistics().tasks_living
    peer = await joined(server)
    peer.mute = True
    (traffic,) = server.connections
    old = weakref.ref(traffic.connection.websocket)
    del traffic
    await trio.sleep(15.9)
    assert len(server.connections) == 1
    await trio.sleep(0.3)
    assert not server.connections
    assert not server._of_client
    await trio.testing.wait_all_tasks_blocked()
    assert trio.lowlevel.current_statistics().tasks_living == tasks
    gc.collect()
    assert old() is None
    event = await peer.next()
    while isinstance(event, TextMessage):
        event = await peer.next()
    assert event.code == 4200


async def test_a_living_client_is_kept(autojump_clock: Any, joined: Any, nursery: Any) -> None:
    server = ReferenceServer(parsed(heartbeat=BEAT))
    peer = await joined(server)
    nursery.start_soon(peer.drain)
    await trio.sleep(600)
    assert len(server.connections) == 1
    assert peer.pings > 100


# --- the workload ---


async def test_ids_count_per_client_and_go_on_after_a_reconnection(
    recorder: Recorder, autojump_clock: Any, joined: Any
) -> None:
    server = ReferenceServer(parsed(workload=[{"sender": "server", "every_s": 1.0}]))
    first = await joined(server, "/?client=7")
    await trio.sleep(1.5)
    await first.stream.aclose()
    await trio.sleep(10)
    await joined(server, "/?client=7")
    await joined(server, "/?client=8")
    sent = [(event["to"], event["id"]) for event in recorder.events if event.kind == "send"]
    assert sent == [(7, 1), (7, 2), (7, 3), (8, 1)]


async def test_only_the_newest_connection_of_a_client_is_sent_to(
    recorder: Recorder, autojump_clock: Any, joined: Any
) -> None:
    server = ReferenceServer(parsed(workload=[{"sender": "server", "every_s": 1.0}]))
    await joined(server)
    await trio.sleep(0.5)
    await joined(server)
    await trio.sleep(2.6)
    sent_s = [event.at_s for event in recorder.events if event.kind == "send"]
    assert sent_s == [0, 0.5, 1.5, 2.5]


async def test_when_the_newest_connection_dies_the_one_before_it_is_sent_to_again(
    recorder: Recorder, autojump_clock: Any, joined: Any
) -> None:
    server = ReferenceServer(parsed(workload=[{"sender": "server", "every_s": 1.0}]))
    await joined(server)
    await trio.sleep(0.5)
    second = await joined(server)
    await trio.sleep(1.2)
    await second.stream.aclose()
    await trio.sleep(1.9)
    sent_s = [event.at_s for event in recorder.events if event.kind == "send"]
    assert sent_s == [0, 0.5, 1.5, 2, 3]


def lossy(stream: Any) -> None:
    """Make everything sent from now on vanish, both ways."""
    stream.send_stream.send_all_hook = None


@pytest.mark.parametrize("sender", ["server", "client"])
@pytest.mark.parametrize("delivery", ["resume", "at_most_once"])
async def test_what_was_lost_in_a_silent_death_is_replayed_only_with_resume(
    recorder: Recorder, autojump_clock: Any, wire: Any, nursery: Any, sender: str, delivery: str
) -> None:
    line = {"sender": sender, "every_s": 0.5, "delivery": delivery, "binary": sender == "client"}
    server = ReferenceServer(parsed(heartbeat=BEAT, workload=[line]))
    theirs: list[Any] = []

    async def handler(stream: Any) -> None:
        theirs.append(stream)
        await server.handle_stream(stream)

    open_stream = wire(handler)
    options = ClientOptions.parse(
        {"heartbeat": BEAT, "workload": [line], "backoff": {"initial_s": 1.0}}
    )
    one = ReferenceClient("ws://test/", options, open_stream=open_stream)
    nursery.start_soon(one.run)
    await trio.sleep(20.1)
    for stream in (theirs[0], open_stream.streams[0]):
        lossy(stream)
    await trio.sleep(40)
    one.close()
    await trio.sleep(5)
    sent = {event["id"] for event in recorder.events if event.kind == "send"}
    handled = [event["id"] for event in recorder.events if event.kind == "message"]
    assert one.openings == 2
    assert handled == sorted(set(handled))
    lost = sent - set(handled)
    assert not lost if delivery == "resume" else lost
    assert max(handled) == max(sent) == len(sent) > 80


async def test_a_server_that_forgot_everything_uses_no_id_twice(
    recorder: Recorder, autojump_clock: Any, wire: Any, nursery: Any
) -> None:
    options = {"workload": [{"sender": "server", "every_s": 1.0, "delivery": "resume"}]}
    servers = [ReferenceServer(parsed(**options)) for _ in range(2)]
    one = ReferenceClient(
        "ws://test/",
        ClientOptions.parse({**options, "backoff": FAST}),
        open_stream=wire(*(server.handle_stream for server in servers)),
    )
    nursery.start_soon(one.run)
    await trio.sleep(2.5)
    servers[0].close_all(1012)
    await trio.sleep(2.5)
    handled = [event["id"] for event in recorder.events if event.kind == "message"]
    assert handled == [1, 2, 3, 4, 5, 6]


# --- actions ---


@pytest.mark.parametrize(
    ("parameters", "retry_after"),
    [
        ({"status": 403}, None),
        ({"status": 429, "retry_after_s": 6.5, "code": None}, b"7"),
        ({}, None),
    ],
)
async def test_rejecting_answers_with_a_status(
    autojump_clock: Any, joined: Any, script: Any, parameters: Any, retry_after: bytes | None
) -> None:
    server = ReferenceServer()
    server.rejecting = parameters
    ours, theirs = trio.testing.memory_stream_pair()
    peer = script(ours, ConnectionType.CLIENT)
    await peer.send(Request(host="x", target="/"))
    await server.handle_stream(theirs)
    event = await peer.next()
    assert isinstance(event, RejectConnection)
    assert event.status_code == parameters.get("status", 503)
    assert dict(event.headers).get(b"retry-after") == retry_after
    server.rejecting = None
    await joined(server)


async def test_rejecting_with_a_code_accepts_and_closes(autojump_clock: Any, joined: Any) -> None:
    server = ReferenceServer()
    server.rejecting = {"code": 4000, "status": None}
    peer = await joined(server)
    event = await peer.next()
    assert event.code == 4000
    await peer.send(event.response())
    assert await peer.next() is None
    await trio.testing.wait_all_tasks_blocked()
    assert not server.connections


async def test_draining_waits_for_echoes_and_cuts_the_rest_after_the_grace(
    autojump_clock: Any, joined: Any, nursery: Any
) -> None:
    server = ReferenceServer(parsed(close_timeout_s=1.0))
    polite, deaf = await joined(server), await joined(server, "/?client=2")
    server.drain(1012, grace_s=5.0)
    event = await polite.next()
    assert event.code == 1012
    await trio.sleep(4)
    await polite.send(event.response())
    assert await polite.next() is None
    await trio.sleep(0.9)
    assert len(server.connections) == 1
    await trio.sleep(0.2)
    assert not server.connections
    assert (await deaf.next()).code == 1012
    assert await deaf.next() is None


async def test_draining_does_not_wait_for_handshakes(autojump_clock: Any, nursery: Any) -> None:
    server = ReferenceServer()
    ours, theirs = trio.testing.memory_stream_pair()
    nursery.start_soon(server.handle_stream, theirs)
    await trio.testing.wait_all_tasks_blocked()
    server.drain()
    assert await ours.receive_some() == b""
    assert trio.current_time() == 0


async def test_commands_are_carried_out(
    recorder: Recorder, autojump_clock: Any, joined: Any, nursery: Any
) -> None:
    server = ReferenceServer()
    send, receive = trio.open_memory_channel[Command](9)
    nursery.start_soon(server.obey, receive, nursery)
    peer = await joined(server)
    await send.send(Command("send", {"size": 100, "binary": False}))
    assert len((await peer.next()).data) == 100
    await send.send(Command("reject", {"status": 403}))
    await trio.testing.wait_all_tasks_blocked()
    assert server.rejecting == {"status": 403}
    await send.send(Command("reject", {}, ends=True))
    await send.send(Command("close", {"code": 4100, "reason": "x"}))
    assert (await peer.next()).code == 4100
    assert server.rejecting is None


async def test_commands_for_some_clients_leave_the_others_alone(
    recorder: Recorder, autojump_clock: Any, joined: Any, nursery: Any
) -> None:
    server = ReferenceServer()
    send, receive = trio.open_memory_channel[Command](9)
    nursery.start_soon(server.obey, receive, nursery)
    peer = await joined(server)  # client 1, since it gives no number
    for command in (
        Command("close", {"code": 4100}, clients=(2,)),
        Command("send", {"size": 100, "binary": False}, clients=(3, 2)),
        Command("send", {"size": 200, "binary": False}, clients=(1,)),
        Command("reject", {"code": 4000, "status": None}, clients=(1,)),
    ):
        await send.send(command)
    assert len((await peer.next()).data) == 200
    assert server.rejecting is None
    assert (await (await joined(server)).next()).code == 4000
    await send.send(Command("reject", {}, ends=True, clients=(1,)))
    await send.send(Command("close", {"code": 4100}, clients=(1,)))
    assert (await peer.next()).code == 4100
    assert server.rejecting_some == {}


# --- real sockets ---


async def start(nursery: trio.Nursery, **options: Any) -> int:
    async def run(task_status: Any) -> None:
        await serve("127.0.0.1", 0, task_status=task_status, **options)

    return int(await nursery.start(run))


async def until_open(port: int, scheme: str = "ws", **arguments: Any) -> ReferenceClient:
    one = ReferenceClient(
        f"{scheme}://127.0.0.1:{port}/", ClientOptions.parse({"backoff": FAST}), **arguments
    )
    with trio.fail_after(5):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(one.run)
            await one.opened.wait()
            one.close()
    return one


@pytest.mark.slow
async def test_resets_in_every_phase_do_not_take_the_server_down(nursery: trio.Nursery) -> None:
    port = await start(nursery, seed=1, unknown=2)
    upgrade = (
        b"GET / HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Version: 13\r\n\r\n"
    )
    for first_bytes in [b"", b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", upgrade, b"\xff" * 20] * 10:
        stream = await trio.open_tcp_stream("127.0.0.1", port)
        stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        if first_bytes:
            await stream.send_all(first_bytes)
        await stream.aclose()
    assert (await until_open(port)).state is State.CLOSED


@pytest.mark.slow
async def test_the_server_is_down_in_the_drains_window_and_back_on_the_same_port(
    nursery: trio.Nursery,
) -> None:
    send, receive = trio.open_memory_channel[Command](9)
    port = await start(nursery, commands=receive)
    await until_open(port)
    await send.send(Command("drain", {"code": 1001, "grace_s": 0.1}))
    await trio.sleep(0.05)
    with pytest.raises(OSError, match="all attempts"):
        await trio.open_tcp_stream("127.0.0.1", port)
    await send.send(Command("drain", {}, ends=True))
    one = await until_open(port)
    assert one.openings == 1


@pytest.mark.slow
async def test_running_out_of_descriptors_does_not_stop_the_accept_loop(
    nursery: trio.Nursery, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    real, failures = trio.SocketListener.accept, [1, 2]

    async def accept(self: Any) -> Any:
        if failures:
            failures.pop()
            raise OSError(errno.EMFILE, "too many open files")
        return await real(self)

    monkeypatch.setattr(trio.SocketListener, "accept", accept)
    port = await start(nursery)
    await until_open(port)
    assert not failures


@pytest.mark.slow
async def test_wss_works_with_a_trusted_certificate(nursery: trio.Nursery) -> None:
    authority = trustme.CA()
    theirs = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("127.0.0.1").configure_cert(theirs)
    ours = ssl.create_default_context()
    authority.configure_trust(ours)
    port = await start(nursery, ssl_context=theirs)
    # a plain client must not hurt it
    stream = await trio.open_tcp_stream("127.0.0.1", port)
    await stream.send_all(b"GET / HTTP/1.1\r\n\r\n")
    await stream.aclose()
    one = await until_open(port, "wss", ssl_context=ours)
    assert (one.attempts, one.openings) == (1, 1)


@pytest.mark.slow
async def test_many_clients_in_one_process(recorder: Recorder, nursery: trio.Nursery) -> None:
    load = [{"sender": "server", "every_s": 5.0}, {"sender": "client", "every_s": 5.0}]
    port = await start(nursery, heartbeat=BEAT, workload=load)
    count = 150
    with trio.move_on_after(10) as patience:
        async with trio.open_nursery() as clients:
            for number in range(1, count + 1):
                url = f"ws://127.0.0.1:{port}/?client={number}"
                clients.start_soon(
                    lambda url=url, number=number: client(url, number=number, workload=load)
                )
            while sum(event.kind == "message" for event in recorder.events) < 2 * count:
                await trio.sleep(0.05)
            clients.cancel_scope.cancel()
    assert not patience.cancelled_caught
    senders = {event["sender"] for event in recorder.events if event.kind == "message"}
    assert senders == {"server", *(f"client-{number}" for number in range(1, count + 1))}
