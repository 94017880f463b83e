"""The Toxiproxy network: client, front link, a real Toxiproxy, back link, server.

Toxiproxy applies its own toxics. The front link observes the client and applies the faults that Toxiproxy lacks;
the back link observes the server and applies nothing.
"""

from __future__ import annotations

import ipaddress
import os
import socket
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field

import trio
from toxiproxy import Proxy

from chaos.link.connection import Watch
from chaos.link.link import Link, Numbering, counting
from chaos.networks.base import Felt, Tls, affected, dialer
from chaos.networks.toxiproxy_api import ToxiproxyApi
from chaos.networks.toxiproxy_process import serve_toxiproxy
from chaos.recorder import Recorder
from chaos.scenario.plan import Plan, Step
from chaos.trace import Event, Side
from chaos.vocabulary.faults import Down
from chaos.vocabulary.toxics import Latency, LimitData, ResetPeer, SlowClose, Toxic

CLIENT_SIDE: frozenset[Side] = frozenset(("client",))
SERVER_SIDE: frozenset[Side] = frozenset(("server",))


@dataclass(slots=True, kw_only=True)
class _Lane:
    """What one client has: its two links and its proxy between them."""

    front: Link
    back: Link
    dialed: deque[int] = field(default_factory=deque)
    proxy: Proxy | None = None


class ToxiproxyNetwork:
    """A front link, a proxy of a real Toxiproxy and a back link per client."""

    def __init__(
        self,
        *,
        plan: Plan,
        recorder: Recorder,
        host: str,
        port: int,
        tls: Tls | None,
        felt: Felt,
        url: str | None = None,
    ) -> None:
        """Prepare; nothing is started before `serve`. `url` is a Toxiproxy that is already running."""
        self._plan = plan
        self._recorder = recorder
        self._server = (host, port)
        self._tls = tls
        self._felt = felt
        self._url = url
        self._lanes: dict[int, _Lane] = {}
        self._toxics: dict[int, Toxic] = {}  # active entries
        self._told: set[tuple[int, int | None, int | None]] = set()

    async def serve(
        self, *, task_status: trio.TaskStatus[Sequence[int]] = trio.TASK_STATUS_IGNORED
    ) -> None:
        """Serve until cancelled; see `Network.serve`. A Toxiproxy of its own is stopped at the end.

        Raises:
            NetworkUnavailable: Toxiproxy cannot be had, or fails, or ends.
        """
        async with trio.open_nursery() as nursery:
            url = self._url or await nursery.start(serve_toxiproxy)
            self._api = ToxiproxyApi(url)
            await self._api.version()
            try:
                clients = range(1, self._plan.scenario.client.count + 1)
                ports = [await self._open_lane(nursery, client) for client in clients]
                task_status.started(ports)
                await trio.sleep_forever()
            finally:
                if self._url is not None:
                    with trio.CancelScope(shield=True):
                        await self._remove_proxies()

    async def _open_lane(self, nursery: trio.Nursery, client: int) -> int:
        """Start both links of a client and its proxy; return the front link's port."""
        address = own_address(self._api.host)
        dialed: deque[int] = deque()
        back = Link(
            plan=self._plan,
            watch=self._watch(client, SERVER_SIDE),
            dial=dialer(*self._server, self._tls),
            numbering=Numbering(
                next=lambda: dialed.popleft() if dialed else 0, dialing=_ignore, failed=_ignore
            ),
            address=address,
        )
        back_port = await nursery.start(back.serve)
        name = f"trio-chaos-{os.getpid()}-{client}"
        listen = "127.0.0.1:0" if _is_loopback(self._api.host) else "0.0.0.0:0"
        proxy, port = await self._api.create(name, listen, f"{address}:{back_port}")
        front = Link(
            plan=self._plan,
            watch=self._watch(client, CLIENT_SIDE),
            dial=dialer(self._api.host, port, None),
            numbering=Numbering(next=counting().next, dialing=dialed.append, failed=dialed.remove),
        )
        self._lanes[client] = _Lane(front=front, back=back, dialed=dialed, proxy=proxy)
        return int(await nursery.start(front.serve))

    def _watch(self, client: int, sides: frozenset[Side]) -> Watch:
        return Watch(
            recorder=self._recorder,
            client=client,
            sides=sides,
            felt=lambda *what: self._felt(client, *what),
        )

    async def apply(self, step: Step) -> None:
        """Apply a step; returns when Toxiproxy has answered."""
        settings = self._plan.settings[step.entry]
        if isinstance(settings, Toxic):
            if step.change == "on":
                self._toxics[step.entry] = settings
            else:
                self._toxics.pop(step.entry, None)
        for client in affected(self._plan, step):
            lane = self._lanes[client]
            if isinstance(settings, Toxic):
                await self._apply_toxic(lane, step, settings)
                continue
            if isinstance(settings, Down) and lane.proxy is not None:
                await self._api.enable(lane.proxy, enabled=step.change == "off")
            await lane.front.apply(step)

    async def _apply_toxic(self, lane: _Lane, step: Step, toxic: Toxic) -> None:
        assert lane.proxy is not None
        for stream, stage in self._plan.stages(step.entry).items():
            name = f"entry{step.entry}_{stream}"
            if step.change != "on":
                await self._api.remove_toxic(lane.proxy, name)
                continue
            await self._api.add_toxic(
                lane.proxy,
                name=name,
                type=toxic.word,
                stream=stream,
                toxicity=stage.toxicity,
                attributes=toxic.model_dump(),
            )

    def see(self, event: Event) -> None:
        """Notice from outside that a toxic touched something: no link can look into Toxiproxy."""
        for entry, toxic in self._toxics.items():
            how = touched(toxic, event)
            row = self._plan.scenario.timeline[entry]
            key = (entry, event.client, event.connection)
            if how is None or key in self._told or row.stream not in (event.stream, "both"):
                continue
            if row.clients is not None and event.client not in row.clients:
                continue
            self._told.add(key)
            assert event.client is not None
            assert event.stream is not None
            self._felt(event.client, event.connection or 0, event.stream, f"{entry}", how)

    async def _remove_proxies(self) -> None:
        for lane in self._lanes.values():
            if lane.proxy is not None:
                await self._api.destroy(lane.proxy)


def touched(toxic: Toxic, event: Event) -> str | None:
    """Return how an event shows that an active toxic acted on its stream, or None."""
    if event.stream is None or event.kind not in ("frame", "fin", "rst", "response", "request"):
        return None
    sent = event["side"] == ("client" if event.stream == "upstream" else "server")
    ends = event.kind in ("fin", "rst")
    if isinstance(toxic, SlowClose):
        return "an end of stream entered it" if sent and ends else None
    if isinstance(toxic, (LimitData, ResetPeer)):
        return "it ended the connection" if ends and not sent else None
    if isinstance(toxic, Latency) and ends:
        return None
    return f"a {event.kind} entered it" if sent else None


def own_address(towards: str) -> str:
    """Return the address of this machine that another host reaches it at (no packet is sent)."""
    if _is_loopback(towards):
        return "127.0.0.1"
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.connect((towards, 9))
        return str(probe.getsockname()[0])


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _ignore(_: int) -> None:
    return
