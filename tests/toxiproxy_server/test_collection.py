"""Limits of the server, and what is left of it when it is cancelled, in this process."""

from __future__ import annotations

import socket
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio
import trio.testing

from chaos.toxiproxy_server import collection as module
from chaos.toxiproxy_server.address import Address, AddressError, resolve, split
from chaos.toxiproxy_server.api import ServerOptions
from chaos.toxiproxy_server.collection import Collection, Limits
from chaos.toxiproxy_server.go.wire import ApiError, ProxyInput, read_body, read_toxic
from chaos.toxiproxy_server.proxy import SharedState
from chaos.toxiproxy_server.serve import serve

SMALL = Limits(proxies=2, toxics=2, name_bytes=5)


@asynccontextmanager
async def collection() -> AsyncIterator[Collection]:
    async with trio.open_nursery() as nursery:
        made = Collection(SharedState(nursery=nursery, seed=1), SMALL)
        yield made
        made.stop()


def wanted(name: str, listen: str = "127.0.0.1:0", **more: bool) -> ProxyInput:
    return ProxyInput(name=name, upstream="127.0.0.1:9", listen=listen, **more)  # type: ignore[arg-type]


async def test_proxies_have_a_limit_and_a_replaced_one_does_not_count_twice() -> None:
    async with collection() as made:
        for name in ("a", "b"):
            await made.create(wanted(name))
        with pytest.raises(ApiError, match="too many proxies, expected at most 2"):
            await made.create(wanted("c"))
        done, failed = await made.populate([wanted("a")])
        assert (len(done), failed) == (1, None)
        made.delete("a")
        await made.create(wanted("c"))


async def test_names_and_toxics_have_limits() -> None:
    async with collection() as made:
        with pytest.raises(ApiError, match="name too long, expected at most 5 bytes"):
            await made.create(wanted("éééé"))
        proxy = await made.create(wanted("a"))
        for name in ("x", "y"):
            made.add_toxic(
                proxy, read_toxic(read_body(b'{"type":"noop","name":"%s"}' % name.encode()), [])
            )
        with pytest.raises(ApiError, match="too many toxics, expected at most 2"):
            made.add_toxic(proxy, read_toxic(read_body(b'{"type":"noop","name":"z"}'), []))
        with pytest.raises(ApiError, match="name too long"):
            made.add_toxic(proxy, read_toxic(read_body(b'{"type":"noop"}'), []))


async def test_two_calls_that_create_one_name_make_one_proxy() -> None:
    answers: list[int] = []

    async def create(made: Collection) -> None:
        try:
            await made.create(wanted("a", "localhost:0"))
            answers.append(201)
        except ApiError as error:
            answers.append(error.status)

    async with collection() as made, trio.open_nursery() as nursery:
        for _ in range(5):
            nursery.start_soon(create, made)
    assert sorted(answers) == [201, 409, 409, 409, 409]


async def test_a_proxy_that_is_deleted_while_its_address_is_looked_up_does_not_come_back(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    looked_up = trio.Event()

    async def slow(text: str) -> Address:
        await looked_up.wait()
        return await resolve(text)

    async with collection() as made:
        proxy = await made.create(wanted("a"))
        monkeypatch.setattr(module, "resolve", slow)
        async with trio.open_nursery() as nursery:

            async def update() -> None:
                with pytest.raises(ApiError, match="proxy not found"):
                    await made.update(proxy, wanted("a", "localhost:0"))

            nursery.start_soon(update)
            await trio.testing.wait_all_tasks_blocked()
            made.delete("a")
            looked_up.set()
        assert not proxy.enabled


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="needs /proc")
async def test_cancelling_the_server_leaves_no_socket() -> None:
    def sockets() -> int:
        return sum(
            "socket:" in str(path.readlink())
            for path in Path("/proc/self/fd").iterdir()
            if path.is_symlink()
        )

    before = sockets()
    async with trio.open_nursery() as nursery:
        address = await nursery.start(serve, ServerOptions(host="127.0.0.1", port="0"))
        stream = await trio.open_tcp_stream("127.0.0.1", int(address.rpartition(":")[2]))
        async with stream:
            body = b'{"name":"a","upstream":"127.0.0.1:9","listen":"127.0.0.1:0"}'
            head = b"POST /proxies HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % len(body)
            await stream.send_all(head + body)
            assert b"201" in await stream.receive_some(1000)
            nursery.cancel_scope.cancel()
    assert sockets() == before


@pytest.mark.parametrize(
    ("text", "host", "port"),
    [
        ("a:1", "a", "1"),
        (":1", "", "1"),
        ("[::1]:2", "::1", "2"),
        ("a:", "a", ""),
        ("[]:1", "", "1"),
    ],
)
def test_addresses_are_split_as_go_splits_them(text: str, host: str, port: str) -> None:
    assert split(text) == (host, port)


async def test_a_name_gives_its_ipv4_address_first() -> None:
    assert str(await resolve("localhost:80")) == "127.0.0.1:80"
    assert str(await resolve("127.0.0.1:http")) == f"127.0.0.1:{socket.getservbyname('http')}"
    assert str(await resolve("")) == ":0"
    with pytest.raises(AddressError, match=r"^lookup a\.\.b: no such host$"):
        await resolve("a..b:1")
