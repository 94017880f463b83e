"""The reference client against scripted servers: when it tries again, when it does not, and what it leaves behind."""

from __future__ import annotations

import gc
import json
import weakref
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing
from wsproto.events import CloseConnection, TextMessage

from chaos.recorder import Recorder
from chaos.reference.client import ReferenceClient, client
from chaos.reference.connection import ConnectionLost
from chaos.reference.options import ClientOptions
from chaos.reference.server import ReferenceServer
from chaos.reference.states import State
from chaos.subject import Command, abilities_of

FIXED = {"initial_s": 1.0, "factor": 2.0, "max_s": 8.0, "jitter": "none", "first_delay": "none"}
BEAT = {"interval_s": 5.0, "timeout_s": 3.0}


def reference(open_stream: Any, hooks: dict[str, Any] | None = None, **options: Any) -> Any:
    options.setdefault("backoff", FIXED)
    parsed = ClientOptions.parse(options)
    return ReferenceClient("ws://test/", parsed, open_stream=open_stream, **hooks or {})


def refusing(status: int, *headers: str) -> Any:
    lines = [f"HTTP/1.1 {status} x", *headers, "Content-Length: 0", "", ""]

    async def handler(stream: Any) -> None:
        await stream.receive_some()
        await stream.send_all("\r\n".join(lines).encode())
        await stream.aclose()

    return handler


@pytest.fixture
def closing(script: Any) -> Any:
    """Return a handler that accepts and closes with this code after some seconds."""

    def closing_with(code: int, after_s: float = 0.0) -> Any:
        async def handler(stream: Any) -> None:
            peer = await script(stream).accept()
            await trio.sleep(after_s)
            try:
                await peer.send(CloseConnection(code))
            except trio.BrokenResourceError:
                return
            while not isinstance(await peer.next(), (CloseConnection, type(None))):
                pass
            await stream.aclose()

        return handler

    return closing_with


@pytest.fixture
def holding(script: Any) -> Any:
    """Return a handler that accepts and stays, answering pings."""

    async def handler(stream: Any) -> None:
        await (await script(stream).accept()).drain()

    return handler


async def mute(stream: Any) -> None:
    """A server that accepts the connection, and never answers the handshake."""
    await trio.sleep_forever()


async def run_for(seconds: float, reference: Any) -> str | None:
    with trio.move_on_after(seconds):
        return await reference.run()
    return None


# --- when the next attempt comes ---


async def test_the_first_attempt_starts_at_once_and_others_follow_the_schedule(
    autojump_clock: Any, wire: Any
) -> None:
    open_stream = wire(refusing(503))
    await run_for(24, reference(open_stream))
    assert open_stream.dialed_s == [0, 1, 3, 7, 15, 23]


async def test_the_delay_counts_from_the_end_of_the_attempt(autojump_clock: Any, wire: Any) -> None:
    open_stream = wire(mute)
    await run_for(30, reference(open_stream, connect_timeout_s=10.0))
    assert open_stream.dialed_s == [0, 11, 23]


async def test_the_same_seed_gives_the_same_attempts_and_each_client_its_own(
    autojump_clock: Any, wire: Any
) -> None:
    schedules = []
    for number in (1, 1, 2):
        open_stream, start_s = wire(refusing(503)), trio.current_time()
        await run_for(60, reference(open_stream, backoff={}, seed=7, number=number))
        schedules.append([round(at_s - start_s, 6) for at_s in open_stream.dialed_s])
    assert schedules[0] == schedules[1] != schedules[2]


async def test_attempts_are_counted_and_given_up(autojump_clock: Any, wire: Any) -> None:
    open_stream = wire(refusing(503))
    why = await run_for(99, reference(open_stream, backoff={**FIXED, "attempts_max": 3}))
    assert len(open_stream.dialed_s) == 3
    assert "3 failed attempts" in str(why)


async def test_a_server_that_accepts_and_closes_does_not_reset_the_backoff(
    autojump_clock: Any, wire: Any, closing: Any
) -> None:
    open_stream = wire(closing(1012, after_s=1.0))
    await run_for(20, reference(open_stream, stable_after_s=5.0))
    assert open_stream.dialed_s == [0, 2, 5, 10, 19]


