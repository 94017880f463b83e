"""`paths:` of a scenario: units, trace files, overrides per direction, and how late a packet may be."""

from __future__ import annotations

import json
import math
from pathlib import Path
from random import Random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chaos.api import load_scenarios, reader_in
from chaos.errors import InvalidScenario
from chaos.explore.emit import to_yaml
from chaos.scenario.load import load_text
from chaos.scenario.model import Scenario
from chaos.scenario.paths import LATER, Delay, Direction, LegPath, Paths, parse_trace
from chaos.scenario.vary import Bounds, vary
from chaos.vocabulary.base import (
    Bytes,
    BytesPerSecond,
    Seconds,
    format_bandwidth,
    format_size,
    parse_bandwidth,
    parse_size,
)

HEAD = "version: 1\nname: test\nduration: 2m\n"
VALID = Path(__file__).parent / "valid"


def load(text: str, base: Path | None = None) -> Paths:
    read_file = reader_in(base or Path())
    (scenario,) = load_text(f"{HEAD}paths: {text}", "test.yaml", read_file=read_file)
    assert scenario.paths is not None
    return scenario.paths


def leg(**values: Any) -> LegPath:
    return LegPath.model_validate(values)


# units


@pytest.mark.parametrize(
    ("text", "bytes_per_s"),
    [
        ("8bit/s", 1),
        ("500kbit/s", 62_500),
        ("2Mbit/s", 250_000),
        ("1Gbit/s", 125_000_000),
        ("250kB/s", 250_000),
        ("1.5MB/s", 1_500_000),
        ("7B/s", 7),
    ],
)
def test_a_bandwidth_says_bits_or_bytes(text: str, bytes_per_s: float) -> None:
    assert parse_bandwidth(text) == bytes_per_s


@pytest.mark.parametrize(
    "text", ["2000", 2000, "2mbit/s", "2 Mbit/s", "2Mbit", "0B/s", "-1B/s", True]
)
def test_what_is_no_bandwidth_is_refused(text: Any) -> None:
    with pytest.raises(ValueError, match="expected"):
        parse_bandwidth(text)


@pytest.mark.parametrize("text", ["64", 64, "64KB", "64k", "-1B", "1kbit", True, "9" * 400 + "MB"])
def test_what_is_no_size_is_refused(text: Any) -> None:
    with pytest.raises(ValueError, match="expected"):
        parse_size(text)


@given(st.floats(min_value=1e-3, max_value=1e12))
def test_any_bandwidth_survives_the_way_through_text(bytes_per_s: float) -> None:
    assert parse_bandwidth(format_bandwidth(bytes_per_s)) == bytes_per_s


@given(st.integers(min_value=0, max_value=1 << 50))
def test_any_size_survives_the_way_through_text(size: int) -> None:
    assert parse_size(format_size(size)) == size


def test_texts_are_as_people_write_them() -> None:
    assert [format_bandwidth(row) for row in (250_000, 62_500, 12.5)] == [
        "2Mbit/s",
        "500kbit/s",
        "100bit/s",
    ]
    assert [format_size(row) for row in (64_000, 1_500, 2_000_000)] == ["64kB", "1500B", "2MB"]


# what a file may hold


def test_a_direction_overrides_only_what_it_says() -> None:
    paths = load(
        "{client: {delay: 40ms, loss: 0.01, bandwidth: 2Mbit/s, queue: 64kB, upstream: {delay: 60ms, loss: 0}}}"
    )
    assert paths.client is not None
    up, down = paths.client.way("upstream"), paths.client.way("downstream")
    assert (up.delay, up.loss, up.bytes_per_s, up.queue_bytes) == (0.06, 0, 250_000, 64_000)
    assert (down.delay, down.loss, down.bytes_per_s, down.queue_bytes) == (
        0.04,
        0.01,
        250_000,
        64_000,
    )
    assert paths.server is None


def test_paths_survive_json_and_yaml_and_a_sweep() -> None:
    (scenario,) = load_scenarios(VALID / "paths.yaml")
    assert scenario.paths is not None
    data = json.loads(json.dumps(scenario.to_json(), allow_nan=False))
    assert Scenario.from_json(data).paths == scenario.paths
    (again,) = load_text(to_yaml(scenario), "again.yaml")
    assert again.paths == scenario.paths
    assert scenario.redacted().paths == scenario.paths
    varied = vary(scenario, 5, Bounds())
    assert varied.timeline != scenario.timeline
    assert varied.paths == scenario.paths


def test_no_paths_is_none() -> None:
    assert load_text(HEAD, "test.yaml")[0].paths is None
    assert load_text(f"{HEAD}paths:\n", "test.yaml")[0].paths is None


# trace files


