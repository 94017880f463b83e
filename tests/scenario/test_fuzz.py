"""Whatever the text: scenarios come out, or an InvalidScenario whose places lie inside the file."""

from __future__ import annotations

import json
import os
import re
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from chaos.errors import InvalidScenario
from chaos.scenario.describe import keys_of
from chaos.scenario.entries import WORDS
from chaos.scenario.load import load_text, top_keys
from chaos.scenario.model import Client, Entry, Scenario, Server, Workload
from chaos.vocabulary.checks import CHECKS

VALID = sorted((Path(__file__).parent / "valid").glob("*.yaml"))
MALFORMED = sorted((Path(__file__).parent / "malformed").glob("*.yaml"))
SEEDS = [path.read_text(encoding="utf-8") for path in [*VALID, *MALFORMED]]
# generous for a shared machine; a file of this size takes well under a tenth of it
SECONDS_MAX = 5.0
# times as many examples: FUZZ=50 pytest --hypothesis-profile explore tests/scenario/test_fuzz.py
MANY = int(os.environ.get("FUZZ", "1"))

quick = settings(
    max_examples=150 * MANY,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
    database=None,
)


def check(text: str | bytes) -> tuple[Scenario, ...]:
    """Load a text and check what must hold for every text."""
    started = time.perf_counter()
    try:
        scenarios = load_text(text, "fuzz.yaml")
    except InvalidScenario as error:
        scenarios = ()
        decoded = text if isinstance(text, str) else text.decode("utf-8", "replace")
        lines = re.split(r"\r\n|\r|\n", decoded.removeprefix("\ufeff"))
        for mistake in error.mistakes:
            assert 1 <= mistake.line <= len(lines)
            assert 1 <= mistake.column <= len(lines[mistake.line - 1]) + 1
            assert mistake.message
            assert len(str(mistake)) < 2000
            assert str(mistake).isprintable()
    assert time.perf_counter() - started < SECONDS_MAX
    for scenario in scenarios:
        data = json.loads(json.dumps(scenario.to_json(), allow_nan=False))
        assert Scenario.from_json(data) == scenario
    return scenarios


@pytest.mark.parametrize("path", VALID, ids=lambda path: path.stem)
def test_a_valid_file_survives_the_way_through_json(path: Path) -> None:
    assert check(path.read_bytes())


@quick
@given(st.binary(max_size=400))
@example(b"\xff\xfe\x00")
@example(b"a: 1\r\nb: \x00")
@example("﻿version: 1".encode())
def test_bytes_never_break_the_loader(data: bytes) -> None:
    check(data)


@quick
@given(st.text(alphabet="ab:-?,[]{}#&*!|>'\"%@`~ \n\t\r\\$0.\x85\u2028é<", max_size=120))
@example("%YAML 1.1\n---\na: yes")
@example("? ? ? a")
@example('"\\x')
@example("!<tag:yaml.org,2002:map> {a: 1}")
@example("- - - -\n---\n")
@example('a: "\\UFFFFFFFF"')
@example("%YAML 1.0\n---\na: 1")
@example("%YAML 1.99999999999999999999\n---\na: 1")
@example("&a *a : 1")
@example("a: |\n  text\n b")
@example("?\x850\x85\x850")
@example('"\\e[31m": 1')
def test_punctuation_never_breaks_the_loader(text: str) -> None:
    check(text)


@st.composite
def mutated(draw: st.DrawFn) -> str:
    """Return a scenario text of ours with lines deleted, doubled, swapped, or scalars replaced."""
    lines = draw(st.sampled_from(SEEDS)).splitlines()
    scalars = st.sampled_from(
        [
            "",
            "~",
            "-1",
            "0",
            "1e3",
            "1e-9s",
            "99h",
            "0ms",
            "{}",
            "[]",
            "*wait",
            "&x y",
            "stall",
            "[a, b]",
            "${beat}",
            "${",
            "$${beat}",
            "true",
            '"',
            "'",
            "!!int 3",
            '"\\U99999999"',
            "%YAML 1.0",
            "{a: b, c: [d]}",
            "<<",
            "x-a: 1",
        ]
    )
    for _ in range(draw(st.integers(1, 6))):
        position = draw(st.integers(0, max(len(lines) - 1, 0)))
        how = draw(st.sampled_from(["delete", "double", "swap", "value", "indent", "word"]))
        if not lines:
            lines = [draw(scalars)]
        elif how == "delete":
            del lines[position]
        elif how == "double":
            lines.insert(position, lines[position])
        elif how == "swap":
            other = draw(st.integers(0, len(lines) - 1))
            lines[position], lines[other] = lines[other], lines[position]
        elif how == "indent":
            lines[position] = draw(st.sampled_from([" ", "  ", "\t", "- "])) + lines[position]
        elif how == "word":
            words = list(re.finditer(r"[\w.${}-]+", lines[position]))
            if words:
                match = draw(st.sampled_from(words))
                new = draw(scalars)
                lines[position] = (
                    lines[position][: match.start()] + new + lines[position][match.end() :]
                )
        else:
            key = lines[position].partition(":")[0]
            lines[position] = f"{key}: {draw(scalars)}"
    return "\n".join(lines)


@settings(quick, max_examples=400 * MANY)
@given(mutated())
def test_a_broken_scenario_never_breaks_the_loader(text: str) -> None:
    check(text)


