"""Hosts run subjects, kill them without a last word, start them again, and know what they own."""

from __future__ import annotations

import socket
from functools import partial
from typing import Any

import pytest
import trio
import trio.testing

from chaos.errors import NotApplicable, UsageError
from chaos.recorder import Recorder
from chaos.scenario.model import Scenario
from chaos.scenario.plan import make_plan
from chaos.subject import Command, subject
from chaos.subjects.host import Host, client_options
from chaos.subjects.load import check_abilities, fit_workload
from chaos.subjects.probes import count_tasks, recording

pytestmark = pytest.mark.slow


def make_host(function: Any, ledger: Any, side: Any = "client") -> Host:
    return Host(
        side=side,
        client=1 if side == "client" else None,
        function=function,
        recorder=Recorder(trio.current_time),
        ledger=ledger,
        options={"seed": 1},
    )


async def listen(nursery: trio.Nursery, seen: list[Any]) -> int:
    async def handle(stream: trio.SocketStream) -> None:
        try:
            while chunk := await stream.receive_some():
                seen.append(bytes(chunk))
            seen.append("fin")
        except trio.BrokenResourceError:
            seen.append("rst")

    listeners = await nursery.start(partial(trio.serve_tcp, handle, 0, host="127.0.0.1"))
    return int(listeners[0].socket.getsockname()[1])


async def until(condition: Any) -> None:
    with trio.fail_after(3):
        while not condition():
            await trio.sleep(0.002)


async def test_sockets_and_tasks_are_counted_for_the_subject_that_made_them() -> None:
    async def client(port: int) -> None:
        kept.append(await trio.open_tcp_stream("127.0.0.1", port))
        async with trio.open_nursery() as nursery:
            nursery.start_soon(trio.sleep_forever)
            nursery.start_soon(trio.sleep_forever)

    kept: list[trio.SocketStream] = []
    with recording() as ledger:
        async with trio.open_nursery() as nursery:
            port = await listen(nursery, [])
            host = make_host(client, ledger)
            nursery.start_soon(host.run, port)
            await until(lambda: count_tasks("client") == 3)
            assert ledger.count_sockets("client") == 1
            assert ledger.count_sockets("server") == 0
            kept[0].socket.close()
            assert ledger.count_sockets("client") == 0
            nursery.cancel_scope.cancel()


async def test_accepted_sockets_belong_to_the_server_that_accepted_them() -> None:
    async def server(host: str, port: int, *, task_status: Any) -> None:
        async def handle(stream: trio.SocketStream) -> None:
            await trio.sleep_forever()

        listeners = await trio.open_tcp_listeners(port, host=host)
        task_status.started(listeners[0].socket.getsockname()[1])
        await trio.serve_listeners(handle, listeners)

    with recording() as ledger:
        async with trio.open_nursery() as nursery:
            host = make_host(server, ledger, "server")
            nursery.start_soon(host.run, "127.0.0.1", 0)
            port = await host.wait_listening()
            stream = await trio.open_tcp_stream("127.0.0.1", port)
            await until(lambda: ledger.count_sockets("server") == 2)
            await trio.aclose_forcefully(stream)
            nursery.cancel_scope.cancel()


async def test_a_refused_attempt_is_recorded_since_no_link_can_see_it() -> None:
    async def client(port: int) -> None:
        await trio.open_tcp_stream("127.0.0.1", port)

    with socket.socket() as taken, recording() as ledger:
        taken.bind(("127.0.0.1", 0))
        host = make_host(client, ledger)
        await host.run(taken.getsockname()[1])
    kinds = [event.kind for event in host.recorder.events]
    assert kinds == ["subject_start", "attempt", "refused", "subject_exit"]
    assert "OSError" in host.recorder.events[-1]["error"]


async def test_a_crash_lets_the_subject_say_nothing_more() -> None:
    async def polite(port: int) -> None:
        stream = await trio.open_tcp_stream("127.0.0.1", port)
        await stream.send_all(b"hello")
        try:
            await trio.sleep_forever()
        finally:
            with trio.CancelScope(shield=True):
                try:
                    await stream.send_all(b"goodbye")
                except trio.ClosedResourceError:
                    tried.append(True)
                await trio.aclose_forcefully(stream)

    seen: list[Any] = []
    tried: list[bool] = []
    with recording() as ledger:
        async with trio.open_nursery() as nursery:
            host = make_host(polite, ledger)
            nursery.start_soon(host.run, await listen(nursery, seen))
            await until(lambda: seen)
            host.crash()
            await until(lambda: len(seen) > 1)
            assert seen == [b"hello", "fin"]
            assert tried == [True]
            host.start_again()
            await until(lambda: len(seen) > 2)
            assert seen[2] == b"hello"
            nursery.cancel_scope.cancel()


