"""From a plan to a trace: owns the outermost nursery, time zero, and the order of starts and stops."""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import trio

from chaos.errors import NetworkUnavailable, first_message
from chaos.link.transcript import record_felt
from chaos.networks.base import MakeNetwork, Network, Tls
from chaos.networks.simulated.clock import seed_scheduler
from chaos.networks.simulated.hosts import LINK, SERVER_ADDRESS
from chaos.networks.simulated.inside import inside
from chaos.networks.simulated.world import World
from chaos.recorder import Recorder, as_json
from chaos.running.garbage import YOUNG_S, Collector
from chaos.running.pace import watch_pace
from chaos.running.samples import Samples
from chaos.running.timeline import Timeline
from chaos.running.watch import StormWatch, TriggerWatch, Watches
from chaos.scenario.model import Entry
from chaos.scenario.plan import Plan, Step
from chaos.subject import Command, abilities_of
from chaos.subjects.census import Census
from chaos.subjects.host import Host, client_options, server_options
from chaos.subjects.load import check_abilities
from chaos.subjects.probes import count_tasks, recording
from chaos.trace import Event, Header, Side, Trace
from chaos.vocabulary.actions import Action
from chaos.vocabulary.faults import HostCrash

HOST = "127.0.0.1"
# a server that has not said on which port it listens by then never will
SERVER_START_S = 10.0
# a subject that is cancelled has this long to stop; one that shields itself for longer cannot be stopped at all
STOP_S = 5.0
# after a subject's stop, before what it still owns is counted
STOP_GRACE_S = 0.3
# A trace has no more events than this: a busy scenario of an hour fits, and the memory of most machines carries it.
EVENTS_MAX = 1_000_000

Subject = Callable[..., Awaitable[Any]]