async def test_a_stable_connection_resets_the_backoff(
    autojump_clock: Any, wire: Any, closing: Any
) -> None:
    open_stream = wire(refusing(503), refusing(503), closing(1012, after_s=5.0), refusing(503))
    await run_for(12, reference(open_stream, stable_after_s=5.0))
    assert open_stream.dialed_s == [0, 1, 3, 9, 11]


async def test_retry_after_is_honoured(autojump_clock: Any, wire: Any) -> None:
    open_stream = wire(refusing(503, "Retry-After: 20"), refusing(503))
    await run_for(23, reference(open_stream))
    assert 20 <= open_stream.dialed_s[1] <= 22


# --- what the outcome decides ---


@pytest.mark.parametrize(
    ("handler", "attempts"),
    [(refusing(426), 1), (refusing(404), 4), (refusing(401), 2), (refusing(503), 9)],
)
async def test_a_refusal_is_met_as_the_policy_says(
    autojump_clock: Any, wire: Any, handler: Any, attempts: int
) -> None:
    open_stream = wire(handler)
    backoff = {**FIXED, "attempts_max": 9}
    assert await run_for(999, reference(open_stream, backoff=backoff)) is not None
    assert len(open_stream.dialed_s) == attempts


@pytest.mark.parametrize(
    ("code", "policy", "attempts"),
    [
        (4000, "rfc", 1),
        (4000, "discord", 9),
        (4200, "pusher", 9),
        (1008, "rfc", 1),
        (1000, "rfc", 9),
        (4000, {4000: "backoff"}, 9),
        (3000, "rfc", 2),
    ],
)
async def test_a_close_is_met_as_the_policy_says(
    autojump_clock: Any, wire: Any, closing: Any, code: int, policy: Any, attempts: int
) -> None:
    open_stream = wire(closing(code))
    backoff = {**FIXED, "attempts_max": 9}
    why = await run_for(999, reference(open_stream, backoff=backoff, policy=policy))
    assert why is not None
    assert len(open_stream.dialed_s) == attempts


async def test_now_means_at_once_only_the_first_time(
    autojump_clock: Any, wire: Any, closing: Any
) -> None:
    open_stream = wire(closing(4200))
    await run_for(3.5, reference(open_stream, policy="pusher"))
    assert open_stream.dialed_s == [0, 0, 1, 3]


async def test_credentials_are_refreshed_once_and_used(
    autojump_clock: Any, wire: Any, script: Any
) -> None:
    tokens: list[bytes] = []

    async def handler(stream: Any) -> None:
        peer = script(stream)
        request = await peer.next()
        tokens.append(dict(request.extra_headers)[b"token"])
        await stream.send_all(b"HTTP/1.1 401 x\r\n\r\n")

    async def refresh() -> None:
        one.headers["token"] = "new"

    one = reference(wire(handler), {"on_auth": refresh}, headers={"token": "old"})
    assert "never" in str(await run_for(99, one))
    assert tokens == [b"old", b"new"]


async def test_garbage_is_tried_once_more_and_then_left(autojump_clock: Any, wire: Any) -> None:
    async def ssh(stream: Any) -> None:
        await stream.send_all(b"SSH-2.0-x\r\n")

    open_stream = wire(ssh)
    assert "protocol" in str(await run_for(99, reference(open_stream)))
    assert len(open_stream.dialed_s) == 2


# --- the heartbeat ---


@pytest.mark.parametrize(("misses", "dead_at_s"), [(1, 8), (3, 24)])
async def test_a_dead_peer_is_noticed_and_reconnection_does_not_wait_for_it(
    autojump_clock: Any, wire: Any, script: Any, holding: Any, misses: int, dead_at_s: float
) -> None:
    heard: list[Any] = []

    async def deaf(stream: Any) -> None:
        peer = await script(stream).accept()
        peer.mute = True
        heard.append(await peer.next())
        await trio.sleep_forever()

    open_stream = wire(deaf, holding)
    one = reference(open_stream, heartbeat=BEAT, misses=misses, close_timeout_s=60.0)
    await run_for(60, one)
    assert open_stream.dialed_s == [0, dead_at_s + 1]
    assert heard[0].code == 4200
    assert one.openings == 2