ENTRY_WORDS = [word for table in WORDS.values() for word in table]
PARAMETERS = sorted(
    {key for table in WORDS.values() for model in table.values() for key in keys_of(model)}
    | {key for model in CHECKS.values() for key in keys_of(model)}
)
KEYS = sorted(
    {
        *top_keys(),
        *PARAMETERS,
        *CHECKS,
        *ENTRY_WORDS,
        "toxic",
        "fault",
        "action",
        "attributes",
        "use",
    }
    | {key for model in (Server, Client, Workload, Entry, Scenario) for key in keys_of(model)}
)
leaves = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-5, 6000),
    st.floats(-1, 100, allow_nan=False),
    st.sampled_from(
        ["1s", "5s", "500ms", "20", "client", "server", "both", "full", "pong", "${a}", "x"]
    ),
    st.sampled_from(ENTRY_WORDS),
    st.sampled_from(list(CHECKS)),
)
trees = st.recursive(
    leaves,
    lambda inner: st.one_of(
        st.lists(inner, max_size=4), st.dictionaries(st.sampled_from(KEYS), inner, max_size=5)
    ),
    max_leaves=25,
)
durations = st.sampled_from(["1s", "5s", "10s", "30s", "50s", "250.125ms", "1.0000000001s"])


@st.composite
def entries(draw: st.DrawFn) -> dict[str, Any]:
    """Return a timeline entry that is mostly right."""
    kind = draw(st.sampled_from(list(WORDS)))
    word = draw(st.sampled_from(list(WORDS[kind])))
    entry: dict[str, Any] = {kind: word, "at": draw(durations)}
    optional: dict[str, st.SearchStrategy[Any]] = {
        "for": durations,
        "name": st.sampled_from(["one", "two"]),
        "by": st.sampled_from(["client", "server"]),
        "stream": st.sampled_from(["upstream", "downstream", "both"]),
        "every": durations,
        "times": st.integers(1, 5),
        "clients": st.lists(st.integers(1, 3), max_size=3),
        "delay": durations,
        "after": durations,
        "status": st.integers(200, 599),
        "attributes": st.dictionaries(st.sampled_from(PARAMETERS), st.integers(0, 500), max_size=2),
    }
    for key in draw(st.lists(st.sampled_from(sorted(optional)), max_size=4, unique=True)):
        entry[key] = draw(optional[key])
    return entry


@st.composite
def expectations(draw: st.DrawFn) -> Any:
    """Return an expectation that is mostly right."""
    check_name = draw(st.sampled_from(list(CHECKS)))
    keys = list(keys_of(CHECKS[check_name]))
    values = st.one_of(durations, st.integers(0, 50), st.sampled_from(["one", "two", "client"]))
    parameters = (
        {key: draw(values) for key in draw(st.lists(st.sampled_from(keys), max_size=3))}
        if keys
        else {}
    )
    return {check_name: parameters} if parameters else check_name


scenarios_like = st.fixed_dictionaries(
    {"version": st.just(1), "name": st.just("fuzz"), "duration": st.sampled_from(["1m", "90s"])},
    optional={
        "client": st.one_of(trees, st.fixed_dictionaries({"count": st.integers(1, 3)})),
        "server": trees,
        "variables": st.dictionaries(st.sampled_from("abc"), leaves, max_size=3),
        "matrix": st.one_of(
            trees, st.dictionaries(st.sampled_from("abc"), st.lists(leaves, max_size=4), max_size=3)
        ),
        "workload": st.lists(
            st.fixed_dictionaries(
                {"from": st.sampled_from(["client", "server"]), "every": durations}
            ),
            max_size=2,
        ),
        "timeline": st.lists(entries(), max_size=5),
        "expect": st.lists(expectations(), max_size=3),
        "settle": durations,
    },
)


@settings(quick, max_examples=300 * MANY)
@given(st.one_of(trees, scenarios_like))
def test_a_random_structure_never_breaks_the_loader(tree: Any) -> None:
    # JSON is YAML 1.2
    check(json.dumps(tree))


def test_the_random_structures_reach_valid_scenarios_too() -> None:
    reached = 0

    @settings(quick, derandomize=True, max_examples=100)
    @given(scenarios_like)
    def count(tree: Any) -> None:
        nonlocal reached
        reached += bool(check(json.dumps(tree)))

    count()
    assert reached >= 5


@pytest.mark.parametrize(
    "text",
    [
        "[" * 100_000,
        "- " * 50_000,
        "? " * 50_000,
        "{a: " * 20_000,
        "- 1\n" * 200_000,
        "a" * 1_000_000,
        "#" * 1_000_000,
        "version: 1\nx-a: &a [" + "x," * 900 + "]\n" + "".join(f"x-{n}: *a\n" for n in range(5000)),
        "variables:\n  v0: x\n"
        + "".join(f'  v{n + 1}: "{f"${{v{n}}}" * 10}"\n' for n in range(30)),
        "version: 1\nname: x\nduration: 20s\ntimeline:\n"
        + "- {at: 1s, every: 1ms, times: 10000, for: 1ms, fault: stall}\n" * 700,
        "matrix: {a: ["
        + ",".join(map(str, range(300)))
        + "], b: ["
        + ",".join(map(str, range(300)))
        + "]}",
    ],
    ids=[
        "lists",
        "items",
        "keys",
        "maps",
        "many",
        "word",
        "comment",
        "aliases",
        "variables",
        "steps",
        "cells",
    ],
)
def test_a_text_made_to_hurt_is_refused_quickly(text: str) -> None:
    assert check(text) == ()