@dataclass(kw_only=True)
class Run:
    """One run of one plan. `run` may be called once.

    Raises:
        UsageError: a subject cannot do what the plan asks of it.
    """

    plan: Plan
    server: Subject
    client: Subject
    make_network: MakeNetwork
    network_name: str
    sink: Callable[[Event], None] | None = None
    # is called when a subject does not stop; must end the process
    on_stuck: Callable[[], None] | None = None
    # is called at the end when tasks of subjects are left, which trio cancels but which may not end
    on_left: Callable[[], None] | None = None
    environment: dict[str, Any] = field(default_factory=dict)
    tls: Tls | None = None
    world: World | None = None  # of a simulated run; its clock must be virtual
    notes: tuple[str, ...] = ()  # what was left out of the scenario, and why; recorded as warnings
    _hosts: dict[tuple[Side, int | None], Host] = field(default_factory=dict, init=False)

    def __post_init__(self) -> None:
        check_abilities(self.plan, self.server, self.client)
        time = self.world.fabric.time if self.world else trio.current_time
        self._recorder = Recorder(time, sink=self._see)
        self._watches = Watches()
        self._samples = Samples(self.plan.scenario, self._recorder, self._watches)
        self._timeline = Timeline(plan=self.plan, apply=self._apply)
        self._playing = trio.CancelScope()
        self._collector = Collector()
        self._beats, self._beat_s = 0, 0.0
        self._watches.add(StormWatch(self.plan.scenario.client.storm, self._end_storm))
        if self.plan.triggered:
            self._watches.add(TriggerWatch(self.plan.triggered, self._timeline.fire))
        self._network: Network | None = None

    @property
    def trace(self) -> Trace:
        """The trace as far as it has come."""
        return Trace(self._header, tuple(self._recorder.events))

    @property
    def events(self) -> int:
        """How many events the trace has."""
        return len(self._recorder.events)

    @cached_property
    def _header(self) -> Header:
        return Header(
            scenario=self.plan.scenario.redacted().to_json(),
            network=self.network_name,
            seed=self.plan.seed,
            environment=self.environment,
        )

    def dissolve(self) -> None:
        """Let go of everything, for good: what a run is made of refers back to it, and is then freed at once."""
        for part in (self._samples, self):
            vars(part).clear()

    def warn(self, text: str) -> None:
        """Record a warning of Python's or the harness's; shown with the verdict, never judged.

        One that comes when the event loop has ended, and time with it, has the time of the last event.
        """
        try:
            self._recorder.record("warning", text=as_json(text))
        except RuntimeError:
            at_s = max((event.at_s for event in self._recorder.events), default=0.0)
            self._recorder.events.append(
                Event(at_s=at_s, kind="warning", data={"text": as_json(text)})
            )
            if self.sink is not None:
                self.sink(self._recorder.events[-1])

    def cut(self, why: str) -> None:
        """Record that the run is given up, from whatever thread; where its end has come already, as a warning."""
        if any(event.kind == "end" for event in reversed(self._recorder.events)):
            self.warn(f"given up: {why}")
            return
        at_s = self._recorder.now_s() if self.world else self._beat_s
        self._recorder.events.append(
            Event(at_s=round(at_s, 6), kind="interrupted", data={"why": why})
        )
        if self.sink is not None:
            self.sink(self._recorder.events[-1])

    def progress(self) -> float:
        """Return a number that changes as long as the run goes on: virtual time, or turns of the event loop."""
        return self.world.fabric.now if self.world is not None else self._beats

    async def run(self) -> Trace:
        """Run to the end of the scenario and return the trace.

        Whatever the subjects do, this returns. Cancelling stops everything; `trace` then has what there is.
        """
        over = False
        if self.world is not None:
            # not before: who supervises must not make a difference to what the seed draws
            seed_scheduler(self.plan.seed)
            self.world.hosts.settle(self.plan.scenario.client.count)
        with recording(self.world, self._connections()) as self._ledger, inside(self.world):
            self._samples.census = Census(self._ledger, self._collector.collect_all)
            try:
                async with trio.open_nursery() as nursery:
                    if self.world is None:
                        nursery.start_soon(self._beat)
                    await self._run_inside(nursery)
                    over = True
                    nursery.cancel_scope.cancel()
            except* NetworkUnavailable as group:
                over = True
                self._recorder.record("network_failed", error=first_message(group))
            finally:
                if not over:
                    self._recorder.record("interrupted")
        if self.on_left is not None and count_tasks():
            self.on_left()
        return self.trace

    async def _run_inside(self, nursery: trio.Nursery) -> None:
        server = self._host("server", None)
        self._recorder.start()
        self._samples.take("start")
        port = await self._start_server(nursery, server)
        if port is None:
            self._recorder.record("end")
            return
        self._network = network = self.make_network(
            plan=self.plan,
            recorder=self._recorder,
            host=HOST if self.world is None else SERVER_ADDRESS,
            port=port,
            tls=self.tls,
        )
        self._watches.add(network)
        ports = await network.open(nursery)
        self._recorder.start()
        self._recorder.record("start")
        for note in self.notes:
            self.warn(note)
        if self.world is None:  # virtual time does not lag
            nursery.start_soon(watch_pace, self._recorder, self._collector)
        self._samples.nursery = nursery
        self._start_clients(nursery, ports)
        await self._play()
        self._recorder.record("end")
        await self._stop("client")
        await trio.sleep(STOP_GRACE_S)  # the server is to notice
        self._samples.take("stopped", sides=("client",))
        await self._stop("server")
        if not self._samples.take("stopped", sides=("server",), if_clean=True):
            await trio.sleep(STOP_GRACE_S)
            self._samples.take("stopped", sides=("server",))

    # subjects

    def _connections(self) -> tuple[type, ...]:
        """Return the classes of connection objects that the subjects declare."""
        return tuple(
            kind for one in (self.server, self.client) for kind in abilities_of(one).connections
        )

    def _host(self, side: Side, client: int | None) -> Host:
        scenario, seed = self.plan.scenario, self.plan.seed
        if side == "server":
            options = server_options(scenario, seed, self.tls.server if self.tls else None)
        else:
            assert client is not None
            context = self.tls.client if self.tls else None
            options = client_options(scenario, client, seed, context)
        host = Host(
            side=side,
            client=client,
            function=self.server if side == "server" else self.client,
            recorder=self._recorder,
            ledger=self._ledger,
            options=options | {"actions": self.plan.actions_of(side)},
        )
        self._hosts[side, client] = host
        return host

    async def _start_server(self, nursery: trio.Nursery, server: Host) -> int | None:
        """Return the port that the server listens on, or None if it failed to start."""
        error = f"did not say within {SERVER_START_S:g} s on which port it listens"
        nursery.start_soon(server.run, HOST, 0)
        with trio.move_on_after(SERVER_START_S):
            try:
                return int(await server.wait_listening())
            except RuntimeError:
                return None  # its exit is recorded
            except (TypeError, ValueError):
                error = "task_status.started() was not given a port"
        self._recorder.record("subject_exit", subject="server", error=error)
        return None

    def _start_clients(self, nursery: trio.Nursery, ports: Sequence[int]) -> None:
        scenario = self.plan.scenario
        scheme, link = "wss" if self.tls else "ws", HOST if self.world is None else LINK
        for number, port in enumerate(ports, start=1):
            host = self._host("client", number)
            delay_s = scenario.client.start_spread_s * (number - 1) / len(ports)
            url = f"{scheme}://{link}:{port}/?client={number}"
            nursery.start_soon(host.run_later, delay_s, url)

    async def _stop(self, side: Side) -> None:
        """Cancel the subjects of one side and wait until they are gone; say so when one does not go."""
        hosts = self._hosts_of(side)
        for host in hosts:
            host.stop()
        with trio.move_on_after(STOP_S):
            for host in hosts:
                await host.wait_stopped()
        self._tell_stuck(side)

    def _tell_stuck(self, side: Side) -> None:
        """Say so when a subject has outlived its cancellation, and end the run as it stands."""
        if not any(host.is_running for host in self._hosts_of(side)):
            return
        self.warn(f"the {side} did not stop within {STOP_S:g} s of being cancelled")
        self._samples.take("stopped", sides=(side,))
        if self.on_stuck is not None:
            self.on_stuck()

    # the timeline

    async def _play(self) -> None:
        """Apply every step at its time, until the scenario's duration is over or a storm breaks out."""
        zero_s = self._recorder.zero_s
        with self._playing as scope:
            scope.deadline = zero_s + self._timeline.duration_s
            await self._timeline.play(zero_s)

    def _end_storm(self, client: int, attempts: int, in_s: float) -> None:
        self._recorder.record("storm", client=client, attempts=attempts, in_s=round(in_s, 6))
        self._playing.cancel()

    async def _apply(self, step: Step) -> None:
        words = self.plan.settings[step.entry]
        entry = self.plan.scenario.timeline[step.entry]
        change: str = step.change
        if step.change == "action" and entry.for_s is not None:
            change = "off" if step.ends else "on"
        self._recorder.record(
            "apply",
            entry=step.entry,
            occurrence=step.occurrence,
            name=entry.name,
            what=f"{entry.kind} {entry.word}",
            change=change,
        )
        if isinstance(words, Action):
            self._act(step, entry, words)
            return
        assert self._network is not None
        await self._network.apply(step)
        if isinstance(words, HostCrash):  # sockets are dead by now: their closing says nothing
            for host in self._hosts_of(words.host, entry.clients):
                host.start_again() if step.ends else host.crash()

    def _act(self, step: Step, entry: Entry, action: Action) -> None:
        for host in self._hosts_of(entry.by or action.peers[0], entry.clients):
            if action.word == "crash" or (action.word == "restart" and not step.ends):
                host.crash()
            if action.word == "restart" and (step.ends or entry.for_s is None):
                host.start_again()
            if not action.by_runner:
                parameters = {name: getattr(action, name) for name in type(action).model_fields}
                clients = entry.clients if host.side == "server" else None
                host.command(Command(action.word, parameters, step.ends, clients))

    def _hosts_of(self, side: Side, clients: Sequence[int] | None = None) -> list[Host]:
        return [
            host
            for (its_side, client), host in self._hosts.items()
            if its_side == side and (side == "server" or clients is None or client in clients)
        ]

    # observation

    def _see(self, event: Event) -> None:
        """Pass each event on, as it is recorded, to whoever waits for one."""
        if len(self._recorder.events) == EVENTS_MAX:
            self._end_full_trace()
        self._watches.see(event)
        if self.sink is not None:
            self.sink(event)
        if event.kind == "refused":
            self._feel_refusal(event)

    def _feel_refusal(self, event: Event) -> None:
        for entry, _ in self._timeline.windows:
            words = self.plan.settings[entry]
            clients = self.plan.scenario.timeline[entry].clients
            if words.refuses and (clients is None or event.client in clients):
                how = "refused a connection"
                timeline = self.plan.scenario.timeline
                record_felt(self._recorder, timeline, entry, how, client=event.client)

    def _end_full_trace(self) -> None:
        """End the run since its trace has as many events as it may have."""
        most = Counter(event.client for event in self._recorder.events).most_common(1)[0]
        rate = EVENTS_MAX / max(self._recorder.now_s(), 1e-3)
        why = (
            f"its trace had {EVENTS_MAX} events, the most it may have: {rate:.0f} in a second, "
            f"{most[1]} of them of client {most[0]}"
        )
        self._recorder.record("interrupted", why=why)
        self._playing.cancel()

    async def _beat(self) -> None:
        """Show that the event loop turns, and collect garbage, as long as the run lasts. Real networks only."""
        with self._collector.in_charge():
            while True:
                self._beats += 1
                self._beat_s = self._recorder.now_s()
                self._collector.collect_some()
                await trio.sleep(YOUNG_S)
