"""The Toxiproxy network: client, front link, a real Toxiproxy, back link, server.

Toxiproxy applies its own toxics. The front link observes the client and applies the faults that Toxiproxy lacks. The
back link observes the server and applies nothing. A connection has the same number in both links.
"""

from __future__ import annotations

import functools
import os
import secrets
import socket
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import ClassVar

import trio
from toxiproxy import Proxy

from chaos.errors import NetworkUnavailable
from chaos.link.ends import End
from chaos.link.link import ClientLink, Dial
from chaos.link.transcript import Journal, record_felt
from chaos.networks.base import Network, Tls, affected, apply_step, dialer
from chaos.networks.loopback import is_loopback
from chaos.networks.toxiproxy.api import ToxiproxyApi
from chaos.networks.toxiproxy.process import serve_toxiproxy
from chaos.networks.toxiproxy.touched import Touches
from chaos.recorder import Recorder
from chaos.scenario.plan import Plan, Step
from chaos.trace import Event, Side
from chaos.vocabulary.faults import Down
from chaos.vocabulary.toxics import Toxic

CLIENT_SIDE: frozenset[Side] = frozenset(("client",))
SERVER_SIDE: frozenset[Side] = frozenset(("server",))
# Toxiproxy dials the back link as soon as it accepts; on another machine that takes some round trips
ARRIVAL_S = 10.0


@dataclass(slots=True, kw_only=True)
class _Lane:
    """What one client has: a front link, a proxy of Toxiproxy, and a back link, one behind the other.

    Nothing in a connection that comes out of Toxiproxy says which one it was when it went in, and trio does not run
    tasks in order. So one connection at a time is on its way: the next is dialed when the back link has accepted it.
    """

    proxy: Proxy
    port: int  # of the proxy
    front: ClientLink | None = None
    down: bool = False
    expected: int | None = None  # the number of the connection that is on its way through Toxiproxy
    arrived: trio.Event = field(default_factory=trio.Event)
    turn: trio.Lock = field(default_factory=trio.Lock)  # held while a connection is on its way

    def arrive(self) -> int:
        """Return the number of a connection that the back link has accepted; 0 if it was not dialed here."""
        number, self.expected = self.expected, None
        self.arrived.set()
        return number or 0

    async def dial(self, inner: Dial, number: int) -> End:
        """Dial the proxy, and return when the back link has accepted the connection.

        Raises:
            NetworkUnavailable: nothing listens where the proxy should.
            OSError: the connection was not passed on.
        """
        async with self.turn:
            self.expected, self.arrived = number, trio.Event()
            try:
                end = await self._connect(inner, number)
                try:
                    with trio.fail_after(ARRIVAL_S):
                        await self.arrived.wait()
                except BaseException as error:
                    end.close()
                    if isinstance(error, trio.TooSlowError):
                        raise TimeoutError(
                            f"Toxiproxy took a connection and did not pass it on within {ARRIVAL_S:g} s"
                        ) from None
                    raise
                return end
            finally:
                self.expected = None

    async def _connect(self, inner: Dial, number: int) -> End:
        try:
            return await inner(number)
        except OSError as error:
            if self.down:
                raise
            raise NetworkUnavailable(
                f"Toxiproxy does not accept connections for its proxy {self.proxy.name} any more: {error}"
            ) from error


