"""Hosts: names and addresses, power cuts, frozen programs, failing names."""

from __future__ import annotations

import errno
import socket
from typing import Any

import pytest
import trio

from chaos.networks.simulated.doors import EscapeError
from chaos.networks.simulated.hosts import DnsFault
from chaos.recorder import Recorder, Reporter, current_reporter
from chaos.subjects.probes import SocketFactory

SERVER = "10.0.0.2"
CLIENT = "10.1.0.1"


async def connected(
    world: Any, port: int = 80
) -> tuple[trio.SocketListener, trio.SocketStream, trio.SocketStream]:
    """Return a listener on the server's host, a stream of client 1 to it, and its other end."""
    world.hosts.settle(2)
    recorder = Recorder(trio.current_time)
    token = current_reporter.set(Reporter(recorder, "server"))
    [listener] = await trio.open_tcp_listeners(port, host="127.0.0.1")
    current_reporter.set(Reporter(recorder, "client", 1))
    client = await trio.open_tcp_stream("server", port)
    server = await listener.accept()
    current_reporter.reset(token)
    return listener, client, server


def test_each_subject_is_at_home_on_its_own_host(simulate: Any) -> None:
    async def body(world: Any, _: trio.Nursery) -> Any:
        _, client, server = await connected(world)
        return client.socket.getsockname()[0], server.socket.getsockname()

    assert simulate(body) == (CLIENT, (SERVER, 80))


def test_a_port_of_one_host_is_none_of_anothers(simulate: Any) -> None:
    async def body(world: Any, _: trio.Nursery) -> None:
        await connected(world)
        factory = SocketFactory(world)
        for address in ("10.1.0.2", "10.0.0.1"):
            with pytest.raises(ConnectionRefusedError):
                await factory.socket().connect((address, 80))
        with pytest.raises(OSError) as caught:  # noqa: PT011 - the number is checked
            await factory.socket().connect(("192.0.2.1", 80))
        assert caught.value.errno == errno.ENETUNREACH

    simulate(body)


def test_trio_tries_the_next_address_of_a_name_when_one_does_not_answer(simulate: Any) -> None:
    async def body(world: Any, _: trio.Nursery) -> tuple[str, float]:
        await connected(world)
        world.hosts.add("dead", "10.0.0.9")
        world.hosts.names["both"] = ["10.0.0.9", SERVER]
        world.fabric.host("10.0.0.9").down = 1
        start = trio.current_time()
        stream = await trio.open_tcp_stream("both", 80)
        return stream.socket.getpeername()[0], trio.current_time() - start

    # RFC 8305 section 5: 250 ms between attempts
    assert simulate(body) == (SERVER, pytest.approx(0.25, abs=0.001))


def test_a_crash_says_nothing_and_the_booted_host_answers_with_rst(simulate: Any) -> None:
    async def body(world: Any, _: trio.Nursery) -> Any:
        listener, client, server = await connected(world)
        assert world.crash(SERVER) == 1
        await server.aclose()
        await listener.aclose()
        with trio.move_on_after(60) as silent:
            await client.receive_some()
        await client.send_all(b"anybody?")
        world.boot(SERVER)
        with pytest.raises(trio.BrokenResourceError) as caught:
            await client.receive_some()
        return silent.cancelled_caught, caught.value.__cause__

    silent, cause = simulate(body)
    assert silent
    assert isinstance(cause, ConnectionResetError)


def test_a_frozen_programs_kernel_accepts_and_acknowledges_and_it_goes_on_with_what_came(
    simulate: Any,
) -> None:
    async def body(world: Any, nursery: trio.Nursery) -> Any:
        listener, client, server = await connected(world)
        held: list[str] = []
        # neither of these can tell: the kernel answers
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, 5000)
        client.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 2)
        got: list[tuple[bytes, float]] = []

        async def read() -> None:
            got.append((bytes(await server.receive_some()), trio.current_time()))

        nursery.start_soon(read)
        await trio.sleep(1)
        world.freeze(SERVER, lambda: held.append("held"))
        await client.send_all(b"hello")
        late = await trio.open_tcp_stream(SERVER, 80)
        with trio.move_on_after(300) as quiet:
            await client.receive_some()
        thawed_s = trio.current_time()
        world.thaw(SERVER)
        with trio.fail_after(1):
            await listener.accept()
        await late.aclose()
        return held, quiet.cancelled_caught, got == [(b"hello", thawed_s)]

    held, quiet, on_time = simulate(body)
    assert held, "and says that it held something back"
    assert quiet
    assert on_time


