"""From a plan to a trace: owns the outermost nursery, time zero, and the order of starts and stops."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import trio

from chaos.errors import NetworkUnavailable, first_message
from chaos.link.transcript import record_felt
from chaos.networks.base import MakeNetwork, Network, Tls
from chaos.networks.simulated.hosts import LINK, SERVER_ADDRESS
from chaos.networks.simulated.inside import inside
from chaos.networks.simulated.world import World
from chaos.recorder import Recorder, as_json
from chaos.running.watch import STEADY_QUIET_S, CycleWatch, SteadyWatch, TriggerWatch, Watches
from chaos.scenario.plan import Plan, Step, Triggered
from chaos.subject import Command
from chaos.subjects.abilities import check_abilities
from chaos.subjects.census import Census, Collect
from chaos.subjects.host import Host, client_options, server_options
from chaos.subjects.probes import Ledger, recording_sockets
from chaos.trace import Event, Header, Side, Trace
from chaos.vocabulary.actions import Action
from chaos.vocabulary.faults import Down, HostCrash, Refuse

HOST = "127.0.0.1"
# a server that has not said on which port it listens by then never will
SERVER_START_S = 10.0
# a subject that is cancelled has this long to stop; one that shields itself for longer cannot be stopped at all
STOP_S = 5.0
# after a subject's stop, before what it still owns is counted
STOP_GRACE_S = 0.3
# a reconnected client is given this long to drop what belonged to its old connection
CYCLE_SETTLE_S = 0.4
CYCLES_MAX = 200
LAG_PROBE_S = 0.05
LAG_RECORDED_S = 0.02

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
    environment: dict[str, Any] = field(default_factory=dict)
    tls: Tls | None = None
    world: World | None = None  # of a simulated run; its clock must be virtual
    _hosts: dict[tuple[Side, int | None], Host] = field(default_factory=dict, init=False)
    _open_windows: dict[int, Step] = field(default_factory=dict, init=False)

    def __post_init__(self) -> None:
        scenario = self.plan.scenario
        check_abilities(self.plan, self.server, self.client)
        time = self.world.fabric.time if self.world else trio.current_time
        self._recorder = Recorder(time, sink=self._see)
        self._steady = SteadyWatch(scenario, lambda: self._start(self._wait_steady))
        self._cycles = CycleWatch(
            scenario.client.count, lambda number: self._start(self._wait_cycle, number)
        )
        self._watches = Watches(self._steady, self._cycles)
        if self.plan.triggered:
            self._watches.add(TriggerWatch(self.plan.triggered, self._fire))
        self._ledger = Ledger()
        self._waits: trio.Nursery | None = None  # of those who wait for the time of a sample
        self._timeline: trio.Nursery | None = None
        self._network: Network | None = None

    @property
    def trace(self) -> Trace:
        """The trace as far as it has come."""
        return Trace(self._header, tuple(self._recorder.events))

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
        vars(self).clear()

    def warn(self, text: str) -> None:
        """Record a warning of Python's or the harness's; shown with the verdict, never judged."""
        self._recorder.record("warning", text=as_json(text))

    async def run(self) -> Trace:
        """Run to the end of the scenario and return the trace.

        Whatever the subjects do, this returns. Cancelling stops everything; `trace` then has what there is.
        """
        over = False
        if self.world is not None:
            self.world.hosts.settle(self.plan.scenario.client.count)
        with recording_sockets(self.world) as self._ledger, inside(self.world):
            self._census = Census(self._hosts.values(), self._ledger)
            try:
                async with trio.open_nursery() as nursery:
                    await self._run_inside(nursery)
                    over = True
                    nursery.cancel_scope.cancel()
            except* NetworkUnavailable as group:
                over = True
                self._recorder.record("network_failed", error=first_message(group))
            finally:
                if not over:
                    self._recorder.record("interrupted")
        return self.trace

    async def _run_inside(self, nursery: trio.Nursery) -> None:
        server = self._host("server", None)
        self._recorder.start()
        self._sample("start")
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
        if self.world is None:  # virtual time does not lag
            nursery.start_soon(self._watch_lag)
        self._waits = nursery
        self._start_clients(nursery, ports)
        await self._play()
        self._recorder.record("end")
        await self._stop("client")
        await trio.sleep(STOP_GRACE_S)  # the server is to notice
        self._sample("stopped", sides=("client",))
        await self._stop("server")
        if not self._sample("stopped", sides=("server",), if_clean=True):
            await trio.sleep(STOP_GRACE_S)
            self._sample("stopped", sides=("server",))

    # subjects

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
        hosts = self._hosts_of(side, None)
        for host in hosts:
            host.stop()
        with trio.move_on_after(STOP_S):
            for host in hosts:
                await host.wait_stopped()
        self._tell_stuck(side)

    def _tell_stuck(self, side: Side) -> None:
        """Say so when a subject has outlived its cancellation, and end the run as it stands."""
        if not any(host.tasks() for (its, _), host in self._hosts.items() if its == side):
            return
        self.warn(f"the {side} did not stop within {STOP_S:g} s of being cancelled")
        self._sample("stopped", sides=(side,))
        if self.on_stuck is not None:
            self.on_stuck()

    # the timeline

    async def _play(self) -> None:
        """Apply every step at its time, until the scenario's duration is over."""
        async with trio.open_nursery() as self._timeline:
            scope = self._timeline.cancel_scope
            scope.deadline = self._recorder.zero_s + self.plan.scenario.duration_s
            await self._play_steps(self.plan.steps, 0.0)
            await trio.sleep_forever()

    def _fire(self, row: Triggered) -> None:
        if self._timeline is not None:
            base_s = self._recorder.now_s() + row.then_s
            self._timeline.start_soon(self._play_steps, row.steps, base_s)

    async def _play_steps(self, steps: Sequence[Step], base_s: float) -> None:
        for step in sorted(steps, key=lambda step: (step.at_s, step.order)):
            await self._sleep_until(base_s + step.at_s)
            await self._apply(step)

    async def _sleep_until(self, at_s: float) -> None:
        await trio.sleep_until(self._recorder.zero_s + at_s)

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
            self._act(step, words)
            return
        if change == "off":
            self._open_windows.pop(step.entry, None)
        else:
            self._open_windows[step.entry] = step
        assert self._network is not None
        await self._network.apply(step)
        if isinstance(words, HostCrash):  # sockets are dead by now: their closing says nothing
            for host in self._hosts_of(words.host, entry.clients):
                host.start_again() if step.ends else host.crash()

    def _act(self, step: Step, action: Action) -> None:
        for host in self._actors(step):
            if action.word == "crash" or (action.word == "restart" and not step.ends):
                host.crash()
            if action.word == "restart" and (
                step.ends or self.plan.scenario.timeline[step.entry].for_s is None
            ):
                host.start_again()
            if not action.by_runner:
                parameters = {name: getattr(action, name) for name in type(action).model_fields}
                host.command(Command(action.word, parameters, step.ends))

    def _actors(self, step: Step) -> list[Host]:
        entry = self.plan.scenario.timeline[step.entry]
        action = self.plan.settings[step.entry]
        assert isinstance(action, Action)
        return self._hosts_of(entry.by or action.peers[0], entry.clients)

    def _hosts_of(self, side: Side, clients: Sequence[int] | None) -> list[Host]:
        return [
            host
            for (its_side, client), host in self._hosts.items()
            if its_side == side and (side == "server" or clients is None or client in clients)
        ]

    # observation

    def _see(self, event: Event) -> None:
        """Pass each event on, as it is recorded, to whoever waits for one."""
        self._watches.see(event)
        if self.sink is not None:
            self.sink(event)
        if event.kind == "refused":
            self._feel_refusal(event)

    def _feel_refusal(self, event: Event) -> None:
        for number in self._open_windows:
            words = self.plan.settings[number]
            clients = self.plan.scenario.timeline[number].clients
            if isinstance(words, (Down, Refuse)) and (clients is None or event.client in clients):
                how = "refused a connection"
                timeline = self.plan.scenario.timeline
                record_felt(self._recorder, timeline, number, how, client=event.client)

    async def _watch_lag(self) -> None:
        """Record how late the event loop answers: a subject that blocks it stops the link too."""
        while True:
            due = trio.current_time() + LAG_PROBE_S
            await trio.sleep_until(due)
            lag_s = trio.current_time() - due
            if lag_s >= LAG_RECORDED_S:
                self._recorder.record("lag", lag_s=round(lag_s, 4))

    def _start(self, task: Callable[..., Awaitable[None]], *arguments: object) -> None:
        if self._waits is not None:
            self._waits.start_soon(task, *arguments)

    async def _wait_steady(self) -> None:
        watch, wake_s = self._steady, 0.0
        while wake_s < (quiet_s := watch.quiet_since_s + STEADY_QUIET_S):
            wake_s = quiet_s
            await self._sleep_until(wake_s)
        self._watches.remove(watch)
        self._recorder.record("steady")
        self._sample("steady")

    async def _wait_cycle(self, number: int) -> None:
        await trio.sleep(CYCLE_SETTLE_S)
        if self._cycles.cycles == number <= CYCLES_MAX:
            self._sample("cycle", cycle=number)

    def _sample(
        self,
        point: str,
        *,
        cycle: int | None = None,
        sides: Sequence[Side] = ("client", "server"),
        if_clean: bool = False,
    ) -> bool:
        """Record what the subjects own now, and tell whether it was. Collecting garbage for that may take some 20 ms.

        With `if_clean` it is recorded only if that is no more than at first.
        """
        found = self._census.take(
            sides,
            collect=self._collect(point),
            # the count is of the whole process, and when the clients stop the server still runs
            channels=point != "stopped" or "server" in sides,
        )
        if if_clean and self._census.more(found):
            return False
        for side, owned in found.items():
            self._recorder.record("resources", subject=side, point=point, cycle=cycle, **owned)
        return True

    def _collect(self, point: str) -> Collect:
        if point in ("start", "stopped"):
            return "if more"  # there should be nothing
        # what has not ended yet has left nothing behind
        return "never" if point == "steady" and not self._steady.disturbed else "always"
