"""A fault that nobody here knows, one class and one machine, is validated, listed, run, swept, hunted and served."""

from __future__ import annotations

import json
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import count
from typing import Any

import pytest
import trio
from pydantic import Field

from chaos.checks.verdict import Outcome, Verdict
from chaos.errors import InvalidScenario
from chaos.explore.hunt import Hunt, search_space_of
from chaos.explore.schedules import all_kinds
from chaos.explore.sweep import Question, Stops, Sweep
from chaos.faults.machine import MACHINES, Machine, Place
from chaos.faults.units import Cut, Data, Unit
from chaos.reports.tables import table_faults
from chaos.running.job import Job, make_job
from chaos.running.process import run_job, run_trace
from chaos.scenario.load import load_text
from chaos.scenario.schema import json_schema
from chaos.toxiproxy_server.address import resolve
from chaos.toxiproxy_server.go.wire import ApiError, read_body, read_toxic
from chaos.toxiproxy_server.proxy import Proxy, SharedState
from chaos.vocabulary.faults import FAULTS, Fault
from chaos.vocabulary.word import EITHER_WAY, Draw

SCENARIO = """\
version: 1
name: snipped
duration: 14s
settle: 1s
client:
  heartbeat: {interval: 1s, timeout: 2s}
  backoff: {initial: 200ms, max: 1s}
server: {heartbeat: {interval: 1s, timeout: 2s}}
workload: [{from: server, every: 250ms}, {from: client, every: 250ms}]
timeline:
  - {at: 4s, for: 3s, fault: snip, pieces: 3, name: snipped}
expect:
  - reconnects: {after: snipped, within: 3s}
  - no_leaks
"""


@pytest.fixture(autouse=True)
def snip(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Add the fault for one test."""
    before = dict(MACHINES)

    class Snip(Fault):
        """Send an RST both ways in place of the nth piece that passes."""

        directed = deadly = True
        draws = (Draw(rank=1000, strengths=({"pieces": 5}, {}), streams=EITHER_WAY, weight=40),)
        pieces: int = Field(1, ge=1, strict=True, description="the piece that is not passed on")

    class SnipMachine(Machine, does=[Snip]):
        """Counts pieces."""

        def __init__(self, settings: Snip, place: Place) -> None:
            super().__init__(settings, place)
            self._left = settings.pieces

        def feed(self, now: float, unit: Unit) -> list[Unit]:
            self._left -= isinstance(unit, Data)
            if self._left:
                return [unit]
            self.felt = "snipped"
            return [Cut(rst=True)]

    monkeypatch.setitem(FAULTS, "snip", Snip)
    yield
    MACHINES.clear()
    MACHINES.update(before)


def test_it_is_validated_with_its_own_parameters() -> None:
    (scenario,) = load_text(SCENARIO, "snipped.yaml")
    assert scenario.timeline[0].parameters == {"pieces": 3}
    with pytest.raises(InvalidScenario) as wrong:
        load_text(SCENARIO.replace("pieces: 3", "pieces: 0, leg: server"), "snipped.yaml")
    assert [mistake.line for mistake in wrong.value.mistakes] == [11, 11]
    with pytest.raises(InvalidScenario, match="`fault: snip`"):
        load_text(SCENARIO.replace("fault: snip", "fault: snap"), "snipped.yaml")


def test_it_stands_in_the_tables_and_in_the_schema() -> None:
    (row,) = [row for row in table_faults().rows if row[0] == "fault: snip"]
    assert row[1].startswith("Send an RST")
    assert row[-1] == "exact"
    assert "pieces" in json.dumps(json_schema())


def test_a_run_feels_it_and_a_correct_client_comes_through() -> None:
    (scenario,) = load_text(SCENARIO, "snipped.yaml")
    verdict, trace = run_trace(make_job(scenario, network="simulated", seed=1))
    assert verdict.outcome is Outcome.PASS, verdict
    assert {event["how"] for event in trace.select("felt")} == {"snipped"}


class InThisProcess:
    """A crew of one thread: other processes do not know the fault."""

    width = 1
    lost: tuple[type[BaseException], ...] = ()

    def __init__(self) -> None:
        self._threads = ThreadPoolExecutor(1)

    def submit(self, work: Any, job: Job, /) -> Future[Any]:
        return self._threads.submit(work, job, None)

    def close(self) -> None:
        self._threads.shutdown()


class Unwatched:
    """Watches nothing."""

    def row(self, row: Any, tally: Any) -> None: ...

    def tick(self) -> None: ...


def test_it_is_swept() -> None:
    question = Question(scenarios=load_text(SCENARIO, "snipped.yaml"), seeds=5)
    sweep = Sweep(question=question, stops=Stops(), watcher=Unwatched())
    sweep.run(InThisProcess())
    assert sweep.tally.counts() == {Outcome.PASS: 5}


class Bench:
    """Makes runs in this process."""

    def __init__(self) -> None:
        self.words: set[str] = set()

    def run(self, job: Job, *, limit_s: float | None = None) -> Verdict:
        self.words |= {entry.word for entry in job.scenario.timeline}
        return run_job(job)


@pytest.mark.slow
def test_it_is_hunted() -> None:
    (scenario,) = load_text(SCENARIO, "snipped.yaml")
    assert all_kinds()[-1].word.word == "snip"
    bench = Bench()
    ticks = count(step=0.1)  # in place of seconds: what is tried does not depend on the machine
    hunt = Hunt(
        space=search_space_of(scenario), bench=bench, budget_s=15.0, clock=lambda: next(ticks)
    )  # type: ignore[arg-type]
    assert hunt.run() is None
    assert "snip" in bench.words


async def test_it_is_served_as_a_type_of_toxics() -> None:
    toxic = read_toxic(read_body(b'{"type":"snip","attributes":{"pieces":2}}'), [])
    assert toxic.body()["attributes"] == {"pieces": 2}
    with pytest.raises(ApiError, match="pieces"):
        read_toxic(read_body(b'{"type":"snip","attributes":{"pieces":0}}'), [])
    listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
    upstream = listeners[0].socket.getsockname()
    async with trio.open_nursery() as nursery:
        proxy = Proxy(
            name="p",
            listen="127.0.0.1:0",
            upstream=f"{upstream[0]}:{upstream[1]}",
            shared=SharedState(nursery=nursery, seed=1),
        )
        proxy.start(await resolve(proxy.listen))
        proxy.add(toxic)
        async with await trio.open_tcp_stream(
            "127.0.0.1", int(proxy.listen.rpartition(":")[2])
        ) as client:
            server = await listeners[0].accept()
            with trio.fail_after(5):
                await client.send_all(b"one")
                assert await server.receive_some() == b"one"
                await client.send_all(b"two")
                with pytest.raises(trio.BrokenResourceError):
                    await server.receive_some()
            await server.aclose()
        proxy.stop()
        nursery.cancel_scope.cancel()
    await listeners[0].aclose()