class ToxiproxyNetwork(Network):
    """A front link, a proxy of a real Toxiproxy and a back link per client."""

    KINDS: ClassVar[frozenset[str]] = Touches.KINDS

    def __init__(
        self,
        *,
        plan: Plan,
        recorder: Recorder,
        host: str,
        port: int,
        tls: Tls | None,
        url: str | None = None,
    ) -> None:
        """Prepare; nothing is started before `open`. `url` is a Toxiproxy that is already running."""
        self._plan = plan
        self._recorder = recorder
        self._server = (host, port)
        self._tls = tls
        self._url = url
        self._lanes: dict[int, _Lane] = {}
        self._touches = Touches(plan.scenario)
        # unique among all runs that share a Toxiproxy, on whatever machine
        self._prefix = f"trio-chaos-{os.getpid()}-{secrets.token_hex(3)}"

    async def open(self, nursery: trio.Nursery) -> Sequence[int]:
        """Open a lane for each client; see `Network.open`. A Toxiproxy that it starts is stopped at the end."""
        ports: Sequence[int] = await nursery.start(self._serve)
        return ports

    async def _serve(self, *, task_status: trio.TaskStatus[Sequence[int]]) -> None:
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
        back = ClientLink(
            seed=self._plan.seed,
            journal=self._journal(client, SERVER_SIDE),
            dial=dialer(*self._server, self._tls),
            next_number=functools.partial(self._arrive, client),
            address=address,
        )
        back_port = await back.open(nursery)
        lane = await self._create_lane(client, f"{address}:{back_port}")
        lane.front = ClientLink(
            seed=self._plan.seed,
            journal=self._journal(client, CLIENT_SIDE),
            dial=functools.partial(lane.dial, dialer(self._api.host, lane.port, None)),
            tls=self._tls.server if self._tls else None,
        )
        return await lane.front.open(nursery)

    async def _create_lane(self, client: int, upstream: str) -> _Lane:
        """Make a client's proxy. This cannot be cancelled: a proxy that is made and not known would stay behind."""
        listen = "127.0.0.1:0" if is_loopback(self._api.host) else "0.0.0.0:0"
        with trio.CancelScope(shield=True):
            proxy, port = await self._api.create(f"{self._prefix}-{client}", listen, upstream)
            self._lanes[client] = _Lane(proxy=proxy, port=port)
        return self._lanes[client]

    def _arrive(self, client: int) -> int:
        """Return the number of a connection that has come out of Toxiproxy; the lane may not be there yet."""
        return self._lanes[client].arrive() if client in self._lanes else 0

    def _journal(self, client: int, sides: frozenset[Side]) -> Journal:
        timeline = self._plan.scenario.timeline
        return Journal(
            recorder=self._recorder,
            client=client,
            sides=sides,
            timeline=timeline,
            readers=self._plan.readers(),
        )

    async def apply(self, step: Step) -> None:
        """Apply a step; returns when Toxiproxy has answered."""
        settings = self._plan.settings[step.entry]
        if not isinstance(settings, Toxic):
            for client in affected(self._plan, step):
                await self._apply_fault(self._lanes[client], step)
            return
        if step.change != "on":
            self._touches.end(step.entry)
        for client in affected(self._plan, step):
            await self._apply_toxic(self._lanes[client], step, settings)
        if step.change == "on":
            # not before: a frame that passed while Toxiproxy was being asked may have passed untouched
            self._touches.begin(step.entry, settings)

    async def _apply_fault(self, lane: _Lane, step: Step) -> None:
        """Apply a fault in the front link, and `down` in Toxiproxy too, while it is in force in the front link."""
        assert lane.front is not None
        if not isinstance(self._plan.settings[step.entry], Down):
            await apply_step(lane.front, self._plan, step)
        elif step.change == "on":
            lane.down = True
            await apply_step(lane.front, self._plan, step)
            await self._api.enable(lane.proxy, enabled=False)
        else:
            await self._api.enable(lane.proxy, enabled=True)
            lane.down = False
            await apply_step(lane.front, self._plan, step)

    async def _apply_toxic(self, lane: _Lane, step: Step, toxic: Toxic) -> None:
        for stream, stage in self._plan.stages(step.entry).items():
            name = f"entry{step.entry}_{stream}"
            if step.change == "on":
                await self._api.add_toxic(
                    lane.proxy,
                    name=name,
                    type=toxic.word,
                    stream=stream,
                    toxicity=stage.toxicity,
                    attributes=toxic.model_dump(),
                )
            else:
                await self._api.remove_toxic(lane.proxy, name)

    def see(self, event: Event) -> None:
        """Conclude from an event that a toxic has touched something: no link can look into Toxiproxy."""
        for entry, how in self._touches.see(event):
            record_felt(
                self._recorder,
                self._plan.scenario.timeline,
                entry,
                how,
                client=event.client,
                connection=event.connection or 0,
                stream=event.stream,
            )

    async def _remove_proxies(self) -> None:
        """Delete the proxies of this run. A Toxiproxy that does not answer is asked once only."""
        for lane in self._lanes.values():
            await self._api.destroy(lane.proxy)


def own_address(towards: str) -> str:
    """Return the address at which another host reaches this machine (no packet is sent)."""
    if is_loopback(towards):
        return "127.0.0.1"
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.connect((towards, 9))
        return str(probe.getsockname()[0])