async def test_a_server_that_is_started_again_gets_the_same_port() -> None:
    async def server(host: str, port: int, *, task_status: Any) -> None:
        ports.append(port)
        task_status.started(4711)
        await trio.sleep_forever()

    ports: list[int] = []
    with recording() as ledger:
        async with trio.open_nursery() as nursery:
            host = make_host(server, ledger, "server")
            nursery.start_soon(host.run, "127.0.0.1", 0)
            assert await host.wait_listening() == 4711
            host.crash()
            host.start_again()
            await until(lambda: len(ports) == 2)
            assert ports == [0, 4711]
            nursery.cancel_scope.cancel()


async def test_a_server_that_ends_without_a_word_is_not_waited_for() -> None:
    async def server(host: str, port: int, *, task_status: Any) -> None:
        raise OSError("no such address")

    with recording() as ledger:
        host = make_host(server, ledger, "server")
        async with trio.open_nursery() as nursery:
            nursery.start_soon(host.run, "127.0.0.1", 0)
            with trio.fail_after(3), pytest.raises(RuntimeError, match="without saying"):
                await host.wait_listening()


async def test_a_subject_that_does_not_listen_to_commands_is_noticed() -> None:
    with recording() as ledger:
        host = make_host(trio.sleep_forever, ledger)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(host.run)
            await until(lambda: count_tasks("client") == 1)
            for _ in range(65):
                host.command(Command("close"))
            nursery.cancel_scope.cancel()
    assert host.recorder.events[-1].kind == "warning"


def scenario(**rest: Any) -> Scenario:
    return Scenario.model_validate({"version": 1, "name": "x", "duration": "9s"} | rest)


def test_a_subject_is_not_asked_for_what_it_does_not_declare() -> None:
    @subject(sends=True, actions=("close",))
    async def able(url: str) -> None: ...
    async def plain(url: str) -> None: ...

    rows = [{"kind": "action", "word": "close", "by": "client", "at": "1s"}]
    plan = make_plan(scenario(timeline=rows), 1)
    check_abilities(plan, plain, able)
    with pytest.raises(NotApplicable, match="'close'"):
        check_abilities(plan, able, plain)


@pytest.mark.parametrize(
    ("senders", "kept"),
    [
        (["client"], ["server"]),  # the server's messages stand in
        (["client", "server"], ["server"]),
        (["server"], ["server"]),
    ],
)
def test_a_workload_that_cannot_be_sent_is_left_out(senders: list[str], kept: list[str]) -> None:
    @subject(sends=True)
    async def able(url: str) -> None: ...
    async def plain(url: str) -> None: ...

    rows = [{"from": sender, "every": "1s"} for sender in senders]
    fitted, notes = fit_workload(scenario(workload=rows), able, plain)
    assert [line.sender for line in fitted.workload] == kept
    assert bool(notes) is ("client" in senders)
    assert fit_workload(scenario(workload=rows), able, able) == (scenario(workload=rows), ())
    assert not fit_workload(scenario(workload=rows), plain, plain)[0].workload


def test_a_server_that_cannot_tell_clients_apart_is_not_asked_to() -> None:
    @subject(actions=("close",))
    async def blind(host: str, port: int) -> None: ...
    @subject(actions=("close",), tells_clients=True)
    async def able(host: str, port: int) -> None: ...

    row = {"kind": "action", "word": "close", "by": "server", "at": "1s"}
    for_all = make_plan(scenario(timeline=[row]), 1)
    for_some = make_plan(scenario(timeline=[row | {"clients": [1]}]), 1)
    check_abilities(for_all, blind, blind)
    check_abilities(for_some, able, blind)
    with pytest.raises(UsageError, match="tells clients apart"):
        check_abilities(for_some, blind, able)