def test_what_a_frozen_program_says_or_closes_is_seen_after_the_thaw(simulate: Any) -> None:
    async def body(world: Any, _: trio.Nursery) -> Any:
        _, client, server = await connected(world)
        world.freeze(SERVER)
        with trio.move_on_after(5) as sending:
            await server.send_all(b"too early")
        await server.aclose()
        with trio.move_on_after(60) as quiet:
            await client.receive_some()
        world.thaw(SERVER)
        with trio.fail_after(1):
            return sending.cancelled_caught, quiet.cancelled_caught, await client.receive_some()

    assert simulate(body) == (True, True, b"")


@pytest.mark.parametrize(
    ("mode", "number"), [("nxdomain", socket.EAI_NONAME), ("servfail", socket.EAI_AGAIN)]
)
def test_failing_names_fail_only_for_who_asks_there_and_are_recorded_as_attempts(
    simulate: Any, mode: Any, number: int
) -> None:
    async def body(world: Any, _: trio.Nursery) -> Any:
        await connected(world)
        felt: list[str] = []
        fault = DnsFault(mode=mode, delay_s=2.0, felt=felt.append)
        world.fabric.host(CLIENT).dns_faults.append(fault)
        recorder = Recorder(trio.current_time)
        current_reporter.set(Reporter(recorder, "client", 1))
        start = trio.current_time()
        with pytest.raises(socket.gaierror) as caught:
            await trio.open_tcp_stream("server", 80)
        took_s = trio.current_time() - start
        await trio.open_tcp_stream(SERVER, 80)  # an address is no name
        current_reporter.set(Reporter(recorder, "client", 2))
        await trio.open_tcp_stream("server", 80)
        return caught.value.errno, took_s, felt, [event.kind for event in recorder.events]

    assert simulate(body) == (number, pytest.approx(2.0), [mode], ["attempt", "refused"])


def test_a_slow_name_is_found_late(simulate: Any) -> None:
    async def body(world: Any, _: trio.Nursery) -> float:
        await connected(world)
        fault = DnsFault(mode="slow", delay_s=7.0, felt=lambda _: None)
        world.fabric.host("10.0.0.1").dns_faults.append(fault)
        start = trio.current_time()
        await trio.open_tcp_stream("server", 80)
        return trio.current_time() - start

    assert simulate(body) == pytest.approx(7.0, abs=0.01)


def test_a_name_that_is_slow_takes_its_time_in_a_thread_and_is_refused_in_the_loop(
    simulate: Any,
) -> None:
    async def body(world: Any, _: trio.Nursery) -> tuple[float, float, bool]:
        await connected(world)
        asking = world.fabric.host("10.0.0.1")
        start = trio.current_time()
        socket.getaddrinfo("server", 80)
        fault = DnsFault(mode="slow", delay_s=7.0, felt=lambda _: None)
        asking.dns_faults.append(fault)
        with pytest.raises(EscapeError, match="7 s"):
            socket.getaddrinfo("server", 80)
        with pytest.raises(EscapeError, match="7 s"):
            socket.gethostbyname("server")
        socket.getaddrinfo("10.0.0.2", 80)  # an address is no name
        at_once_s = trio.current_time() - start
        rows = await trio.to_thread.run_sync(socket.getaddrinfo, "server", 80)
        asking.dns_faults[:] = [DnsFault(mode="nxdomain", delay_s=2.0, felt=lambda _: None)]
        with pytest.raises(socket.gaierror):
            await trio.to_thread.run_sync(socket.getaddrinfo, "server", 80)
        return at_once_s, trio.current_time() - start, bool(rows)

    assert simulate(body) == (0.0, pytest.approx(9.0), True)


def test_a_host_says_its_own_name(simulate: Any) -> None:
    async def body(world: Any, _: trio.Nursery) -> list[str]:
        await connected(world)
        seen = [socket.gethostname(), socket.getfqdn()]
        recorder = Recorder(trio.current_time)
        for side, client in (("client", 2), ("server", None)):
            current_reporter.set(Reporter(recorder, side, client))  # type: ignore[arg-type]
            seen.append(socket.gethostname())
        return seen

    assert simulate(body) == ["link", "link", "client-2", "server"]
