"""The conversation on one connection: reading never waits for sending, and sending never comes in bursts."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
import trio
import trio.testing
from wsproto.events import BytesMessage, TextMessage

from chaos.recorder import Recorder
from chaos.reference.handshake import connect, parse_url
from chaos.reference.options import PeerOptions
from chaos.reference.traffic import Traffic
from chaos.reference.workload import ACK_EVERY, Message, Session


@pytest.fixture
def conversing(wire: Any, script: Any, nursery: trio.Nursery) -> Callable[..., Any]:
    """Return a function that starts a conversation with a scripted peer."""

    async def converse(talk: Any, *, session: Session | None = None, **settings: Any) -> Traffic:
        options = PeerOptions.parse(settings.pop("options", {}))

        async def handler(stream: Any) -> None:
            await talk(await script(stream).accept())

        async def run(task_status: Any) -> None:
            async with connect(wire(handler), parse_url("ws://x/"), headers={}) as connection:
                traffic = Traffic(
                    connection=connection,
                    session=session or Session(sender="client-1"),
                    options=options,
                    lines=options.lines_of("client"),
                    **settings,
                )
                task_status.started(traffic)
                await traffic.converse()

        traffic = await nursery.start(run)
        assert isinstance(traffic, Traffic)
        return traffic

    return converse


def kinds(recorder: Recorder, kind: str) -> list[int]:
    return [event["id"] for event in recorder.events if event.kind == kind]


def message(number: int, *, binary: bool = False) -> Any:
    payload = Message(id=number, sender="server", sent_at_s=0.0, size=64, binary=binary).encode()
    return BytesMessage(payload) if isinstance(payload, bytes) else TextMessage(payload)


async def test_messages_are_reported_and_everything_else_goes_to_the_application(
    recorder: Recorder, autojump_clock: Any, conversing: Any
) -> None:
    others: list[Any] = []

    async def talk(peer: Any) -> None:
        await peer.send(message(1))
        await peer.send(message(2, binary=True))
        for text in ("hello", '{"id": "x", "sender": "y"}', '{"ack": 1}', '{"resume": 1}'):
            await peer.send(TextMessage(text))
        await peer.drain()

    await conversing(talk, on_message=others.append)
    await trio.testing.wait_all_tasks_blocked()
    assert kinds(recorder, "message") == [1, 2]
    assert others == ["hello", '{"id": "x", "sender": "y"}']


async def test_reading_goes_on_while_sending_is_blocked(
    recorder: Recorder, autojump_clock: Any, conversing: Any
) -> None:
    async def talk(peer: Any) -> None:
        await trio.sleep(1)
        for number in range(1, 3 * ACK_EVERY):
            await peer.send(message(number))
        await trio.sleep_forever()

    traffic = await conversing(
        talk,
        session=Session(sender="client-1", resume_in=True),
        options={"workload": [{"sender": "client", "every_s": 0.1}]},
    )
    traffic.connection.tap.inner.send_stream.send_all_hook = trio.sleep_forever
    await trio.sleep(0.5)
    before = trio.lowlevel.current_statistics().tasks_living
    await trio.sleep(5)
    assert kinds(recorder, "message") == list(range(1, 3 * ACK_EVERY))
    # one acknowledgement waits; the next is not piled up behind it
    assert trio.lowlevel.current_statistics().tasks_living == before + 1


async def test_a_send_that_had_to_wait_is_not_followed_by_a_burst(
    recorder: Recorder, autojump_clock: Any, conversing: Any
) -> None:
    async def talk(peer: Any) -> None:
        await peer.drain()

    traffic = await conversing(talk, options={"workload": [{"sender": "client", "every_s": 1.0}]})
    stream = traffic.connection.tap.inner.send_stream
    passes = stream.send_all_hook

    async def slow() -> None:
        stream.send_all_hook = passes
        await trio.sleep(4.5)
        await passes()

    await trio.sleep(0.5)
    stream.send_all_hook = slow
    await trio.sleep(6.5)
    assert [event.at_s for event in recorder.events if event.kind == "send"] == [0, 5.5, 6.5]


@pytest.mark.parametrize("keep", [True, False])
async def test_a_message_whose_send_was_cut_off_is_sent_first_next_time_or_never(
    recorder: Recorder, autojump_clock: Any, conversing: Any, keep: bool
) -> None:
    async def dying(peer: Any) -> None:
        await trio.sleep(2)
        await peer.stream.aclose()

    got: list[int] = []

    async def living(peer: Any) -> None:
        while (event := await peer.next()) is not None:
            got.append(json.loads(event.data)["id"])

    session = Session(sender="client-1")
    options = {"workload": [{"sender": "client", "every_s": 1.0}]}
    first = await conversing(dying, session=session, options=options, keep=keep)
    await trio.sleep(0.5)
    first.connection.tap.inner.send_stream.send_all_hook = trio.sleep_forever
    await first.connection.closed.wait()
    assert kinds(recorder, "send") == [1]
    await conversing(living, session=session, options=options, keep=keep)
    await trio.sleep(0.5)
    assert got == ([2, 3] if keep else [3])
    assert kinds(recorder, "send") == [1, *got]


async def test_several_lines_share_one_counter(
    recorder: Recorder, autojump_clock: Any, conversing: Any
) -> None:
    got: list[Any] = []

    async def talk(peer: Any) -> None:
        while (event := await peer.next()) is not None:
            got.append((json.loads(event.data)["id"], len(event.data), type(event)))

    lines = [
        {"sender": "client", "every_s": 1.0, "size": 64},
        {"sender": "server", "every_s": 1.0, "size": 99},
        {"sender": "client", "every_s": 1.0, "size": 80, "binary": True},
    ]
    await conversing(talk, options={"workload": lines})
    await trio.sleep(2.5)
    assert [number for number, _, _ in got] == [1, 2, 3, 4, 5, 6]
    assert sorted(size for _, size, _ in got) == [64, 64, 64, 80, 80, 80]
    assert {kind for _, size, kind in got if size == 80} == {BytesMessage}


async def test_nothing_new_is_sent_before_the_peer_says_where_to_continue(
    recorder: Recorder, autojump_clock: Any, conversing: Any
) -> None:
    got: list[int] = []

    async def talk(peer: Any) -> None:
        await trio.sleep(3)
        assert got == []
        await peer.send(TextMessage('{"resume": 1}'))
        await peer.send(TextMessage('{"resume": 0}'))
        while (event := await peer.next()) is not None:
            got.append(json.loads(event.data)["id"])

    session = Session(sender="client-1", resume_out=True)
    for _ in range(3):
        session.next_message(0.0, 64, binary=False)
    await conversing(
        talk, session=session, options={"workload": [{"sender": "client", "every_s": 1.0}]}
    )
    await trio.sleep(4.5)
    assert got == [2, 3, 4, 5]
    # what is replayed was reported when it was first sent
    assert kinds(recorder, "send") == [4, 5]


async def test_messages_are_acknowledged_now_and_then(
    autojump_clock: Any, conversing: Any, recorder: Recorder
) -> None:
    got: list[str] = []

    async def talk(peer: Any) -> None:
        for number in range(1, ACK_EVERY + 5):
            await peer.send(message(number))
        while (event := await peer.next()) is not None:
            got.append(event.data)

    await conversing(talk, session=Session(sender="client-1", resume_in=True))
    await trio.sleep(1)
    assert got[0] == '{"resume":0}'
    assert len(got) == 2
    assert json.loads(got[1])["ack"] >= ACK_EVERY


async def test_a_failed_heartbeat_ends_the_conversation(
    autojump_clock: Any, conversing: Any
) -> None:
    async def deaf(peer: Any) -> None:
        await trio.sleep_forever()

    traffic = await conversing(
        deaf, options={"heartbeat": {"interval_s": 2.0, "timeout_s": 1.0}, "misses": 2}
    )
    await traffic.connection.closed.wait()
    assert trio.current_time() == 6
    assert traffic.dead
    assert traffic.connection.ended.code == 4200
    assert traffic.connection.ended.by == "us"


async def test_an_application_that_takes_its_time_costs_no_pongs(
    autojump_clock: Any, conversing: Any
) -> None:
    async def talk(peer: Any) -> None:
        for _ in range(200):
            await peer.send(TextMessage("x"))
        await peer.drain()

    traffic = await conversing(
        talk,
        on_message=lambda data: None,
        options={"heartbeat": {"interval_s": 0.5, "timeout_s": 0.1}},
    )
    await trio.sleep(60)
    assert not traffic.dead
