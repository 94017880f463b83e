"""Same seed, same trace: in other processes, under other hash seeds, with other modules; and who breaks that."""

from __future__ import annotations

import json
import pickle
import random
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from chaos.checks.verdict import Outcome
from chaos.commands.main import cli, run_cli
from chaos.errors import EXIT_FAILED, EXIT_INVALID, EXIT_PASSED
from chaos.explore.order import CAUSES, shuffle_addresses
from chaos.explore.replay import Twins, first_difference
from chaos.running.job import Job, make_job
from chaos.running.process import run_seeds
from chaos.scenario.model import Scenario
from chaos.scenario.vary import Bounds

DIGEST = """
import json, pickle, sys
{first}
from chaos.running.process import run_seeds
print(json.dumps([row.digest for row in run_seeds(pickle.load(sys.stdin.buffer))]))
"""


def call(*arguments: object) -> int:
    return run_cli(
        lambda: cli.main([str(a) for a in arguments], "trio-chaos", standalone_mode=False)
    )


def job_of(scenario: Scenario, *seeds: int) -> Job:
    return Job(scenario=scenario, network="simulated", seeds=seeds, bounds=Bounds())


def digests(job: Job, hash_seed: str, first: str = "") -> list[str]:
    done = subprocess.run(
        [sys.executable, "-c", DIGEST.format(first=first)],
        input=pickle.dumps(job),
        env={"PYTHONHASHSEED": hash_seed},
        capture_output=True,
        check=True,
    )
    found: list[str] = json.loads(done.stdout)
    return found


@pytest.mark.slow
def test_a_trace_is_the_same_in_every_process(half_open: Scenario) -> None:
    job = job_of(half_open, 1, 2, 3)
    here = [row.digest for row in run_seeds(job)]
    assert len(set(here)) == 3
    assert digests(job, "0") == here
    assert digests(job, "12345") == here
    assert digests(job, "7", first="import hypothesis, pytest, numbers, decimal") == here


@pytest.mark.slow
def test_the_order_of_seeds_in_a_process_does_not_matter(half_open: Scenario) -> None:
    forth = run_seeds(job_of(half_open, 1, 2, 3))
    back = run_seeds(job_of(half_open, 3, 2, 1))
    assert [row.digest for row in forth] == [row.digest for row in reversed(back)]


@pytest.mark.slow
@pytest.mark.parametrize("change", ["random", "hashed"])
def test_what_no_seed_decides_is_found_with_the_first_event_that_differs(
    change: str,
    half_open_file: Path,
    write_client: Callable[[str], str],
    capsys: pytest.CaptureFixture[str],
) -> None:
    options = ("--client", write_client(change), "--network", "simulated", "--verify-determinism")
    assert call("run", half_open_file, *options) == EXIT_FAILED
    said = capsys.readouterr().out
    assert "DIFFERENT  half-open  seed 1  from event" in said
    assert '"kind":' in said.split("\n  - ")[1]


