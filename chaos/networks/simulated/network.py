"""The simulated network: the links of the embedded one, and below them a scenario's paths and path faults.

All that is decided here follows from the plan and its seed. Each direction of each path, and each fault on it, draws
from a generator of its own, so that one does not disturb the draws of another.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from random import Random

import trio

from chaos.link.transcript import record_felt
from chaos.networks.base import Network, Tls, affected
from chaos.networks.embedded import EmbeddedNetwork
from chaos.networks.simulated.hosts import DnsFault
from chaos.networks.simulated.paths import (
    Delay,
    PathFault,
    PathFaultKind,
    constant,
    lognormal,
    lossy,
    normal,
    pareto,
    traced,
    uniform,
)
from chaos.networks.simulated.world import World
from chaos.recorder import Recorder
from chaos.scenario import paths as described
from chaos.scenario.plan import STREAMS, Plan, Step, generator
from chaos.trace import Stream
from chaos.vocabulary.faults import (
    DnsFailure,
    Fault,
    HostCrash,
    HostFreeze,
    Loss,
    Partition,
    SynDrop,
)

_KINDS: dict[type[Fault], PathFaultKind] = {
    Partition: "partition",
    Loss: "loss",
    SynDrop: "syn_drop",
}
# by their names in scenarios, where the parameters have the same names as in `paths`
_DISTRIBUTIONS: dict[str, Callable[..., Delay]] = {
    "uniform": uniform,
    "normal": normal,
    "lognormal": lognormal,
    "pareto": pareto,
}


class SimulatedNetwork(Network):
    """A link per client on virtual time. Path faults act between two hosts, or on one; both record what was felt."""

    def __init__(
        self,
        world: World,
        *,
        plan: Plan,
        recorder: Recorder,
        host: str,
        port: int,
        tls: Tls | None,
    ) -> None:
        """Prepare the links; nothing listens before `open`. The hosts must have been settled."""
        self._world = world
        self._plan = plan
        self._recorder = recorder
        self._links = EmbeddedNetwork(
            plan=plan,
            recorder=recorder,
            host=host,
            port=port,
            tls=tls,
            caller=world.fabric,
        )
        self._undo: dict[int, list[Callable[[], None]]] = {}
        lay_paths(world, plan, lambda: recorder.zero_s)

    async def open(self, nursery: trio.Nursery) -> Sequence[int]:
        """Open all links; see `Network.open`."""
        return await self._links.open(nursery)

    async def apply(self, step: Step) -> None:
        """Apply a step: a path fault here, any other at the links."""
        fault = self._plan.settings[step.entry]
        if not (isinstance(fault, Fault) and fault.on_path):
            await self._links.apply(step)
            return
        for undo in self._undo.pop(step.entry, ()):
            undo()
        if step.change == "on":
            self._undo[step.entry] = list(self._put_in_force(step, fault))

    def _put_in_force(self, step: Step, fault: Fault) -> Iterator[Callable[[], None]]:
        """Put a fault in force where it acts, and yield what ends it there."""
        on_server = (
            fault.host == "server"
            if isinstance(fault, (HostCrash, HostFreeze))
            else isinstance(fault, (Partition, Loss, SynDrop)) and fault.leg == "server"
        )
        # the server's host, and the path behind the link, are one for all clients
        clients: Sequence[int | None] = [None] if on_server else affected(self._plan, step)
        for client in clients:
            if isinstance(fault, (Partition, Loss, SynDrop)):
                yield from self._put_on_paths(step, client, fault)
                continue
            host = self._world.hosts.host_of("server" if on_server else "client", client)
            felt = self._record_once(step, client, None)
            if isinstance(fault, HostCrash):
                lost = self._world.crash(host)
                if lost:
                    felt(f"lost {lost} connections without a word")
                yield partial(self._world.boot, host)
            elif isinstance(fault, HostFreeze):
                self._world.freeze(host, partial(felt, "kept from the program what had come"))
                yield partial(self._world.thaw, host)
            elif isinstance(fault, DnsFailure):
                made = DnsFault(mode=fault.mode, delay_s=fault.delay_s, felt=felt)
                faults = self._world.fabric.host(host).dns_faults
                faults.append(made)
                yield partial(faults.remove, made)

    def _put_on_paths(
        self, step: Step, client: int | None, fault: Partition | Loss | SynDrop
    ) -> Iterator[Callable[[], None]]:
        """Put a fault on the leg of one client, or on the one behind the link; a SYN goes upstream only."""
        stream = self._plan.scenario.timeline[step.entry].stream
        ways = STREAMS if stream == "both" else (stream,)
        ends = hosts_of(self._world, fault.leg, client)
        for way in ("upstream",) if isinstance(fault, SynDrop) else ways:
            path = self._world.fabric.path(*(ends if way == "upstream" else ends[::-1]))
            made = PathFault(
                kind=_KINDS[type(fault)],
                felt=self._record_once(step, client, way),  # type: ignore[arg-type]
                rate=fault.rate if isinstance(fault, Loss) else 1.0,
                rng=generator(self._plan.seed, "loss", step.entry, step.occurrence, client, way),
            )
            path.faults.append(made)
            yield partial(path.faults.remove, made)

    def _record_once(
        self, step: Step, client: int | None, stream: Stream | None
    ) -> Callable[[str], None]:
        """Return a function that records how a fault was felt, each way of it once."""
        known: set[str] = set()

        def felt(how: str) -> None:
            if how in known:
                return
            known.add(how)
            timeline = self._plan.scenario.timeline
            record_felt(self._recorder, timeline, step.entry, how, client=client, stream=stream)

        return felt


def hosts_of(world: World, leg: described.Leg, client: int | None) -> tuple[str, str]:
    """Return the hosts at the two ends of a leg: the client's and the link's, or the link's and the server's."""
    link = world.hosts.host_of(None)
    if leg == "client":
        return world.hosts.host_of("client", client), link
    return link, world.hosts.host_of("server")


def lay_paths(world: World, plan: Plan, zero: Callable[[], float]) -> None:
    """Give the paths of a run the delays, bandwidths, queues and losses of its scenario.

    The hosts must have been settled. The times in recorded delays count from `zero()`, in seconds of the fabric.
    """
    paths = plan.scenario.paths
    if paths is None:
        return
    legs: list[tuple[described.Leg, int | None]] = [
        ("client", client) for client in range(1, plan.scenario.client.count + 1)
    ]
    legs.append(("server", None))
    for leg, client in legs:
        described_leg = paths.leg(leg)
        if described_leg is None:
            continue
        ends = hosts_of(world, leg, client)
        for way in STREAMS:
            row = described_leg.way(way)
            source, target = ends if way == "upstream" else ends[::-1]
            path = world.fabric.path(source, target)
            if row.delay is not None:
                rng = generator(plan.seed, "delay", leg, client, way)
                path.delay = make_delay(row.delay, rng, zero)
            path.bandwidth = row.bytes_per_s
            path.queue_bytes = row.queue_bytes
            if row.loss:
                path.loss = lossy(generator(plan.seed, "path", source, target), row.loss)


def make_delay(row: float | described.Delay, rng: Random, zero: Callable[[], float]) -> Delay:
    """Return a function that draws the delays which a scenario describes."""
    if not isinstance(row, described.Delay):
        return constant(row)
    for name, make in _DISTRIBUTIONS.items():
        parameters = getattr(row, name)
        if parameters is not None:
            return make(rng, **dict(parameters))
    assert row.trace is not None, "one of them is given"
    recorded = traced(row.trace)
    return lambda now: recorded(now - zero())
