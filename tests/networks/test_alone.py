"""`chaos.Link`: a link in front of any server, on the machine's sockets and on simulated ones."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest
import trio

import chaos
from chaos.errors import UsageError


async def echo(stream: trio.SocketStream) -> None:
    async for chunk in stream:
        await stream.send_all(chunk)


async def through_a_blackhole() -> list[str]:
    """Return what a client sees of a link: before, inside and after a window, and what the link has recorded."""
    seen = []
    async with trio.open_nursery() as nursery:
        listeners = await nursery.start(partial(trio.serve_tcp, echo, 0, host="127.0.0.1"))
        link = chaos.Link("127.0.0.1", listeners[0].socket.getsockname()[1])
        port = await nursery.start(link.serve)
        async with await trio.open_tcp_stream("127.0.0.1", port) as stream:
            await stream.send_all(b"before")
            seen.append((await stream.receive_some()).decode())
            async with link.fault("blackhole"):
                await stream.send_all(b"inside")
                with trio.move_on_after(0.3):
                    seen.append((await stream.receive_some()).decode())
        async with await trio.open_tcp_stream("127.0.0.1", port) as stream:
            slow = await link.add("latency", latency=200, stream="both")
            started_s = trio.current_time()
            await stream.send_all(b"slow")
            seen.append((await stream.receive_some()).decode())
            assert trio.current_time() - started_s >= 0.4
            link.remove(slow)
            link.reset("client")
            with pytest.raises(trio.BrokenResourceError):
                await stream.receive_some()
        seen += [event["how"] for event in link.events if event.kind == "felt"]
        nursery.cancel_scope.cancel()
    return seen


SEEN = ["before", "slow", "discarded 6 bytes"]


async def test_faults_come_and_go_on_real_sockets() -> None:
    seen = await through_a_blackhole()
    assert seen[:3] == SEEN
    assert seen[-1] == "sent an RST"


def test_faults_come_and_go_on_simulated_sockets() -> None:
    seen = chaos.simulate(through_a_blackhole)
    assert seen[:3] == SEEN
    assert seen[-1] == "sent an RST"


@pytest.mark.parametrize(
    ("word", "parameters", "said"),
    [
        ("latncy", {}, "did you mean 'latency'"),
        ("partition", {}, "expected one of latency"),
        ("latency", {"latency": -1}, "latency: latency: .*got -1"),
        ("slow_accept", {"delay": 3}, r"250ms, 20s.*got 3"),
        ("stall", {"for": "3s"}, "for: .*got '3s'"),
    ],
)
async def test_what_is_wrong_is_said(word: str, parameters: dict[str, object], said: str) -> None:
    link = chaos.Link("127.0.0.1", 9)
    with pytest.raises(UsageError, match=said):
        await link.add(word, **parameters)  # type: ignore[arg-type]


async def test_a_link_that_is_not_open_says_so() -> None:
    with pytest.raises(UsageError, match="not open"):
        await chaos.Link("127.0.0.1", 9).add("stall")


@pytest.mark.parametrize("run", [chaos.simulate, trio.run], ids=["simulated", "real"])
@pytest.mark.parametrize("word", ["down", "refuse", "blackhole", "latency"])
def test_a_fault_may_end_after_its_link(run: Any, word: str) -> None:
    async def main() -> list[str]:
        async with trio.open_nursery() as nursery:
            link = chaos.Link("127.0.0.1", 9)
            await nursery.start(link.serve)
            async with link.fault(word):
                nursery.cancel_scope.cancel()
                with trio.CancelScope(shield=True):
                    await trio.sleep(0.01)  # the link is closed meanwhile
        link.remove(await link.add(word))
        link.reset()
        return [event.kind for event in link.events]

    assert run(main) == []
