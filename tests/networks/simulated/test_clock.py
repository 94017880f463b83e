"""One seed, one trace: in this process, in others, whatever the hash seed and whatever else is imported."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
import trio

import chaos
from chaos.errors import NetworkUnavailable
from chaos.networks.simulated.clock import VirtualClock, seed_scheduler

ROOT = Path(__file__).parents[3]
RECONNECTS = ROOT / "scenarios" / "11-half-open.yaml"
PATH_FAULT = ROOT / "scenarios" / "55-host-crash-without-fin.yaml"
RUN = """
import sys
for name in {imports!r}:
    __import__(name)
from pathlib import Path
from chaos.api import load_scenarios
from chaos.running.job import make_job
from chaos.running.process import run_job
scenario = load_scenarios(Path({path!r}))[0]
verdict = run_job(make_job(scenario, network="simulated", seed={seed}, out={out!r}))
sys.exit(verdict.outcome.name != "PASS")
"""
EQUAL_HEARTBEATS = """
    version: 1
    name: equal-heartbeats
    description: Fifty clients whose timers are all due at the same instants.
    duration: 15s
    networks: [simulated]
    server: {heartbeat: {interval: 1s, timeout: 1s}}
    client: {count: 50, heartbeat: {interval: 1s, timeout: 1s}}
    workload:
      - {from: server, every: 1s, size: 64}
    timeline:
      - {at: 5s, for: 1s, fault: down, name: down}
    expect:
      - reconnects: {after: down, within: 8s}
"""


def trace(
    out: Path, path: Path, *, seed: int = 1, hash_seed: str = "0", imports: tuple[str, ...] = ()
) -> list[str]:
    """Return the event lines of a run in a process of its own; the header holds versions and a process id."""
    code = RUN.format(path=str(path), seed=seed, out=str(out), imports=imports)
    environment = {**os.environ, "PYTHONHASHSEED": hash_seed}
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return (out / "trace.jsonl").read_text(encoding="utf-8").splitlines()[1:]


@pytest.mark.parametrize("missing", ["_ALLOW_DETERMINISTIC_SCHEDULING", "_r"])
def test_a_trio_without_its_private_switches_is_refused_by_name(
    monkeypatch: pytest.MonkeyPatch, missing: str
) -> None:
    monkeypatch.delattr(trio._core._run, missing)
    with pytest.raises(NetworkUnavailable, match=rf"{trio.__version__}.*{missing}"):
        seed_scheduler(1)


def order_of_tasks(seed: int) -> list[int]:
    order: list[int] = []

    async def note(number: int) -> None:
        await trio.sleep(1)
        order.append(number)

    async def main() -> None:
        async with trio.open_nursery() as nursery:
            for number in range(20):
                nursery.start_soon(note, number)

    seed_scheduler(seed)
    trio.run(main, clock=VirtualClock())
    return order


def test_tasks_that_are_due_together_run_in_the_seeds_order() -> None:
    assert order_of_tasks(1) == order_of_tasks(1)
    assert order_of_tasks(1) != order_of_tasks(2)
    assert sorted(order_of_tasks(1)) == list(range(20))


@pytest.mark.slow
@pytest.mark.parametrize("path", [RECONNECTS, PATH_FAULT], ids=lambda path: path.stem)
def test_one_seed_gives_one_trace_in_any_process(tmp_path: Path, path: Path) -> None:
    first = trace(tmp_path / "a", path)
    assert len(first) > 100
    assert trace(tmp_path / "b", path, hash_seed="4711") == first
    imports = ("hypothesis", "pytest", "pytest_trio")
    assert trace(tmp_path / "c", path, hash_seed="random", imports=imports) == first


@pytest.mark.slow
def test_another_seed_gives_another_trace(tmp_path: Path) -> None:
    assert trace(tmp_path / "a", RECONNECTS, seed=1) != trace(tmp_path / "b", RECONNECTS, seed=2)


@pytest.mark.slow
def test_fifty_clients_whose_timers_are_due_together_keep_their_order(tmp_path: Path) -> None:
    path = tmp_path / "equal.yaml"
    path.write_text(textwrap.dedent(EQUAL_HEARTBEATS).lstrip(), encoding="utf-8")
    first = trace(tmp_path / "a", path)
    assert len({line.partition('"client"')[2][:6] for line in first}) >= 50
    assert trace(tmp_path / "b", path, hash_seed="random") == first


def test_a_program_that_polls_lets_time_pass() -> None:
    async def main() -> tuple[float, bool]:
        listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
        port = listeners[0].socket.getsockname()[1]
        client = await trio.open_tcp_stream("127.0.0.1", port)
        server = await listeners[0].accept()
        await server.aclose()
        with pytest.raises(trio.BrokenResourceError):
            while True:
                await client.send_all(b"x")
        with trio.move_on_after(5) as scope:
            while True:
                await trio.lowlevel.checkpoint()
        return trio.current_time(), scope.cancelled_caught

    first = chaos.simulate(main)
    assert first == (pytest.approx(5, abs=0.01), True)
    assert chaos.simulate(main) == first