async def test_messages_do_not_replace_the_pong(
    autojump_clock: Any, wire: Any, script: Any, nursery: trio.Nursery
) -> None:
    async def chatty(stream: Any) -> None:
        peer = await script(stream).accept()
        while True:
            try:
                await peer.send(TextMessage("still talking"))
            except trio.BrokenResourceError:
                return
            await trio.sleep(0.5)

    open_stream = wire(chatty)
    await run_for(8.5, reference(open_stream, heartbeat=BEAT, backoff={**FIXED, "initial_s": 0.1}))
    assert open_stream.dialed_s == [0, 8.1]


async def test_a_path_that_was_dead_from_the_start_was_never_stable(
    autojump_clock: Any, wire: Any, script: Any
) -> None:
    async def deaf(stream: Any) -> None:
        peer = await script(stream).accept()
        peer.mute = True
        await peer.drain()

    open_stream = wire(deaf)
    await run_for(40, reference(open_stream, heartbeat=BEAT, stable_after_s=5.0))
    assert open_stream.dialed_s == [0, 9, 19, 31]


# --- states ---


async def test_each_change_of_state_is_reported(
    recorder: Recorder, autojump_clock: Any, wire: Any, closing: Any
) -> None:
    await reference(wire(refusing(503), closing(4000, after_s=1.0))).run()
    states = [event["state"] for event in recorder.events if event.kind == "state"]
    assert states == ["connecting", "closed", "connecting", "open", "closing", "closed"]


async def test_nothing_is_sent_before_the_101(autojump_clock: Any, wire: Any, script: Any) -> None:
    early: list[bytes] = []

    async def slow(stream: Any) -> None:
        peer = script(stream)
        await peer.next()
        with trio.move_on_after(5):
            early.append(await stream.receive_some())
        await peer.stream.aclose()

    one = reference(
        wire(slow),
        heartbeat={"interval_s": 0.1, "timeout_s": 0.1},
        workload=[{"sender": "client", "every_s": 0.1}],
    )
    with trio.move_on_after(5):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(one.run)
            await trio.sleep(1)
            assert one.state is State.CONNECTING
            with pytest.raises(ConnectionLost):
                await one.send("early")
    assert early == []


# --- the application's side ---


async def test_closing_ends_the_run_with_the_code_that_was_asked_for(
    autojump_clock: Any, wire: Any, script: Any, nursery: trio.Nursery
) -> None:
    heard: list[Any] = []

    async def handler(stream: Any) -> None:
        peer = await script(stream).accept()
        heard.append(await peer.next())
        await peer.send(heard[0].response())
        await peer.drain()

    one = reference(wire(handler))
    nursery.start_soon(run_for, 99, one)
    await one.opened.wait()
    one.close(4001, "done")
    await trio.testing.wait_all_tasks_blocked()
    assert (heard[0].code, heard[0].reason) == (4001, "done")
    assert one.state is State.CLOSED
    await trio.sleep(50)
    assert one.attempts == 1


@pytest.mark.parametrize("handler", [mute, refusing(503)])
async def test_closing_while_connecting_or_pausing_ends_at_once(
    autojump_clock: Any, wire: Any, nursery: trio.Nursery, handler: Any
) -> None:
    one, open_stream = None, wire(handler)
    one = reference(open_stream)
    with trio.fail_after(5):
        async with trio.open_nursery() as running:
            running.start_soon(one.run)
            await trio.sleep(2)
            one.close()
    assert trio.current_time() == 2
    assert one.state is State.CLOSED


async def test_offline_pauses_attempts_and_online_tries_at_once(
    autojump_clock: Any, wire: Any, nursery: trio.Nursery
) -> None:
    open_stream = wire(refusing(503))
    one = reference(open_stream)
    nursery.start_soon(run_for, 51, one)
    await trio.sleep(0.5)
    one.offline()
    await trio.sleep(49.5)
    assert open_stream.dialed_s == [0]
    one.online()
    await trio.sleep(0.5)
    assert open_stream.dialed_s == [0, 50]


