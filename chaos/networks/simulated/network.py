"""The simulated network: the embedded one's links, and below them the faults of hosts and paths."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import ClassVar

import trio

from chaos.link.transcript import record_felt
from chaos.networks.base import Tls, affected
from chaos.networks.embedded import EmbeddedNetwork
from chaos.networks.simulated.end import FabricCaller
from chaos.networks.simulated.hosts import DnsFault
from chaos.networks.simulated.layout import hosts_of, lay_paths
from chaos.networks.simulated.paths import Obstacle, Why
from chaos.networks.simulated.world import World
from chaos.recorder import Recorder
from chaos.scenario.plan import STREAMS, Plan, Step, generator
from chaos.trace import Event, Stream
from chaos.vocabulary.faults import (
    DnsFailure,
    Fault,
    HostCrash,
    HostFreeze,
    Loss,
    Partition,
    SynDrop,
)

_WHY: dict[type[Fault], Why] = {Partition: "partition", Loss: "loss", SynDrop: "syn_drop"}


class SimulatedNetwork:
    """A link per client on virtual time. Path faults act between two hosts, or on one."""

    KINDS: ClassVar[frozenset[str]] = frozenset()

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
            caller=FabricCaller(world.fabric),
        )
        self._undo: dict[int, list[Callable[[], None]]] = {}
        lay_paths(world, plan, lambda: recorder.zero_s)

    async def open(self, nursery: trio.Nursery) -> Sequence[int]:
        """Open all links; see `Network.open`."""
        return await self._links.open(nursery)

    def see(self, event: Event) -> None:
        """Need nothing: links and paths record by themselves what was felt."""

    async def apply(self, step: Step) -> None:
        """Apply a step: a path fault here, any other at the links."""
        fault = self._plan.settings[step.entry]
        if not (isinstance(fault, Fault) and fault.on_path):
            await self._links.apply(step)
            return
        for undo in self._undo.pop(step.entry, ()):
            undo()
        if step.change == "on":
            self._undo[step.entry] = list(self._switch_on(step, fault))

    def _switch_on(self, step: Step, fault: Fault) -> Iterator[Callable[[], None]]:
        """Put a fault in force, and yield what ends it again."""
        if isinstance(fault, (HostCrash, HostFreeze)):
            side = fault.host
            clients: Sequence[int | None] = (
                [None] if side == "server" else affected(self._plan, step)
            )
            for client in clients:
                home = self._world.hosts.home_of(side, client)
                felt = self._once(step, client, None)
                act = self._crash if isinstance(fault, HostCrash) else self._freeze
                yield act(home, felt)
            return
        if isinstance(fault, (Partition, Loss, SynDrop)) and fault.leg == "server":
            yield from self._obstruct(step, None, fault)
            return
        for client in affected(self._plan, step):
            if isinstance(fault, DnsFailure):
                yield self._break_dns(client, fault, self._once(step, client, None))
            elif isinstance(fault, (Partition, Loss, SynDrop)):
                yield from self._obstruct(step, client, fault)

    def _obstruct(
        self, step: Step, client: int | None, fault: Partition | Loss | SynDrop
    ) -> Iterator[Callable[[], None]]:
        """Put an obstacle on the leg of one client, or on the one behind the link that all of them share."""
        here, there = hosts_of(self._world, fault.leg, client)
        stream = self._plan.scenario.timeline[step.entry].stream
        ways = STREAMS if stream == "both" and not isinstance(fault, SynDrop) else (stream,)
        for way in ("upstream",) if isinstance(fault, SynDrop) else ways:
            path = self._world.fabric.path(*((here, there) if way == "upstream" else (there, here)))
            obstacle = Obstacle(
                why=_WHY[type(fault)],
                felt=self._once(step, client, way),  # type: ignore[arg-type]
                rate=fault.rate if isinstance(fault, Loss) else 1.0,
                rng=generator(self._plan.seed, "loss", step.entry, step.occurrence, client, way),
            )
            path.obstacles.append(obstacle)
            yield partial(path.obstacles.remove, obstacle)

    def _crash(self, home: str, felt: Callable[[str], None]) -> Callable[[], None]:
        lost = self._world.crash(home)
        if lost:
            felt(f"lost {lost} connections without a word")
        return lambda: self._world.boot(home)

    def _freeze(self, home: str, felt: Callable[[str], None]) -> Callable[[], None]:
        self._world.freeze(home)
        self._world.on_hold[home] = lambda: felt("kept from the program what had come")

        def thaw() -> None:
            self._world.on_hold.pop(home, None)
            self._world.thaw(home)

        return thaw

    def _break_dns(
        self, client: int, fault: DnsFailure, felt: Callable[[str], None]
    ) -> Callable[[], None]:
        home = self._world.hosts.home_of("client", client)
        faults = self._world.hosts.dns_faults.setdefault(home, [])
        made = DnsFault(mode=fault.mode, delay_s=fault.delay_s, felt=felt)
        faults.append(made)
        return partial(faults.remove, made)

    def _once(self, step: Step, client: int | None, stream: Stream | None) -> Callable[[str], None]:
        """Return what records the first time that each kind of thing is felt."""
        known: set[str] = set()

        def felt(how: str) -> None:
            if how in known:
                return
            known.add(how)
            timeline = self._plan.scenario.timeline
            record_felt(self._recorder, timeline, step.entry, how, client=client, stream=stream)

        return felt