def test_options_are_plain_values_in_seconds() -> None:
    client = {
        "use": "reference",
        "heartbeat": {"interval": "250ms", "timeout": "2s"},
        "options": {"mine": 1},
    }
    options = client_options(scenario(client=client), 3, 7, None)
    assert options["heartbeat"] == {"interval_s": 0.25, "timeout_s": 2.0}
    assert (options["number"], options["seed"], options["mine"]) == (3, 7, 1)
    assert options["backoff"]["initial_s"] == 1.0


async def test_what_a_subject_raises_while_it_is_killed_ends_it_and_not_the_run() -> None:
    """Of its tasks one hears that it is cancelled, another that its socket is closed: both come out together."""

    async def client() -> None:
        async def finds_it_closed() -> None:
            try:
                await trio.sleep_forever()
            except trio.Cancelled:
                raise trio.ClosedResourceError("another task closed this socket") from None

        async with trio.open_nursery() as nursery:
            nursery.start_soon(finds_it_closed)
            nursery.start_soon(trio.sleep_forever)

    with recording() as ledger:
        host = make_host(client, ledger)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(host.run)
            await until(lambda: count_tasks("client") == 3)
            host.crash()
            await until(lambda: count_tasks("client") == 0)
            nursery.cancel_scope.cancel()
    (gone,) = [event for event in host.recorder.events if event.kind == "subject_exit"]
    assert "ClosedResourceError" in gone["error"]


async def test_a_subject_that_leaves_a_cancel_scope_open_is_warned_of_and_ends_nothing_else() -> (
    None
):
    async def client() -> None:
        trio.CancelScope().__enter__()
        await trio.sleep_forever()

    with recording() as ledger:
        host = make_host(client, ledger)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(host.run)
            await until(lambda: count_tasks("client") == 1)
            host.stop()
            await host.wait_stopped()
            assert count_tasks("client") == 0
            await trio.lowlevel.checkpoint()  # the task that it ran in is as good as new
    (start, warning) = host.recorder.events
    assert (start.kind, warning.kind) == ("subject_start", "warning")
    assert warning["text"].startswith("client: Cancel scope stack corrupted")


async def test_of_two_crashes_that_overlap_the_subject_starts_after_the_later_end() -> None:
    starts: list[int] = []

    async def client() -> None:
        starts.append(len(starts))
        await trio.sleep_forever()

    with recording() as ledger:
        host = make_host(client, ledger)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(host.run)
            await until(lambda: starts == [0])
            host.crash()
            await until(lambda: count_tasks("client") == 0)
            host.crash()
            host.start_again()
            await trio.testing.wait_all_tasks_blocked()
            assert starts == [0]
            host.start_again()
            await until(lambda: starts == [0, 1])
            # killed again before it could run
            host.crash()
            host.start_again()
            host.crash()
            await until(lambda: count_tasks("client") == 0)
            await trio.testing.wait_all_tasks_blocked()
            assert starts == [0, 1]
            host.start_again()
            await until(lambda: starts == [0, 1, 2])
            nursery.cancel_scope.cancel()


@pytest.mark.parametrize("crashed", [False, True])
async def test_a_stopped_subject_is_waited_for_and_does_not_start_again(
    crashed: bool, autojump_clock: Any
) -> None:
    async def client(url: str) -> None:
        try:
            await trio.sleep_forever()
        finally:
            with trio.CancelScope(shield=True):
                await trio.sleep(1)

    with recording() as ledger:
        host = make_host(client, ledger)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(host.run, "ws://test")
            await trio.sleep(1)
            if crashed:
                host.crash()
                await trio.sleep(2)
            host.stop()
            await host.wait_stopped()
            assert trio.current_time() == pytest.approx(3 if crashed else 2)
            host.start_again()
            await trio.sleep(1)
            assert count_tasks("client") == 0
            nursery.cancel_scope.cancel()
    assert [event.kind for event in host.recorder.events].count("subject_start") == 1


async def test_a_subject_that_is_stopped_before_its_time_never_starts(autojump_clock: Any) -> None:
    async def client(url: str) -> None:
        raise AssertionError("it started")

    with recording() as ledger:
        host = make_host(client, ledger)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(host.run_later, 5.0, "ws://test")
            await trio.sleep(1)
            host.stop()
            await host.wait_stopped()
        assert trio.current_time() == pytest.approx(5)
    assert not host.recorder.events