@pytest.mark.slow
def test_a_sweep_verifies_each_seed(
    half_open_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ("--seeds", 4, "--verify-determinism", "--jobs", 2, "--json")
    assert call("sweep", half_open_file, *options) == EXIT_PASSED
    data = json.loads(capsys.readouterr().out)
    assert data["differences"] == []
    assert len(set(data["digests"].values())) == 4


def test_real_networks_are_never_the_same_twice(half_open_file: Path) -> None:
    assert call("run", half_open_file, "--verify-determinism") == EXIT_INVALID


def test_a_child_that_dies_is_no_difference_and_no_hang(
    half_open: Scenario, write_client: Callable[[str], str]
) -> None:
    job = make_job(half_open, network="simulated", seed=1, client=write_client("killed"))
    twins = Twins(pairs=1)
    (row,) = [row for rows in twins.run([job]) for row in rows]
    assert row.outcome is Outcome.INCONCLUSIVE
    assert "process" in row.reason


def test_the_first_difference_is_told_with_what_came_before_it() -> None:
    found = first_difference("t", 3, ["a", "b", "c"], ["a", "b", "x"])
    assert found is not None
    assert (found.number, found.first, found.second, found.before) == (3, "c", "x", ("a", "b"))
    shorter = first_difference("t", 3, ["a", "b"], ["a"])
    assert shorter is not None
    assert shorter.second == "(nothing more)"
    assert first_difference("t", 3, ["a"], ["a"]) is None


BROADCAST = """
from functools import partial

import trio
import trio_websocket

connected = set()


async def serve(host, port, *, task_status, **_):
    async def handle(request):
        peer = await request.accept()
        connected.add(peer)
        try:
            while True:
                message = await peer.get_message()
                for each in connected:
                    await each.send_message(message)
        except trio_websocket.ConnectionClosed:
            pass
        finally:
            connected.discard(peer)

    async with trio.open_nursery() as nursery:
        server = await nursery.start(partial(trio_websocket.serve_websocket, handle, host, port, None))
        task_status.started(server.port)
"""
ROOM = """\
version: 1
name: room
duration: 4s
server: {{use: "{server}"}}
client: {{count: {count}}}
workload:
  - {{from: client, every: 500ms}}
timeline:
  - {{at: 2s, for: 500ms, toxic: latency, attributes: {{latency: 20}}}}
expect:
  - availability: {{at_least: 0}}
"""


def room(folder: Path, count: int, server: str = BROADCAST) -> Path:
    (folder / "room.py").write_text(server)
    file = folder / "room.yaml"
    file.write_text(ROOM.format(server=f"{folder / 'room.py'}:serve", count=count))
    return file


@pytest.mark.slow
@pytest.mark.parametrize("count", [2, 3, 10])
def test_a_set_of_objects_is_found_and_named(tmp_path: Path, capsys: Any, count: int) -> None:
    file = room(tmp_path, count)
    arguments = ("run", file, "--network", "simulated", "--verify-determinism")
    assert call(*arguments) == EXIT_FAILED
    said = capsys.readouterr().out
    assert "DIFFERENT  room  seed 1  from event" in said
    assert CAUSES["addresses"] in said


@pytest.mark.slow
def test_a_dict_of_objects_is_no_such_thing(tmp_path: Path, capsys: Any) -> None:
    ordered = BROADCAST.replace("set()", "{}").replace(".add(peer)", "[peer] = None")
    ordered = ordered.replace("connected[peer] = None", "connected[peer] = None").replace(
        "connected.discard(peer)", "connected.pop(peer, None)"
    )
    file = room(tmp_path, 3, ordered.replace("in connected:", "in list(connected):"))
    arguments = ("run", file, "--network", "simulated", "--verify-determinism")
    assert call(*arguments) == EXIT_PASSED, capsys.readouterr().out


@pytest.mark.slow
@pytest.mark.parametrize(("change", "cause"), [("random", "chance"), ("hashed", "hashes")])
def test_other_causes_are_named_too(
    change: str, cause: Any, half_open: Scenario, write_client: Callable[[str], str]
) -> None:
    job = make_job(half_open, network="simulated", seed=1, client=write_client(change))
    twins = Twins(pairs=1)
    list(twins.run([job]))
    assert [found.cause for found in twins.differences] == [cause]


def test_shuffled_addresses_put_two_objects_in_either_order() -> None:
    class Something:
        """An object without a hash of its own."""

    orders = set()
    for seed in range(40):
        kept = shuffle_addresses(random.Random(seed))
        first, second = Something(), Something()
        orders.add(next(iter({first, second})) is first)
        del kept
    assert orders == {True, False}


DIES_ONCE = """
import os
import trio
from pathlib import Path
from chaos import subject

@subject(sends=True)
async def client(url, *, seed, **options):
    flag = Path(__file__).with_name("has_died")
    if seed == 2 and not flag.exists():
        flag.touch()
        os._exit(1)
    await trio.sleep_forever()
"""


@pytest.mark.slow
def test_a_twin_that_dies_once_costs_no_seed(half_open: Scenario, tmp_path: Path) -> None:
    (tmp_path / "dies.py").write_text(DIES_ONCE)
    client = f"{tmp_path / 'dies.py'}:client"
    job = Job(scenario=half_open, network="simulated", seeds=(1, 2, 3, 4), client=client)
    twins = Twins(pairs=1)
    rows = [row for rows in twins.run([job]) for row in rows]
    assert [row.seed for row in rows] == [1, 2, 3, 4]
    assert twins.differences == []
    assert not any("exit code" in row.reason for row in rows)
