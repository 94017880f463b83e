"""Shipped files with damage: each is a scenario, or has mistakes that are told; nothing else may come out.

The damage is random, or systematic: each place of a file is given each hostile value.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Any

import pytest
from ruamel.yaml import YAML

from chaos.errors import InvalidScenario
from chaos.scenario.load import load_with_warnings
from chaos.scenario.model import Scenario

FOLDER = Path(__file__).parents[2] / "scenarios"
TEXTS = [path.read_text(encoding="utf-8") for path in sorted(FOLDER.rglob("*.yaml"))]
ROUNDS, PER_ROUND = 10, 60
SCRAPS = (
    "${A B}", "${beat}", "${}", "$", "[", "]", "{", "}", "null", "~", "1e999", "-1s", "0s", "\0", "*a", "&a",
    "!!int x", "5", "true", "''", "{a: b}", "- x", "99999999999999999999", "1h", "nan", ".inf", "\t", "#", "|", ">",
    "on", "at", "for", "every: 1ms", "times: 10000", "clients: [1]", "clients: []", "name: 5", "by: server",
)  # fmt: skip
WORD = re.compile(r"[\w.]+")


def damaged(text: str, random: Random) -> str:
    """Return a text with a scrap put in or in place of a word, a line doubled or left out, or a few letters gone."""
    lines = text.split("\n")
    at, line = random.randrange(len(text) + 1), random.randrange(len(lines))
    match random.randrange(5):
        case 0:
            return text[:at] + random.choice(SCRAPS) + text[at:]
        case 1:
            return "\n".join(lines[:line] + lines[line + 1 :])
        case 2:
            return "\n".join([*lines[:line], random.choice(lines), *lines[line:]])
        case 3:
            return text[:at] + text[at + random.randint(1, 6) :]
    words = list(WORD.finditer(text)) or [re.match("", text)]
    word = random.choice(words)
    assert word is not None
    return text[: word.start()] + random.choice(SCRAPS) + text[word.end() :]


@pytest.mark.parametrize("seed", range(ROUNDS))
def test_damage_is_told_and_never_raised(seed: int) -> None:
    random = Random(seed)
    invalid = 0
    for _ in range(PER_ROUND):
        text = random.choice(TEXTS)
        for _ in range(random.randint(1, 4)):
            text = damaged(text, random)
        try:
            load_with_warnings(text, "damaged.yaml")
        except InvalidScenario as error:
            assert all(mistake.line >= 1 and mistake.column >= 1 for mistake in error.mistakes), (
                text
            )
            invalid += 1
    assert 0 < invalid < PER_ROUND


PLACED_MAX = 20_000
SHARDS = 8
HOSTILE: tuple[Any, ...] = (
    *(None, True, 0, -1, 7, 2**70, 0.5, -1e300, "", "x", "5s", "0s", "-1s", "1e999s", "9" * 30 + "h"),
    *("${nope}", "${", "$${x}", "${a b}", "reference", "client", "a" * 5_000, "\x1b[31m\u202e", "..", "../x:y"),
    *([], [1], [None], {}, {"x": 1}, {"": None}, [[]], "ws://[", "~", "null", "1kB", "no_leaks", "reset"),
)  # fmt: skip


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Yield the path of each value inside plain data."""
    rows = (
        value.items()
        if isinstance(value, dict)
        else enumerate(value)
        if isinstance(value, list)
        else ()
    )
    for key, inner in rows:
        yield (*path, key)
        yield from places(inner, (*path, key))


def placed(data: Any, path: tuple[Any, ...], value: Any) -> str:
    """Return a file in which one place has another value, as JSON, which is YAML."""
    copy = json.loads(json.dumps(data))
    inner = copy
    for part in path[:-1]:
        inner = inner[part]
    inner[path[-1]] = value
    return json.dumps(copy)


def all_placed() -> list[tuple[Any, tuple[Any, ...], Any]]:
    """Return each place of each shipped file with each hostile value, and an even choice where these are too many."""
    found = []
    for text in TEXTS:
        data = json.loads(json.dumps(YAML(typ="safe", pure=True).load(text)))
        found += [(data, path, value) for path in places(data) for value in HOSTILE]
    step = max(1, len(found) // PLACED_MAX)
    return found[::step][:PLACED_MAX]


@pytest.mark.slow
@pytest.mark.parametrize("shard", range(SHARDS))
def test_every_place_is_proof_against_every_value(shard: int) -> None:
    rows = all_placed()
    assert len(rows) == PLACED_MAX
    for data, path, value in rows[shard::SHARDS]:
        text = placed(data, path, value)
        try:
            scenarios, _ = load_with_warnings(text, "placed.yaml")
        except InvalidScenario as error:
            for mistake in error.mistakes:
                assert str(mistake).isprintable(), (path, value)
                assert len(str(mistake)) < 1_000, (path, value)
        else:
            for scenario in scenarios:
                assert Scenario.from_json(scenario.to_json()) == scenario, (path, value)


@pytest.mark.parametrize("key", ["at", "on", "for", "every"])
@pytest.mark.parametrize("empty", ["", "~", "null"])
def test_an_empty_time_is_a_mistake(key: str, empty: str) -> None:
    rows = {"at": "1s", "for": "2s", "fault": "stall", key: empty}
    if key == "on":
        del rows["at"]
    entry = ", ".join(f"{name}: {value}" for name, value in rows.items())
    text = (
        f"version: 1\nname: a\nduration: 60s\ntimeline: [{{{entry}}}]\nexpect: [no_false_alarm]\n"
    )
    with pytest.raises(InvalidScenario) as caught:
        load_with_warnings(text, "a.yaml")
    assert any(f"`{key}` is empty" in mistake.message for mistake in caught.value.mistakes)