async def test_online_cuts_a_pause_short_but_not_the_servers_retry_after(
    autojump_clock: Any, wire: Any, nursery: trio.Nursery
) -> None:
    open_stream = wire(refusing(503), refusing(503, "Retry-After: 20"))
    one = reference(open_stream)
    nursery.start_soon(run_for, 60, one)
    await trio.sleep(0.5)
    one.online()
    await trio.sleep(0.5)
    one.online()
    await trio.sleep(40)
    assert open_stream.dialed_s[1] == 0.5
    assert open_stream.dialed_s[2] >= 20.5


async def test_offline_keeps_a_connection_that_lives(
    autojump_clock: Any, wire: Any, holding: Any, nursery: trio.Nursery
) -> None:
    one = reference(wire(holding), heartbeat=BEAT)
    nursery.start_soon(run_for, 60, one)
    await one.opened.wait()
    one.offline()
    await trio.sleep(30)
    assert one.state is State.OPEN


async def test_resubscription_comes_before_anything_else_on_a_new_connection(
    autojump_clock: Any, wire: Any, script: Any
) -> None:
    heard: list[list[str]] = []

    async def handler(stream: Any) -> None:
        peer = await script(stream).accept()
        mine: list[str] = []
        heard.append(mine)
        for _ in range(2):
            event = await peer.next()
            mine.append("subscribe" if event.data == "subscribe" else json.loads(event.data)["id"])
        await stream.aclose()

    async def subscribe() -> None:
        await one.send("subscribe")

    one = reference(
        wire(handler),
        {"on_resume": subscribe},
        workload=[{"sender": "client", "every_s": 1.0}],
    )
    await run_for(2.5, one)
    assert heard == [[1, 2], ["subscribe", 3]]


@pytest.mark.parametrize("pending", ["cancel", "resend"])
async def test_a_send_that_was_waiting_when_the_connection_died(
    autojump_clock: Any, wire: Any, script: Any, nursery: trio.Nursery, pending: str
) -> None:
    second: list[str] = []

    async def dying(stream: Any) -> None:
        await script(stream).accept()
        await trio.sleep(2)
        await stream.aclose()

    async def living(stream: Any) -> None:
        peer = await script(stream).accept()
        while (event := await peer.next()) is not None:
            second.append(event.data)

    open_stream = wire(dying, living)
    one = reference(open_stream, pending=pending, workload=[{"sender": "client", "every_s": 30.0}])
    nursery.start_soon(run_for, 10, one)
    await one.opened.wait()
    stream = open_stream.streams[0]
    blocked = trio.Event()

    async def full() -> None:
        blocked.set()
        with trio.CancelScope() as scope:
            scopes.append(scope)
            await trio.sleep_forever()
        raise trio.BrokenResourceError

    scopes: list[trio.CancelScope] = []
    await trio.sleep(1)
    stream.send_stream.send_all_hook = full

    async def send() -> None:
        try:
            await one.send("waiting")
        except ConnectionLost:
            second.append("raised")

    nursery.start_soon(send)
    await blocked.wait()
    await trio.sleep(1.5)
    scopes[0].cancel()
    await trio.sleep(5)
    assert second[0] == ("raised" if pending == "cancel" else "waiting")


# --- nothing is left behind ---


def tasks() -> int:
    return trio.lowlevel.current_statistics().tasks_living


async def test_reconnecting_many_times_adds_no_tasks_and_keeps_no_connection(
    autojump_clock: Any, wire: Any, closing: Any, nursery: trio.Nursery
) -> None:
    counts: list[int] = []
    old: list[weakref.ref[Any]] = []
    one = reference(
        wire(closing(1012, after_s=6.0)),
        # a ping is in flight whenever the server closes
        heartbeat={"interval_s": 5.0, "timeout_s": 3.0},
        workload=[{"sender": "client", "every_s": 0.5}, {"sender": "client", "every_s": 1.0}],
        stable_after_s=5.0,
    )
    nursery.start_soon(one.run)
    for _ in range(25):
        await one.opened.wait()
        await trio.sleep(0.1)
        counts.append(tasks())
        assert one.traffic is not None
        old.append(weakref.ref(one.traffic.connection.websocket))
        await one.traffic.connection.closed.wait()
    one.close()
    await trio.sleep(10)
    gc.collect()
    assert counts == [counts[0]] * 25
    assert [ref() for ref in old] == [None] * 25