def test_a_trace_file_stands_beside_the_scenario_and_travels_with_it(tmp_path: Path) -> None:
    (tmp_path / "moved.txt").write_text("# seconds\n0 0.04\n10, 0.3  # worse\n\n20 0.0405\n")
    file = tmp_path / "one.yaml"
    file.write_text(
        f"{HEAD}variables: {{name: moved}}\npaths: {{client: {{delay: {{trace: '${{name}}.txt'}}}}}}\n"
        "expect: [single_connection]\n"
    )
    (scenario,) = load_scenarios(file, display="shown/elsewhere.yaml")
    (tmp_path / "moved.txt").unlink()
    data = json.loads(json.dumps(scenario.to_json()))
    paths = Scenario.from_json(data).paths
    assert paths is not None
    assert paths.client is not None
    assert isinstance(paths.client.delay, Delay)
    assert paths.client.delay.trace == ((0.0, 0.04), (10.0, 0.3), (20.0, 0.0405))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("0 0.1\n1 2 3", "line 2: expected `time delay`, got '1 2 3'"),
        ("0 0.1\nsoon 0.1", "line 2: expected `time delay`, got 'soon 0.1'"),
        ("0 0.1\n5", "line 2: expected `time delay`"),
        ("0 -0.1", "line 1: expected two numbers of seconds that are not negative"),
        ("0 nan", "line 1: expected two numbers of seconds that are not negative"),
        ("0 inf", "line 1: expected two numbers of seconds that are not negative"),
        ("3 0.1\n2 0.1", "line 2: expected a time of at least 3"),
        ("# nothing\n", "line 1: expected at least one"),
        ("0 0.1\n" * 10_001, "line 10001: expected at most 10000 rows"),
    ],
)
def test_a_bad_line_of_a_trace_is_named(text: str, said: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=said):
        parse_trace(text)
    (tmp_path / "bad.txt").write_text(text)
    with pytest.raises(InvalidScenario) as caught:
        load("{client: {delay: {trace: bad.txt}}}", tmp_path)
    (mistake,) = caught.value.mistakes
    line = said.partition(":")[0]
    assert (mistake.line, mistake.column) == (4, 33)
    assert "bad.txt" in mistake.message
    assert mistake.message.endswith(line)
    assert mistake.expected


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda path: path.mkdir(), "there is no such trace file"),
        (lambda path: path.write_bytes(b"\xff\xfe0 1"), "not text in UTF-8"),
        (lambda path: path.write_bytes(b" " * 1_100_000), "the trace file is too large"),
        (lambda path: path.symlink_to("/dev/zero"), "there is no such trace file"),
    ],
)
def test_what_is_no_trace_file_is_said(make: Any, said: str, tmp_path: Path) -> None:
    make(tmp_path / "odd.txt")
    with pytest.raises(InvalidScenario, match=said):
        load("{client: {delay: {trace: odd.txt}}}", tmp_path)


# how late a packet may be


@pytest.mark.parametrize(
    ("delay", "draw"),
    [
        ({"uniform": {"low": "10ms", "high": "30ms"}}, lambda rng: rng.uniform(0.01, 0.03)),
        ({"normal": {"mean": "50ms", "deviation": "5ms"}}, lambda rng: rng.gauss(0.05, 0.005)),
        (
            {"lognormal": {"median": "60ms", "sigma": 0.5}},
            lambda rng: 0.06 * rng.lognormvariate(0, 0.5),
        ),
        ({"pareto": {"least": "20ms", "alpha": 3}}, lambda rng: 0.02 * rng.paretovariate(3)),
    ],
)
def test_the_reach_of_a_distribution_is_rarely_exceeded_and_no_fantasy(
    delay: Any, draw: Any
) -> None:
    reach_s = Delay.model_validate(delay).reach_s()
    rng = Random(1)
    rows = [draw(rng) for _ in range(200_000)]
    assert sum(row > reach_s for row in rows) <= 3
    assert max(rows) > 0.45 * reach_s


def test_the_reach_of_a_constant_is_exact_and_of_a_trace_its_greatest() -> None:
    assert Direction.model_validate({"delay": "40ms"}).reach_s() == 0.04
    rows = (("0s", "40ms"), ("5s", "300ms"), ("9s", "50ms"))
    assert Delay.model_validate({"trace": rows}).reach_s() == 0.3


def test_a_queue_is_waited_for_and_one_without_a_limit_has_no_reach() -> None:
    full = {"delay": "10ms", "bandwidth": BytesPerSecond(1000.0)}
    assert Direction.model_validate({**full, "queue": Bytes(2000)}).reach_s() == pytest.approx(2.01)
    assert Direction.model_validate(full).reach_s() == math.inf


def test_a_round_trip_adds_both_ways_and_both_legs_and_retransmission() -> None:
    plain = leg(delay="40ms", upstream={"delay": "60ms"})
    assert plain.round_trip_s() == pytest.approx(0.1)
    assert Paths(client=plain, server=leg(delay="1ms")).round_trip_s() == pytest.approx(0.102)
    # five in a row are lost with a chance of 1e-5, six with one of 1e-6: five retransmissions, doubling from 0.3 s on
    lossy = leg(delay="40ms", upstream={"delay": "60ms", "loss": 0.1})
    assert LATER < 0.1**5
    assert lossy.round_trip_s() == pytest.approx(0.1 + 1.125 * 0.3 * 2**4, rel=1e-6)
    assert leg(loss=1.0).round_trip_s() == math.inf


@pytest.mark.parametrize(
    ("values", "loses"),
    [
        ({"delay": "1ms"}, False),
        ({"loss": 0.0}, False),
        ({"upstream": {"loss": 0.1}}, True),
        ({"bandwidth": "1Mbit/s"}, False),
        ({"bandwidth": "1Mbit/s", "downstream": {"queue": "64kB"}}, True),
    ],
)
def test_which_paths_can_lose_a_packet(values: Any, loses: bool) -> None:
    assert leg(**values).loses() is loses


def test_seconds_from_code_are_taken() -> None:
    assert Direction(delay=Seconds(0.5)).reach_s() == 0.5