async def test_each_message_is_handled_once_after_many_reconnections(
    recorder: Recorder, autojump_clock: Any, wire: Any, nursery: trio.Nursery
) -> None:
    server = ReferenceServer()
    one = reference(wire(server.handle_stream), workload=[{"sender": "client", "every_s": 0.4}])
    nursery.start_soon(one.run)
    for _ in range(10):
        await one.opened.wait()
        await trio.sleep(1)
        server.close_all(1012)
        await trio.sleep(0.1)
    one.close()
    await trio.sleep(1)
    handled = [event["id"] for event in recorder.events if event.kind == "message"]
    assert handled == list(range(1, len(handled) + 1))
    assert len(handled) >= 30


# --- as a subject ---


def test_the_client_declares_what_it_can_do() -> None:
    abilities = abilities_of(client)
    assert abilities.sends
    assert abilities.actions == {"close", "offline", "send"}


@pytest.mark.slow
async def test_after_a_final_refusal_the_subject_stays_with_nothing_open(
    recorder: Recorder, nursery: trio.Nursery
) -> None:
    listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
    nursery.start_soon(trio.serve_listeners, refusing(426), listeners)
    url = f"ws://127.0.0.1:{listeners[0].socket.getsockname()[1]}/"
    send, receive = trio.open_memory_channel[Command](1)
    with trio.move_on_after(0.2) as scope:
        await client(url, commands=receive, unknown_option=1)
    assert scope.cancelled_caught
    assert recorder.events[-2]["state"] == "closed"
    assert "says never" in recorder.events[-1]["text"]
    with trio.fail_after(1):
        await client(url, exit_on_final=True)
    send.close()


async def test_commands_are_carried_out(
    recorder: Recorder, autojump_clock: Any, wire: Any, nursery: trio.Nursery
) -> None:
    server = ReferenceServer()
    one = reference(wire(server.handle_stream))
    send, receive = trio.open_memory_channel[Command](9)
    nursery.start_soon(one.obey, receive, nursery)
    nursery.start_soon(one.run)
    await one.opened.wait()
    await send.send(Command("send", {"size": 500, "binary": True}))
    await trio.sleep(0.1)
    await send.send(Command("offline"))
    await trio.sleep(0.1)
    server.close_all(1012)
    await trio.sleep(30)
    assert one.attempts == 1
    await send.send(Command("offline", ends=True))
    await trio.sleep(1)
    assert one.attempts == 2
    await send.send(Command("close", {"code": 4001, "reason": ""}))
    await trio.sleep(1)
    assert one.state is State.CLOSED
    assert [event["id"] for event in recorder.events if event.kind == "message"] == [1]


def sockets() -> int:
    # the descriptor that lists the folder is gone when its turn comes
    names = [fd for fd in Path("/proc/self/fd").iterdir() if fd.is_socket()]
    return len(names)


@pytest.mark.slow
@pytest.mark.parametrize("ending", ["close", "fin", "rst", "close without fin"])
async def test_reconnecting_leaves_no_sockets_and_no_tasks_on_real_tcp(
    nursery: trio.Nursery, script: Any, ending: str
) -> None:
    import socket
    import struct

    async def handler(stream: Any) -> None:
        try:
            peer = await script(stream).accept()
            if ending.startswith("close"):
                await peer.send(CloseConnection(1012))
                await peer.next()
            if ending == "close without fin":
                await peer.drain()
            if ending == "rst":
                linger = struct.pack("ii", 1, 0)
                stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        except (AssertionError, trio.BrokenResourceError):
            pass  # the client was closed in the middle of its handshake
        finally:
            await trio.aclose_forcefully(stream)

    listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
    nursery.start_soon(trio.serve_listeners, handler, listeners)
    url = f"ws://127.0.0.1:{listeners[0].socket.getsockname()[1]}/"
    await trio.testing.wait_all_tasks_blocked()
    before = sockets(), tasks()
    options = ClientOptions.parse(
        {"backoff": {**FIXED, "initial_s": 0.001, "max_s": 0.001}, "close_timeout_s": 0.01}
    )
    one = ReferenceClient(url, options)
    with trio.fail_after(10):
        async with trio.open_nursery() as running:
            running.start_soon(one.run)
            while one.attempts < 22:
                await trio.sleep(0.01)
            one.close()
    await trio.sleep(0.05)
    assert (sockets(), tasks()) == before
